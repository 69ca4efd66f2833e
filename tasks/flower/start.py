"""Set-up of `celery -A pattern_storage flower`: options, file and handlers, before Flower reads its command line."""

import asyncio
import logging
import os
from pathlib import Path
from types import FrameType
from typing import Any

from celery import Celery

from pattern_storage.config.flower_roles import logins
from pattern_storage.config.flowerconfig import flower_options
from pattern_storage.config.settings import Settings, SettingsInvalid, environment_settings
from pattern_storage.config.variables import PREFIX
from pattern_storage.tasks.redis_server import check_redis

logger = logging.getLogger(__name__)

#: Connections of kombu, each of which is two of Redis, that Flower's questions to workers share. Flower asks eight at
#: once; with Celery's limit of ten that took twenty connections for a page that is opened now and then.
POOL_LIMIT = 4


def configure(app: Celery) -> None:
    """Give Flower our options before it reads its command line, which may change them; see `tasks/celery_command.py`.

    Raises SettingsInvalid if there is no password, no usable broker, or no writable folder for Flower's file.
    """
    settings = environment_settings()
    _ = app.conf.broker_url  # a missing URL raises a sentence here, and would be a traceback in Flower
    check_redis(settings)
    # It logs each attempt to connect; our receiver logs once that it hears no events.
    logging.getLogger("kombu.mixins").setLevel(logging.WARNING)
    # It logs a traceback each time a server refuses.
    logging.getLogger("kombu.transport.redis").setLevel(logging.ERROR)
    # It logs two lines each time the overview has checked the migrations.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    app.conf.broker_pool_limit = POOL_LIMIT
    # A question then leaves on the connection that receives its answers, not on a second one of the pool.
    control: Any = app.control
    control.mailbox.producer_pool = None
    set_options(flower_options(settings))
    make_folder(settings)
    os.umask(0o077)  # nobody else may read Flower's file
    _install(settings)


def set_options(values: dict[str, Any]) -> None:
    """Set Flower's options by name, so that only its command line can override them."""
    from flower.options import options

    for name, value in values.items():
        # The variable would override the setting, and Kubernetes sets FLOWER_PORT to a URL for a service called flower.
        os.environ.pop(f"FLOWER_{name.upper()}", None)
        setattr(options, name, value)
    # A file of Flower's default name in the working directory would be executed. `--conf` names one on purpose.
    options.conf = os.devnull


def make_folder(settings: Settings) -> None:
    """Make the folder of Flower's file and check that it is writable. Raises SettingsInvalid."""
    folder: Path = settings.flower_file.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(13, os.strerror(13))
    except OSError as error:
        raise SettingsInvalid(
            f"{PREFIX}FLOWER_DB is {settings.flower_file}; its folder should be one that Flower can write to:"
            f" {error.strerror}"
        ) from None


def stop_loop(signum: int, _: FrameType | None) -> None:
    """Handle SIGTERM: let Flower's loop end at its next iteration, also if it has not begun yet.

    Flower's own handler raises SystemExit wherever the signal arrives. In the middle of starting a thread of the pool
    that loses the thread, and the process waits for it for ever.
    """
    loop = asyncio.get_event_loop()  # Tornado's
    loop.call_soon_threadsafe(logger.info, "signal %s: Flower stops", signum)
    loop.call_soon_threadsafe(loop.stop)


def _install(settings: Settings) -> None:
    """Put our classes, handlers and settings into Flower's modules."""
    from flower import app, command, events, urls
    from flower.views import tasks

    from pattern_storage.tasks.flower import access
    from pattern_storage.tasks.flower.backend import Backend
    from pattern_storage.tasks.flower.handlers import HANDLERS, search_jobs
    from pattern_storage.tasks.flower.pages.figures import Figures
    from pattern_storage.tasks.flower.pages.routes import ROUTES, TABS
    from pattern_storage.tasks.flower.receiver import ValidatingReceiver
    from pattern_storage.tasks.flower.task import FlowerTask
    from pattern_storage.tasks.flower.templates_loader import PagesLoader
    from pattern_storage.tasks.flower.worker_inspector import WorkerInspector, enable_events

    command.sigterm_handler = stop_loop
    events.EventReceiver = ValidatingReceiver
    events.EventsState.Task = FlowerTask
    events.Events.on_enable_events = enable_events
    app.Inspector = WorkerInspector
    tasks.search_tasks = search_jobs
    access.install()
    urls.handlers[:0] = [*HANDLERS, *ROUTES]  # the first that matches answers
    backend = Backend(settings)
    urls.settings |= {
        "template_loader": PagesLoader(urls.settings["template_path"]),
        "pattern_storage_backend": backend,
        "pattern_storage_figures": Figures(backend),
        "pattern_storage_roles": logins(settings),
        "pattern_storage_tabs": TABS,
    }
