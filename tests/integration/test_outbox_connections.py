"""`submit_in` with the connection that an application has: every library, in its own transaction."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import (
    suppress,
)
from urllib.parse import unquote, urlsplit
from uuid import UUID, uuid4

import asyncpg
import django
import psycopg
import pytest
import sqlalchemy
from django.conf import settings as django_settings
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from pattern_storage import (
    AsyncPatternStorageClient,
    ConnectionUnsupported,
    ContractInvalid,
    CorrelationConflict,
    ModelContractPatternStorage,
    PatternStorageClient,
)
from pattern_storage.testing import RecordedMode, make_contract, make_pattern, recorded
from tests.fix_applications import ASYNCHRONOUS, SYNCHRONOUS, AsyncOpened, Opened

#: No test here needs a queue: the outbox is written in PostgreSQL alone.
NOWHERE = "redis://127.0.0.1:1/0"


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


def outbox(url: str, low: int = 0) -> list[UUID]:
    """Empty the outbox, and return what was in it, in the order of publication; `low` have that priority."""
    with psycopg.connect(url) as connection:
        found = connection.execute(
            "SELECT correlation_id FROM outbox ORDER BY publish_after, correlation_id"
        ).fetchall()
        optioned = connection.execute("SELECT options ->> 'priority' FROM outbox WHERE options IS NOT NULL").fetchall()
        assert optioned == [("low",)] * low
        connection.execute("DELETE FROM outbox")
    return [job for (job,) in found]


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


# --- what is refused ---


def test_two_requests_under_one_id_are_a_conflict_before_anything_is_written(
    url: str, client: PatternStorageClient
) -> None:
    job = uuid4()
    same = make_contract(correlation_id=job)
    with psycopg.connect(url) as connection:
        client.submit_many_in(connection, [same, same.model_copy(update={"name": "other"})])
        with pytest.raises(CorrelationConflict):
            client.submit_many_in(connection, [make_contract(), make_contract(correlation_id=job), same])
        with pytest.raises(ContractInvalid, match=r"^contract 1: confidence_score should be ") as caught:
            client.submit_many_in(connection, [make_contract(), bad()])
        assert caught.value.contract_index == 1
        with pytest.raises(ContractInvalid, match=r"^confidence_score should be "):
            client.submit_in(connection, bad())
    assert outbox(url) == [job]


def bad() -> ModelContractPatternStorage:
    return make_contract(data=make_pattern(confidence_score=7))


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


async def test_a_transaction_is_needed_in_autocommit_mode(url: str, client: PatternStorageClient) -> None:
    """Or the job would be there at once, whatever becomes of the rest."""
    refused = r"^connection is a psycopg\.(Async)?Connection; it should be one inside `(async )?with connection\.trans"
    with psycopg.connect(url, autocommit=True) as connection:
        for given in (connection, connection.cursor()):
            with pytest.raises(ConnectionUnsupported, match=refused):
                client.submit_in(given, make_contract())
        with connection.transaction():
            jobs = [client.submit_in(connection, make_contract()), client.submit_in(given, make_contract())]
        with connection.pipeline(), connection.transaction():
            jobs.append(client.submit_in(connection, make_contract()))
    async with (
        AsyncPatternStorageClient(redis_url=NOWHERE) as other,
        await psycopg.AsyncConnection.connect(url, autocommit=True) as connection_,
    ):
        for given_ in (connection_, connection_.cursor()):
            with pytest.raises(ConnectionUnsupported, match=refused):
                await other.submit_in(given_, make_contract())
        async with connection_.transaction():
            written = await other.submit_in(given_, make_contract())
    assert outbox(url) == [*(job.correlation_id for job in jobs), written.correlation_id]


async def test_sqlalchemy_s_autocommit_is_refused(url: str, client: PatternStorageClient) -> None:
    """Said of the engine, or of one connection, whatever driver is below."""
    refused = r"; it should be one whose isolation level is not AUTOCOMMIT$"
    address = f"postgresql+psycopg://{url.partition('://')[2]}"
    engine = sqlalchemy.create_engine(address)
    with engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        with pytest.raises(ConnectionUnsupported, match=refused):
            client.submit_in(connection, make_contract())
    always = sqlalchemy.create_engine(address, isolation_level="AUTOCOMMIT")
    with Session(always) as session, pytest.raises(ConnectionUnsupported, match=refused):
        client.submit_in(session, make_contract())
    async with AsyncPatternStorageClient(redis_url=NOWHERE) as other:
        for driver in ("psycopg", "asyncpg"):
            begun = create_async_engine(address.replace("+psycopg", f"+{driver}"), isolation_level="AUTOCOMMIT")
            async with begun.connect() as connection_:
                with pytest.raises(ConnectionUnsupported, match=refused):
                    await other.submit_in(connection_, make_contract())
            async with AsyncSession(begun) as session_:
                with pytest.raises(ConnectionUnsupported, match=refused):
                    await other.submit_in(session_, make_contract())
            await begun.dispose()
    engine.dispose()
    always.dispose()
    assert outbox(url) == []


def test_the_outbox_has_no_connect_timeout(url: str, client: PatternStorageClient) -> None:
    refused = "connect_timeout is no option of submit_in"
    with psycopg.connect(url) as connection, pytest.raises(ContractInvalid, match=refused):
        client.submit_in(connection, make_contract(), connect_timeout=1)  # type: ignore[call-arg]
    with pytest.raises(ContractInvalid, match=refused), recorded():
        client.submit_in(connection, make_contract(), connect_timeout=1)  # type: ignore[call-arg]
    assert outbox(url) == []


async def test_the_wrong_client_is_one_sentence(url: str, client: PatternStorageClient) -> None:
    async with AsyncPatternStorageClient(redis_url=NOWHERE) as other:
        with psycopg.connect(url) as connection, pytest.raises(TypeError, match=r"are for PatternStorageClient$"):
            await other.submit_in(connection, make_contract())
        async with await psycopg.AsyncConnection.connect(url) as connection_:
            with pytest.raises(TypeError, match=r"are for AsyncPatternStorageClient$"):
                client.submit_in(connection_, make_contract())
        alone = await asyncpg.connect(url)
        try:
            with pytest.raises(TypeError, match=r"inside `async with connection.transaction\(\)`$"):
                await other.submit_in(alone, make_contract())
        finally:
            await alone.close()
