"""Databases of tests: each is a copy of a template, which takes a fraction of the time of migrations."""

from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
from psycopg.sql import SQL, Identifier


def on_database(url: str, name: str) -> str:
    """Return the URL of another database on the same server."""
    return urlsplit(url)._replace(path=f"/{name}").geturl()


def database_of(url: str) -> str:
    """Return the name of the URL's database."""
    return urlsplit(url).path.removeprefix("/")


def create_database(server_url: str, template: str | None = None, *, label: str = "gw0") -> str:
    """Create a database, empty or a copy of `template`, and return its name, which has `label` in it."""
    name = f"test_{label}_{uuid4().hex[:12]}"
    statement = SQL("CREATE DATABASE {}").format(Identifier(name))
    if template is not None:
        statement += SQL(" TEMPLATE {}").format(Identifier(template))
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(statement)
    return name


def drop_database(server_url: str, name: str) -> None:
    """Drop a database, also while other connections use it."""
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(Identifier(name)))
