"""A connection on which a whole transaction is one round trip: BEGIN, its statements and COMMIT are sent together.

psycopg's own pipeline mode adapts values, prepares and collects for each statement, which costs a short transaction
five times as much CPU as this (docs/performance.md). Parameters are texts here, which PostgreSQL parses.
https://www.postgresql.org/docs/18/libpq-pipeline-mode.html
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import count
from selectors import EVENT_READ, EVENT_WRITE, DefaultSelector
from typing import Any

import psycopg
from psycopg import errors, pq

#: Statements that a connection keeps prepared at most. Updates have one for each choice of columns.
MAX_PREPARED = 50
#: Seconds that the request to cancel a transaction may take.
CANCEL_TIMEOUT = 2.0

#: A statement and its parameters ($1, $2, ...), each as PostgreSQL's text for it.
Statement = tuple[str, Sequence[str]]
#: A row, each value as PostgreSQL's text for it.
Row = tuple[bytes | None, ...]
#: Called with the rows of each statement, before the commit is confirmed.
OnRows = Callable[[list[list[Row]]], None]
#: Called when all is sent, before any reply.
OnSent = Callable[[], None]


class PipelineConnection:
    """An autocommit connection that sends each transaction as a whole. Not thread-safe."""

    def __init__(self, connection: psycopg.Connection[Any], *, prepare: bool) -> None:
        self._connection = connection
        self._wire = connection.pgconn
        self._prepare = prepare
        self._prepared: dict[str, bytes] = {}
        self._names = count()
        self._selector = DefaultSelector()
        self._selector.register(self._wire.socket, EVENT_READ)

    @property
    def closed(self) -> bool:
        """Whether the connection is closed, or known to be broken."""
        return self._connection.closed

    def transaction(
        self,
        statements: Iterable[Statement],
        on_rows: OnRows = lambda rows: None,
        on_sent: OnSent = lambda: None,
    ) -> list[list[Row]]:
        """Execute the statements in one explicit transaction and return the rows of each.

        `on_sent` is called when PostgreSQL has all of them, and `on_rows` with the rows while it syncs the commit. That
        may only prepare what follows: the commit can still fail.

        Raises psycopg.Error after everything was rolled back; a connection that cannot be used any more is closed.
        Another exception (of a signal, or of a callback) cancels the transaction, closes the connection and is raised
        again; whether the transaction was committed is not known then.
        """
        try:
            rows, error = self._exchange(statements, on_rows, on_sent)
        except psycopg.Error:
            self.close()
            raise
        except BaseException:
            # Otherwise PostgreSQL would execute all that was sent, COMMIT included.
            with suppress(Exception):
                self._connection.cancel_safe(timeout=CANCEL_TIMEOUT)
            self.close()
            raise
        if error is not None:
            with suppress(psycopg.Error):
                self._connection.rollback()
            raise error
        return rows

    def close(self) -> None:
        """Close the connection. May be called from any thread."""
        with suppress(Exception):
            self._selector.close()
        self._connection.close()

    def _exchange(
        self, statements: Iterable[Statement], on_rows: OnRows, on_sent: OnSent
    ) -> tuple[list[list[Row]], psycopg.Error | None]:
        """Send BEGIN, the statements and COMMIT; return the rows of the statements, and PostgreSQL's error, if any."""
        wire = self._wire
        wire.enter_pipeline_mode()
        sent = self._send("BEGIN")
        for text, values in statements:
            sent += self._send(text, values)
        # Rows come before the commit is synced, not with it.
        wire.send_flush_request()
        before_commit = len(sent)
        sent += self._send("COMMIT")
        wire.pipeline_sync()
        while wire.flush():
            # PostgreSQL may take the last statements only after its replies to the first have been read.
            if self._wait(EVENT_READ | EVENT_WRITE) & EVENT_READ:
                wire.consume_input()
        on_sent()
        replies, error = self._read(before_commit)
        if error is None:
            on_rows(_rows(replies, sent))
            [committed, error] = self._read()
            replies += committed
        wire.exit_pipeline_mode()
        for text in filter(None, sent[len(replies) :]):
            # PostgreSQL has not prepared it.
            del self._prepared[text]
        return _rows(replies, sent), error

    def _send(self, text: str, values: Sequence[str] = ()) -> list[str | None]:
        """Send a statement; return an item for each command: the text that is prepared, None for the execution."""
        name, sent = self._prepared.get(text), []
        if name is None and self._prepare and len(self._prepared) < MAX_PREPARED:
            name = self._prepared[text] = b"group%d" % next(self._names)
            self._wire.send_prepare(name, text.encode())
            sent.append(text)
        encoded = [value.encode() for value in values]
        if name is None:
            self._wire.send_query_params(text.encode(), encoded)
        else:
            self._wire.send_query_prepared(name, encoded)
        return [*sent, None]

    def _read(self, commands: int = -1) -> tuple[list[list[Row]], psycopg.Error | None]:
        """Read the rows of `commands` commands; without a number, or after an error, those of all that are left."""
        rows: list[list[Row]] = []
        error: psycopg.Error | None = None
        while len(rows) != commands and (result := self._next()).status != pq.ExecStatus.PIPELINE_SYNC:
            if result.status == pq.ExecStatus.TUPLES_OK:
                columns = range(result.nfields)
                rows.append([tuple(result.get_value(n, column) for column in columns) for n in range(result.ntuples)])
            elif result.status == pq.ExecStatus.COMMAND_OK:
                rows.append([])
            elif error is None and result.status == pq.ExecStatus.FATAL_ERROR:
                error = errors.error_from_result(result, "utf-8")
        return rows, error

    def _next(self) -> Any:
        """Return the next result, without the None that follows the results of each statement."""
        while True:
            while self._wire.is_busy():
                self._wait(EVENT_READ)
                self._wire.consume_input()
            result = self._wire.get_result()
            if result is not None:
                return result
            if self._wire.status != pq.ConnStatus.OK:
                raise psycopg.OperationalError(f"the connection was lost: {self._wire.get_error_message()}")

    def _wait(self, events: int) -> int:
        if events != EVENT_READ:
            self._selector.modify(self._wire.socket, events)
        try:
            return sum(ready for _, ready in self._selector.select())
        finally:
            if events != EVENT_READ:
                self._selector.modify(self._wire.socket, EVENT_READ)


def _rows(replies: Sequence[list[Row]], sent: Sequence[str | None]) -> list[list[Row]]:
    """Return the rows of the statements between BEGIN and COMMIT that have a reply."""
    executed = [rows for rows, prepared in zip(replies, sent, strict=False) if prepared is None]
    return executed[1 : sent.count(None) - 1]
