"""A connection on which a whole transaction is one round trip: BEGIN, its statements and COMMIT are sent together.

psycopg's own pipeline mode adapts values, prepares and collects for each statement, which costs a short transaction
five times as much CPU as this (docs/performance.md). Parameters are texts here, which PostgreSQL takes apart.
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
#: Seconds that it may take to tell the server that nobody waits any longer.
CANCEL_TIMEOUT = 2.0

#: A statement and its parameters ($1, $2, ...), each as PostgreSQL's text for it.
Statement = tuple[str, Sequence[str]]
#: A row, each value as PostgreSQL's text for it.
Row = tuple[bytes | None, ...]
#: Is told the rows of each statement.
OnRows = Callable[[list[list[Row]]], None]


class PipelineConnection:
    """Takes over an autocommit connection. For one thread."""

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

    def transaction(self, statements: Iterable[Statement], on_rows: OnRows = lambda rows: None) -> list[list[Row]]:
        """Execute the statements in one explicit transaction and return the rows of each.

        `on_rows` is called with the rows before the commit is confirmed, while PostgreSQL syncs it. It may only
        prepare: the commit can still fail.

        Raises psycopg.Error, after everything was rolled back; a connection that cannot be used any more is closed.
        Interrupted by any other exception (a signal's, or one of `on_rows`) it tells the server so, closes the
        connection and passes it on; whether the transaction was committed is not known then.
        """
        try:
            rows, error = self._exchange(statements, on_rows)
        except psycopg.Error:
            self.close()
            raise
        except BaseException:
            # What was sent would be executed to its end, COMMIT and all.
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
        """Close the connection, from whatever thread."""
        with suppress(Exception):
            self._selector.close()
        self._connection.close()

    def _exchange(
        self, statements: Iterable[Statement], on_rows: OnRows
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
            # Its answers to the first statements may have to be read before it takes the last.
            if self._wait(EVENT_READ | EVENT_WRITE) & EVENT_READ:
                wire.consume_input()
        replies, error = self._read(before_commit)
        if error is None:
            on_rows(_rows(replies, sent))
            [committed, error] = self._read()
            replies += committed
        wire.exit_pipeline_mode()
        for text in filter(None, sent[len(replies) :]):
            # PostgreSQL did not come to prepare it.
            del self._prepared[text]
        return _rows(replies, sent), error

    def _send(self, text: str, values: Sequence[str] = ()) -> list[str | None]:
        """Send a statement; return for each command that it took the text that is prepared, None for the execution."""
        name, sent = self._prepared.get(text), []
        if name is None and self._prepare and len(self._prepared) < MAX_PREPARED:
            name = self._prepared[text] = b"group%d" % next(self._names)
            self._wire.send_prepare(name, text.encode())
            sent.append(text)
        encoded = [one.encode() for one in values]
        if name is None:
            self._wire.send_query_params(text.encode(), encoded)
        else:
            self._wire.send_query_prepared(name, encoded)
        return [*sent, None]

    def _read(self, commands: int = -1) -> tuple[list[list[Row]], psycopg.Error | None]:
        """Read the rows of so many commands; after an error, or with no number, all to the end."""
        rows: list[list[Row]] = []
        error: psycopg.Error | None = None
        while len(rows) != commands and (result := self._next()).status != pq.ExecStatus.PIPELINE_SYNC:
            if result.status == pq.ExecStatus.TUPLES_OK:
                columns = range(result.nfields)
                rows.append([tuple(result.get_value(n, one) for one in columns) for n in range(result.ntuples)])
            elif result.status == pq.ExecStatus.COMMAND_OK:
                rows.append([])
            elif error is None and result.status == pq.ExecStatus.FATAL_ERROR:
                error = errors.error_from_result(result, "utf-8")
        return rows, error

    def _next(self) -> Any:
        """Return the next result; there is a None after those of each statement, and none after the last of all."""
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
            return sum(found for _, found in self._selector.select())
        finally:
            if events != EVENT_READ:
                self._selector.modify(self._wire.socket, EVENT_READ)


def _rows(replies: Sequence[list[Row]], sent: Sequence[str | None]) -> list[list[Row]]:
    """Return the rows of the statements between BEGIN and COMMIT, as far as there are replies."""
    executed = [rows for rows, prepared in zip(replies, sent, strict=False) if prepared is None]
    return executed[1 : sent.count(None) - 1]
