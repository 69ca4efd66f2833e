"""Errors of the setup around the operations: connections, roles, the schema and the database itself."""

from collections.abc import Sequence

from pattern_storage.storage.errors import PermanentError, SchemaMismatch
from pattern_storage.vocabulary import ErrorType


class RoleUnknown(PermanentError):
    """There is no database role of this name."""

    error_type = ErrorType.UNKNOWN_ROLE

    def __init__(self, role: str) -> None:
        self.role = role
        super().__init__(f"There is no database role {role!r}; create it first: CREATE ROLE ... LOGIN PASSWORD '...'")


class RevisionUnknown(PermanentError):
    """The schema cannot go back to a revision of this name."""

    error_type = ErrorType.UNKNOWN_REVISION

    def __init__(self, revision: str, known: Sequence[str]) -> None:
        self.revision = revision
        super().__init__(
            f"The schema cannot go back to revision {revision!r}; it should be an earlier one of {', '.join(known)},"
            " or 'base'"
        )


class ConninfoInvalid(PermanentError):
    """libpq refuses this URL or conninfo, whatever the server; the text never has the password."""

    error_type = ErrorType.VALIDATION_ERROR


class ConnectionUnsupported(PermanentError, TypeError):
    """The outbox cannot be written through this object."""

    error_type = ErrorType.VALIDATION_ERROR

    def __init__(self, connection: object, wanted: str) -> None:
        kind = type(connection)
        super().__init__(f"connection is a {kind.__module__}.{kind.__qualname__}; it should be {wanted}")


class DatabaseUnsuitable(PermanentError):
    """The database's encoding cannot hold every text."""

    error_type = ErrorType.DATABASE_UNSUITABLE

    def __init__(self, database: str, encoding: str) -> None:
        self.database = database
        self.encoding = encoding
        super().__init__(
            f"The database {database!r} has the encoding {encoding} and cannot hold every text; name one with UTF8 in"
            f" DATABASE_URL, made by CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0"
        )


class SchemaNewer(SchemaMismatch):
    """A newer release has migrated the database."""

    def __init__(self, revision: str, head: str) -> None:
        self.revision = revision
        super().__init__(
            f"the database is of a newer release: its schema is {revision}, and this release has {head}. Jobs go on, as"
            " 'pattern-storage doctor' tests; to migrate, install that release again"
        )
