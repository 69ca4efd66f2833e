"""The pipeline of a group: one round trip, and connections that fail in the middle of it."""

import os
import signal
import tempfile
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from pattern_storage.storage.pipeline import MAX_PREPARED, PipelineConnection


class TestPipeline:
    @pytest.fixture
    def pipeline(self, database_url: str) -> Iterator[PipelineConnection]:
        opened = PipelineConnection(psycopg.connect(database_url, autocommit=True), prepare=True)
        yield opened
        opened.close()

    def test_one_round_trip(self, pipeline: PipelineConnection) -> None:
        """Counted in the protocol that libpq speaks: one Sync, one answer that it is ready."""
        with tempfile.TemporaryFile() as trace:
            pipeline._wire.trace(trace.fileno())
            try:
                assert pipeline.transaction([("SELECT $1::int", ["1"]), ("SELECT 2", [])]) == [[(b"1",)], [(b"2",)]]
            finally:
                pipeline._wire.untrace()
            text = os.pread(trace.fileno(), os.fstat(trace.fileno()).st_size, 0).decode()
        assert (text.count("\tSync"), text.count("\tReadyForQuery")) == (1, 1)
        # Rows do not wait for the commit.
        assert text.index("\tFlush") < text.index("\tSync")

    def test_a_commit_that_fails_takes_the_rows_back(self, pipeline: PipelineConnection) -> None:
        told: list[Any] = []
        table = "CREATE TEMP TABLE late (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)"
        pipeline.transaction([(table, [])])
        with pytest.raises(psycopg.errors.UniqueViolation):
            pipeline.transaction([("INSERT INTO late VALUES (1), (1) RETURNING id", [])], told.append)
        assert told == [[[(b"1",), (b"1",)]]]
        assert pipeline.transaction([("SELECT count(*) FROM late", [])]) == [[(b"0",)]]

    def test_what_is_prepared_is_bounded(self, pipeline: PipelineConnection) -> None:
        for number in range(MAX_PREPARED + 5):
            assert pipeline.transaction([(f"SELECT {number}", [])]) == [[(b"%d" % number,)]]
        assert len(pipeline._prepared) == MAX_PREPARED

    def test_what_failed_is_prepared_once(self, pipeline: PipelineConnection) -> None:
        for _ in range(5):
            with pytest.raises(psycopg.errors.DivisionByZero):
                pipeline.transaction([("SELECT 1", []), ("SELECT 1 / $1::int", ["0"]), ("SELECT 2", [])])
            with pytest.raises(psycopg.errors.SyntaxError):
                pipeline.transaction([("SELECT 1", []), ("SELEKT", [])])
        asked = "SELECT statement FROM pg_prepared_statements"
        [rows] = pipeline.transaction([(asked, [])])
        kept = sorted(str(text, "utf-8") for (text,) in rows if text)
        assert kept == ["BEGIN", "SELECT 1", "SELECT 1 / $1::int", asked]

    def test_more_than_the_sockets_hold(self, pipeline: PipelineConnection) -> None:
        """Neither side stops because the other has not read yet."""
        large = "x" * 3_000_000
        rows = pipeline.transaction([("SELECT $1::text", [large])] * 4)
        assert rows == [[(large.encode(),)]] * 4

    def test_an_interruption_ends_the_transaction(self, pipeline: PipelineConnection, database_url: str) -> None:
        """As Celery's soft time limit does: what was sent does not commit."""

        class Interrupted(Exception):
            pass

        def interrupt(*_: Any) -> None:
            raise Interrupted

        before = signal.signal(signal.SIGALRM, interrupt)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            with pytest.raises(Interrupted):
                pipeline.transaction([("CREATE TABLE interrupted (id int)", []), ("SELECT pg_sleep(60)", [])])
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert pipeline.closed
        with psycopg.connect(database_url, autocommit=True) as connection:
            # It waits for a lock until the other transaction has ended.
            connection.execute("DROP TABLE IF EXISTS interrupted")
            assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
