"""The beat scheduler: Celery's own, with a thread beside it that plans the imports of the imports file."""

import threading
from typing import Any

from celery import bootsteps
from celery.apps.beat import Beat
from celery.beat import PersistentScheduler, SchedulingError

from pattern_storage.config.settings import environment_settings
from pattern_storage.storage.logs import get_logger
from pattern_storage.tasks.database import check_database
from pattern_storage.tasks.imports.plan.imports_file import load_entries
from pattern_storage.tasks.imports.plan.model import ImportEntry
from pattern_storage.tasks.imports.plan.planner import Planner
from pattern_storage.tasks.reconnect import ReconnectBackoff
from pattern_storage.tasks.redis_server import check_redis

logger = get_logger(__name__)

#: Seconds to wait for the planner thread at shutdown.
STOP_TIMEOUT = 5.0


def configured_entries() -> list[ImportEntry]:
    """Return the imports of the configured file, none if none is configured. Raises ImportsFileInvalid."""
    path = environment_settings().imports_file
    return [] if path is None else load_entries(path)


class CheckedBeat(Beat):
    """Beat that validates Redis and the imports file first. Raises ImportsFileInvalid or SettingsInvalid."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        check_redis(environment_settings())
        if configured_entries():
            check_database(environment_settings())


class EmbeddedBeatCheck(bootsteps.Step):
    """Validates the imports file before a worker with a beat inside (`worker -B`) is ready.

    That beat is a process of its own, and the worker does not notice when it ends. Raises ImportsFileInvalid.
    """

    def __init__(self, worker: Any, beat: bool = False, **options: Any) -> None:
        super().__init__(worker, **options)
        if beat:
            configured_entries()


class ImportScheduler(PersistentScheduler):
    """Celery's scheduler, and beside it a thread that plans imports if there is a database.

    The thread is separate because Celery's own tick waits for a broker that is down; imports that are due meanwhile
    become runs all the same.
    """

    _planning: threading.Thread | None = None

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._stopping = threading.Event()
        self._backoff = ReconnectBackoff("cannot send what is due", "beat")
        super().__init__(*arguments, **options)

    def setup_schedule(self) -> None:
        """Read schedule and imports file; Celery calls this once, when beat starts."""
        super().setup_schedule()
        settings = environment_settings()
        if settings.database_url is not None:
            planner = Planner(settings, configured_entries(), self.app)
            self._planning = threading.Thread(target=self._plan, args=[planner], name="import planner", daemon=True)
            self._planning.start()

    def apply_entry(self, entry: Any, producer: Any = None) -> None:
        """Send a task that is due; if the broker refuses it, skip it until it is due again, and log that once."""
        try:
            self.apply_async(entry, producer=producer, advance=False)
        except SchedulingError as error:
            self._backoff.failed(error)
        else:
            self._backoff.succeeded()
            logger.info("beat: sent %s", entry.name)

    def _ensure_connected(self) -> Any:
        def log_failure(error: Exception, _: float) -> None:
            # Celery's own function writes a line for each attempt.
            self._backoff.failed(error)

        connection: Any = self.connection
        return connection.ensure_connection(log_failure, None)

    def close(self) -> None:
        """End the thread of `setup_schedule`, without waiting for a planner that waits for a server."""
        self._stopping.set()
        if self._planning is not None:
            self._planning.join(STOP_TIMEOUT)
        super().close()

    def _plan(self, planner: Planner) -> None:
        while not self._stopping.wait(planner.tick()):
            pass
