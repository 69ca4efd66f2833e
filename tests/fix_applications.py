"""Connections that applications have, by every library that `submit_in` knows; and the outbox they write to."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from typing import Any
from uuid import UUID

import asyncpg
import psycopg
import sqlalchemy
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.pool import NullPool


def sqlalchemy_url(url: str, driver: str) -> str:
    return f"postgresql+{driver}://{url.partition('://')[2]}"


@contextmanager
def psycopg_connection(url: str) -> Iterator[Any]:
    with psycopg.connect(url) as connection:
        yield connection


@contextmanager
def psycopg_cursor(url: str) -> Iterator[Any]:
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        yield cursor


@contextmanager
def sqlalchemy_connection(url: str) -> Iterator[Any]:
    engine = sqlalchemy.create_engine(sqlalchemy_url(url, "psycopg"), poolclass=NullPool)
    with engine.begin() as connection:
        yield connection


@contextmanager
def sqlalchemy_session(url: str) -> Iterator[Any]:
    engine = sqlalchemy.create_engine(sqlalchemy_url(url, "psycopg"), poolclass=NullPool)
    with Session(engine) as session, session.begin():
        yield session


@contextmanager
def sqlalchemy_scoped_session(url: str) -> Iterator[Any]:
    engine = sqlalchemy.create_engine(sqlalchemy_url(url, "psycopg"), poolclass=NullPool)
    session = scoped_session(sessionmaker(engine))
    try:
        with session.begin():
            yield session
    finally:
        session.remove()


@contextmanager
def django_connection(url: str) -> Iterator[Any]:
    from django.db import connection, transaction

    try:
        with transaction.atomic():
            yield connection
    finally:
        connection.close()


@contextmanager
def django_wrapper(url: str) -> Iterator[Any]:
    from django.db import connections, transaction

    try:
        with transaction.atomic():
            yield connections["default"]
    finally:
        connections.close_all()


Opened = Callable[[str], AbstractContextManager[Any]]


SYNCHRONOUS = [
    psycopg_connection, psycopg_cursor, sqlalchemy_connection, sqlalchemy_session, sqlalchemy_scoped_session,
    django_connection, django_wrapper,
]  # fmt: skip


@asynccontextmanager
async def psycopg_async_connection(url: str) -> AsyncIterator[Any]:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        yield connection


@asynccontextmanager
async def psycopg_async_cursor(url: str) -> AsyncIterator[Any]:
    async with await psycopg.AsyncConnection.connect(url) as connection, connection.cursor() as cursor:
        yield cursor


@asynccontextmanager
async def sqlalchemy_async_connection(url: str) -> AsyncIterator[Any]:
    engine = create_async_engine(sqlalchemy_url(url, "psycopg"), poolclass=NullPool)
    async with engine.begin() as connection:
        yield connection


@asynccontextmanager
async def sqlalchemy_async_session(url: str) -> AsyncIterator[Any]:
    engine = create_async_engine(sqlalchemy_url(url, "asyncpg"), poolclass=NullPool)
    async with AsyncSession(engine) as session, session.begin():
        yield session


@asynccontextmanager
async def sqlalchemy_async_scoped_session(url: str) -> AsyncIterator[Any]:
    engine = create_async_engine(sqlalchemy_url(url, "asyncpg"), poolclass=NullPool)
    session = async_scoped_session(async_sessionmaker(engine), scopefunc=lambda: 1)
    async with session.begin():
        yield session
    await session.remove()


@asynccontextmanager
async def asyncpg_connection(url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction():
            yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def asyncpg_pool(url: str) -> AsyncIterator[Any]:
    async with asyncpg.create_pool(url, min_size=1, max_size=1) as pool, pool.acquire() as connection:
        # A codec for JSON of the application's own does not matter.
        await connection.set_type_codec("json", encoder=repr, decoder=repr, schema="pg_catalog")
        async with connection.transaction():
            yield connection


AsyncOpened = Callable[[str], AbstractAsyncContextManager[Any]]


ASYNCHRONOUS = [
    psycopg_async_connection, psycopg_async_cursor, sqlalchemy_async_connection, sqlalchemy_async_session,
    sqlalchemy_async_scoped_session, asyncpg_connection, asyncpg_pool,
]  # fmt: skip


#: No test here needs a queue: the outbox is written in PostgreSQL alone.
NOWHERE = "redis://127.0.0.1:1/0"


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
