"""The words of the public JSON: names of operations, states of jobs, states of import runs, error types.

Each value is exactly the text in messages, results, tables, events and metrics (a StrEnum member *is* its text), and
never changes. This module imports nothing of ours, so that every package may use it.
"""

from enum import StrEnum


class OperationName(StrEnum):
    """What a contract asks for: the task `storage.<operation>` runs it."""

    INSERT = "insert"
    """Writes one pattern. Changes the database, so the ledger keeps its result."""

    UPDATE = "update"
    """Changes some columns of one pattern. Changes the database, so the ledger keeps its result."""

    DELETE = "delete"
    """Removes one pattern. Changes the database, so the ledger keeps its result."""

    BATCH_INSERT = "batch_insert"
    """Writes many patterns, all or none, on the queue `batch`. The ledger keeps its result."""

    QUERY = "query"
    """Reads a page of patterns. Changes nothing, so it is executed at each delivery and stands in no ledger."""


#: What metadata and metrics call a run of an import, where a job has the name of its operation.
IMPORT_OPERATION = "import"


class Priority(StrEnum):
    """Which of the jobs that wait in one queue goes first. By name: libraries differ in which number is urgent."""

    URGENT = "urgent"
    """Before everything that waits; of several urgent jobs the last one first."""

    NORMAL = "normal"
    """In the order of submission. Jobs that say nothing, and those of other applications, are normal."""

    LOW = "low"
    """When nothing urgent or normal waits."""

    LOWEST = "lowest"
    """When nothing else waits at all."""


class JobState(StrEnum):
    """Where a job is. The names are Celery's where Celery has the state; UNKNOWN, QUEUED and PROGRESS are ours."""

    UNKNOWN = "UNKNOWN"
    """Nothing is known under this correlation id: never submitted, forgotten, or sent by another application and not
    begun yet. Celery calls it PENDING."""

    QUEUED = "QUEUED"
    """Submitted, or written into the outbox and committed. Ends when a worker begins the job, or it is cancelled."""

    STARTED = "STARTED"
    """A worker executes the job. Ends with RETRY or a final state; after a killed worker the next attempt ends it."""

    PROGRESS = "PROGRESS"
    """A worker does an import and says every second how far it is. Ends as STARTED does."""

    RETRY = "RETRY"
    """An attempt failed in a way that may pass, and the job waits for the next. Ends when that begins, or when the job
    is cancelled."""

    SUCCESS = "SUCCESS"
    """Committed, with its result. Final."""

    FAILURE = "FAILURE"
    """Failed for good, or a dead letter. Final, unless the dead letter is replayed."""

    REVOKED = "REVOKED"
    """Cancelled before it was done, and never to commit. Final."""


#: States that a job does not leave by itself.
FINAL_STATES = frozenset({JobState.SUCCESS, JobState.FAILURE, JobState.REVOKED})


class ListedState(StrEnum):
    """Where a job is in an operator's lists: as JobState, but a dead letter is no failure among others."""

    QUEUED = "QUEUED"
    """Waits in the broker, in the outbox, or as a run of an import."""

    STARTED = "STARTED"
    """A worker has it."""

    RETRY = "RETRY"
    """An attempt failed in a way that may pass; the job waits for the next, or is in it."""

    SUCCESS = "SUCCESS"
    """Committed."""

    FAILURE = "FAILURE"
    """Failed for good."""

    DEAD = "DEAD"
    """A dead letter: it ran out of attempts, or no worker could take it, and waits for an operator."""

    REVOKED = "REVOKED"
    """Cancelled before it was done."""


class ImportRunState(StrEnum):
    """Where a run of an import is: the column `import_runs.state`."""

    QUEUED = "queued"
    """Due, or started by hand. Ends when a worker begins it, or it is cancelled."""

    RUNNING = "running"
    """Begun. Ends with one of the states below; a run whose worker was lost stays running until it is begun again."""

    DONE = "done"
    """All rows that were to be written are written. Final."""

    UNCHANGED = "unchanged"
    """The source is the same as when it was last done by the same plan, so nothing was read. Final."""

    FAILED = "failed"
    """Nothing was written; `error_type` and `error` say why. Final."""

    OVERLAPPED = "overlapped"
    """The run before it had not ended yet. Final."""

    CANCELLED = "cancelled"
    """Cancelled before it was done. Final."""

    MISSED = "missed"
    """A misfire: no beat ran at its due time, and its schedule does not make up for that. Final."""


