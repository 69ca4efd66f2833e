"""`submit_in` with the connection that an application has: every library, in its own transaction."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import django
import pytest
import sqlalchemy
from django.conf import settings as django_settings
from sqlalchemy.orm import Session

from pattern_storage import AsyncPatternStorageClient, ConnectionUnsupported, CorrelationConflict, PatternStorageClient
from pattern_storage.testing import RecordedMode, make_contract, recorded
from tests.fix_applications import ASYNCHRONOUS, NOWHERE, SYNCHRONOUS, AsyncOpened, Opened, outbox


class RollBack(Exception):
    """Ends a block without a commit."""


@pytest.fixture(scope="module")
def url(shared_database_url: str) -> str:
    """The same by a short name."""
    return shared_database_url


@pytest.fixture(scope="module")
def django_database(url: str) -> None:
    """Django, configured for this module's database; a process has one configuration."""
    parts = urlsplit(url)
    database = {
        "ENGINE": "django.db.backends.postgresql", "HOST": parts.hostname, "PORT": parts.port,
        "NAME": parts.path.removeprefix("/"), "USER": parts.username, "PASSWORD": unquote(parts.password or ""),
    }  # fmt: skip
    other = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
    django_settings.configure(DATABASES={"default": database, "other": other})
    django.setup()


@pytest.fixture
def client() -> Iterator[PatternStorageClient]:
    with PatternStorageClient(redis_url=NOWHERE) as opened:
        yield opened


# --- synchronous ---


@pytest.mark.usefixtures("django_database")
@pytest.mark.parametrize("opened", SYNCHRONOUS)
def test_a_job_exists_if_and_only_if_the_transaction_commits(
    url: str, client: PatternStorageClient, opened: Opened
) -> None:
    with suppress(RollBack), opened(url) as connection:
        client.submit_in(connection, make_contract())
        raise RollBack
    assert outbox(url) == []
    contracts = [make_contract(correlation_id=uuid4()) for _ in range(20)]
    with opened(url) as connection:
        first = client.submit_in(connection, contracts[0])
        rest = client.submit_many_in(connection, contracts[1:], priority="low")
        # The same again changes nothing, another one is a conflict, and the transaction goes on.
        client.submit_in(connection, contracts[3])
        with pytest.raises(CorrelationConflict):
            client.submit_in(connection, make_contract(correlation_id=contracts[3].correlation_id))
        assert client.submit_many_in(connection, []) == []
    assert (
        [job.correlation_id for job in (first, *rest)]
        == [one.correlation_id for one in contracts]
        == outbox(url, low=19)
    )


# --- asynchronous ---


@pytest.mark.parametrize("opened", ASYNCHRONOUS)
async def test_the_same_with_await(url: str, opened: AsyncOpened) -> None:
    async with AsyncPatternStorageClient(redis_url=NOWHERE) as client:
        with suppress(RollBack):
            async with opened(url) as connection:
                await client.submit_in(connection, make_contract())
                raise RollBack
        assert outbox(url) == []
        contracts = [make_contract(correlation_id=uuid4()) for _ in range(20)]
        async with opened(url) as connection:
            first = await client.submit_in(connection, contracts[0])
            rest = await client.submit_many_in(connection, contracts[1:], priority="low")
            await client.submit_in(connection, contracts[3])
            with pytest.raises(CorrelationConflict):
                await client.submit_in(connection, make_contract(correlation_id=contracts[3].correlation_id))
        assert [job.correlation_id for job in (first, *rest)] == [one.correlation_id for one in contracts]
        assert outbox(url, low=19) == [one.correlation_id for one in contracts]


@pytest.mark.usefixtures("django_database")
async def test_recorded_jobs_of_any_connection_are_none_after_a_rollback(
    url: str, client: PatternStorageClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    with recorded() as mode:
        async with AsyncPatternStorageClient(redis_url=NOWHERE) as other:
            for opened in ASYNCHRONOUS:
                with suppress(RollBack):
                    async with opened(url) as connection:
                        await other.submit_in(connection, make_contract())
                        assert len(mode.jobs) == 1
                        raise RollBack
                mode.jobs.assert_not_enqueued()
        await asyncio.to_thread(_roll_back, mode, url, client)
    assert outbox(url) == []


def _roll_back(mode: RecordedMode, url: str, client: PatternStorageClient) -> None:
    # In a thread without an event loop: Django refuses to be used beside one.
    for opened in SYNCHRONOUS:
        with suppress(RollBack), opened(url) as connection:
            client.submit_in(connection, make_contract())
            assert len(mode.jobs) == 1
            raise RollBack
        mode.jobs.assert_not_enqueued()


@pytest.mark.usefixtures("django_database")
def test_any_other_connection_is_one_sentence(url: str, client: PatternStorageClient) -> None:
    from django.db import connection, connections

    with pytest.raises(TypeError, match=r"^connection is a sqlite3.Connection; it should be a psycopg connection or"):
        client.submit_in(sqlite3.connect(":memory:"), make_contract())
    with pytest.raises(ConnectionUnsupported, match=r"inside `with transaction.atomic\(\)`$"):
        client.submit_in(connection, make_contract())
    with pytest.raises(ConnectionUnsupported, match=r"one to PostgreSQL, not to sqlite$"):
        client.submit_in(connections["other"], make_contract())
    engine = sqlalchemy.create_engine("sqlite://")
    with engine.connect() as other, pytest.raises(ConnectionUnsupported, match=r"one to PostgreSQL, not to sqlite$"):
        client.submit_in(other, make_contract())
    with Session(engine) as session, pytest.raises(ConnectionUnsupported, match=r"one to PostgreSQL, not to sqlite$"):
        client.submit_in(session, make_contract())
    connections.close_all()
