"""`celery -A tasks beat`: housekeeping as Celery's own beat does it, and the imports of the imports file."""

from typing import Any

from celery.apps.beat import Beat
from celery.beat import PersistentScheduler

from config.settings import environment_settings
from tasks.imports.plan import ImportEntry, load_entries
from tasks.imports.planner import Planner


def configured_entries() -> list[ImportEntry]:
    """Return the imports of the configured file, none if none is configured. Raises ImportsFileInvalid."""
    path = environment_settings().imports_file
    return [] if path is None else load_entries(path)


class CheckedBeat(Beat):
    """Reads the imports file before anything starts. Raises ImportsFileInvalid or SettingsInvalid."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if configured_entries():
            _ = environment_settings().database


class ImportScheduler(PersistentScheduler):
    """Celery's scheduler, which also plans imports where there is a database to plan them in."""

    planner: Planner | None = None

    def setup_schedule(self) -> None:
        """Read schedule and imports file; both once, when beat starts."""
        super().setup_schedule()
        settings = environment_settings()
        if settings.database_url is not None:
            self.planner = Planner(settings, configured_entries(), self.app)

    def tick(self, *arguments: Any, **options: Any) -> float:
        """Send what is due; return the seconds until the next call."""
        pause = float(super().tick(*arguments, **options))
        return pause if self.planner is None else min(pause, self.planner.tick())