#: States of a run that read its source, or did not have to.
SUCCESSFUL_RUN_STATES = frozenset({ImportRunState.DONE, ImportRunState.UNCHANGED})


class ErrorType(StrEnum):
    """Why something failed: `metadata["error_type"]` of a failed result, a dead letter's and a failed run's column."""

    # --- permanent: the same request would fail again ---

    VALIDATION_ERROR = "validation_error"
    """A value, a name or a combination breaks a rule, or there is no such pattern. The error names the field."""

    UNIQUE_VIOLATION = "unique_violation"
    """Another pattern has the same (pattern_name, pattern_type, language)."""

    VERSION_CONFLICT = "version_conflict"
    """The pattern was updated since the time that the update or delete expects. Read it again."""

    FOREIGN_KEY_VIOLATION = "foreign_key_violation"
    """A parent does not exist, or a pattern that is one was to be deleted."""

    UNSUPPORTED_OPERATION = "unsupported_operation"
    """There is no operation of this name."""

    CORRELATION_CONFLICT = "correlation_conflict"
    """The correlation id belongs to another request. Use a new one."""

    UNKNOWN_ROLE = "unknown_role"
    """There is no database role of this name."""

    UNKNOWN_REVISION = "unknown_revision"
    """The schema cannot go back to a revision of this name."""

    DATABASE_UNSUITABLE = "database_unsuitable"
    """The database's encoding is not UTF8: it could not hold every text. Use another database."""

    ALREADY_DONE = "already_done"
    """The ledger has the job already. Internal: no result has it, since the first result is returned."""

    REVOKED = "revoked"
    """The job was cancelled before it was done."""

    EXPIRED = "expired"
    """The job's `expires` passed before it began, or began again; nothing was written, and it never will be."""

    TIME_LIMIT_EXCEEDED = "time_limit_exceeded"
    """The job did not end within its time limit, and was rolled back."""

    WORKER_LOST = "worker_lost"
    """The process of the job was killed or lost, as many times as it may begin."""

    # --- transient: the same request may succeed later; jobs are retried, then dead letters ---

    CONNECTION_LOST = "connection_lost"
    """The connection to PostgreSQL broke; whether the transaction committed, the ledger knows."""

    SERVER_UNAVAILABLE = "server_unavailable"
    """PostgreSQL is starting, stopping, read-only or out of a resource."""

    POOL_TIMEOUT = "pool_timeout"
    """No connection became free in time."""

    TRANSACTION_CONFLICT = "transaction_conflict"
    """Serialization failure, deadlock or lock timeout."""

    STATEMENT_TIMEOUT = "statement_timeout"
    """PostgreSQL cancelled a statement that ran past its time limit."""

    SCHEMA_MISMATCH = "schema_mismatch"
    """The database lacks a table, a column or a right that this version needs."""

    INTERNAL_ERROR = "internal_error"
    """An unexpected error; the worker's log has the traceback under the correlation id."""

    STORAGE_ERROR = "storage_error"
    """Any other failure of storage."""

    # --- imports ---

    BAD_ROWS = "bad_rows"
    """More rows are wrong than the import allows."""

    COLUMNS_INVALID = "columns_invalid"
    """A column of the file has no meaning, or one that the plan names is not there."""

    SOURCE_MISSING = "source_missing"
    """Nothing is where the source should be."""

    SOURCE_UNREADABLE = "source_unreadable"
    """The source is no file of its format, is cut off, or may not be read."""

    SOURCE_UNAVAILABLE = "source_unavailable"
    """The source's server does not answer now. The run is retried."""

    SOURCE_CHANGED = "source_changed"
    """The source was written while it was read. The run is retried."""

    IMPORT_OVERLAP = "import_overlap"
    """The run before it had not ended yet."""

    REJECT_FILE = "reject_file"
    """The file for rejected rows cannot be written."""

    UNKNOWN_RUN = "unknown_run"
    """There is no run of this id."""

    # --- of clients ---

    UNREADABLE_RESULT = "unreadable_result"
    """What the result backend has under the id is no result of ours."""

    NO_RESULT_YET = "no_result_yet"
    """No result came in time; the job goes on."""
