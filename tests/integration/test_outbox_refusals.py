"""What `submit_in` refuses, in one sentence each: a conflict, a wrong contract, a connection without a transaction."""

from collections.abc import Iterator
from uuid import uuid4

import asyncpg
import psycopg
import pytest
import sqlalchemy
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
from pattern_storage.storage.errors import SchemaMismatch
from pattern_storage.testing import make_contract, make_pattern, recorded
from tests.fix_applications import (
    NOWHERE,
    asyncpg_connection,
    outbox,
    psycopg_async_connection,
    psycopg_connection,
    sqlalchemy_async_session,
    sqlalchemy_session,
)


@pytest.fixture(scope="module")
def url(shared_database_url: str) -> str:
    """The same by a short name."""
    return shared_database_url


@pytest.fixture
def client() -> Iterator[PatternStorageClient]:
    with PatternStorageClient(redis_url=NOWHERE) as opened:
        yield opened


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


async def test_a_database_that_is_not_migrated_is_one_sentence(postgres_url: str, client: PatternStorageClient) -> None:
    """Whatever library's error it is."""
    sentence = r"^the database schema does not fit, run 'pattern-storage migrate': relation \"outbox\" does not exist$"
    for connect in (psycopg_connection, sqlalchemy_session):
        with pytest.raises(SchemaMismatch, match=sentence), connect(postgres_url) as connection:
            client.submit_in(connection, make_contract())
    async with AsyncPatternStorageClient(redis_url=NOWHERE) as other:
        for connect_ in (psycopg_async_connection, sqlalchemy_async_session, asyncpg_connection):
            with pytest.raises(SchemaMismatch, match=sentence):
                async with connect_(postgres_url) as connection_:
                    await other.submit_in(connection_, make_contract())
    with psycopg.connect(postgres_url) as failed:
        with pytest.raises(psycopg.errors.DivisionByZero):
            failed.execute("SELECT 1 / 0")
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            client.submit_in(failed, make_contract())
