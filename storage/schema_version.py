"""The version of the schema, in a table of its own beside the tables of that version.

An application may run its own Alembic in the same database, so neither `alembic_version` nor its revisions are ours.
"""

from alembic.runtime.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from sqlalchemy import Connection

from pattern_storage.storage.errors import SchemaMismatch
from pattern_storage.storage.pattern import COLUMNS
from pattern_storage.storage.sql import block

#: Alembic's version table for our migrations.
VERSION_TABLE = "pattern_storage_version"

#: Names of our revisions in `alembic_version`, before there was a table of our own.
ALEMBIC_REVISIONS = {
    "pattern_storage_0001": "0001",
    "pattern_storage_0002": "0002",
    "pattern_storage_0003": "0003",
}


def creation_schema(connection: Connection) -> str:
    """Return the schema that a migration works in: the first of the search_path. Raises SchemaMismatch."""
    schema = connection.exec_driver_sql(block("creation_schema")).scalar()
    if schema is None:
        path = connection.exec_driver_sql("SHOW search_path").scalar()
        raise SchemaMismatch(
            f"the search_path is {path!r}, and none of these schemas exists; create one, or correct the search_path"
            " in DATABASE_URL, PGOPTIONS or the service file"
        )
    return str(schema)


def installed_schema(connection: Connection) -> str:
    """Return the schema whose tables a worker uses over such a connection. Raises SchemaMismatch."""
    schema = connection.exec_driver_sql(block("installed_schema")).scalar()
    return creation_schema(connection) if schema is None else str(schema)


def read(connection: Connection, scripts: ScriptDirectory, schema: str) -> str | None:
    """Return the revision that this schema has, None before the first migration."""
    if _find(connection, schema, [VERSION_TABLE]):
        options = {"version_table": VERSION_TABLE, "version_table_schema": schema}
        return MigrationContext.configure(connection, opts=options).get_current_revision()
    return _infer(connection, scripts, schema)


def is_known(scripts: ScriptDirectory, revision: str) -> bool:
    """Return whether this release has the revision; otherwise it is of a newer one."""
    return any(script.revision == revision for script in scripts.walk_revisions())


def missing_tables(connection: Connection, scripts: ScriptDirectory, schema: str, revision: str) -> list[str]:
    """Return the tables of this revision that the schema lacks."""
    if not is_known(scripts, revision):
        return []
    wanted = [table for script in scripts.walk_revisions("base", revision) for table in tables_of(script)]
    found = _find(connection, schema, wanted)
    return [table for table in wanted if table not in found]


def adopt(connection: Connection, scripts: ScriptDirectory, schema: str) -> None:
    """Carry over an installation whose revision stands in `alembic_version`, or nowhere any more."""
    if _find(connection, schema, [VERSION_TABLE]) or (revision := _infer(connection, scripts, schema)) is None:
        return
    options = {"version_table": VERSION_TABLE, "version_table_schema": schema}
    MigrationContext.configure(connection, opts=options).stamp(scripts, revision)
    if _find(connection, schema, ["alembic_version"]):
        connection.exec_driver_sql(block("retire_alembic_version"), {"revision": ALEMBIC_REVISIONS[revision]})


def _infer(connection: Connection, scripts: ScriptDirectory, schema: str) -> str | None:
    """Return the revision that the tables themselves show, of those that had no version table of their own."""
    values = {"schema": schema, "columns": list(COLUMNS)}
    if not connection.exec_driver_sql(block("is_pattern_table"), values).scalar():
        return None
    inferred = None
    for revision in ALEMBIC_REVISIONS:
        if missing_tables(connection, scripts, schema, revision):
            break
        inferred = revision
    return inferred


def tables_of(script: Script) -> tuple[str, ...]:
    """Return the tables that a migration creates."""
    return getattr(script.module, "TABLES", ())


def _find(connection: Connection, schema: str, tables: list[str]) -> set[str]:
    values = {"schema": schema, "tables": tables}
    return {str(name) for (name,) in connection.exec_driver_sql(block("find_tables"), values)}
