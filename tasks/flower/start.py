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

#: Connections of kombu, each two of Redis, with which Flower asks workers. It asks eight questions at once, which then
#: take turns: Celery's ten came to twenty connections for a page that is opened now and then.
POOL_LIMIT = 4


def configure(app: Celery) -> None:
    """Give Flower our options before it reads its command line, which may change them; see `tasks/celery_command.py`.

    Raises SettingsInvalid if there is no password, no broker or one that can never do, or no place for Flower's file.
    """
    settings = environment_settings()
    _ = app.conf.broker_url  # a missing URL is a sentence here, and a traceback in Flower
    check_redis(settings)
    # It writes a line for each attempt to connect; ours says once that events are not heard.
    logging.getLogger("kombu.mixins").setLevel(logging.WARNING)
    # It has a traceback for each look at a server that refuses.
    logging.getLogger("kombu.transport.redis").setLevel(logging.ERROR)
    app.conf.broker_pool_limit = POOL_LIMIT
    # A question leaves on the connection that its answers come on, not on another one of the same pool.
    control: Any = app.control
    control.mailbox.producer_pool = None
    set_options(flower_options(settings))
    make_folder(settings)
    os.umask(0o077)  # what Flower writes, nobody else reads
    _install(settings)


def set_options(values: dict[str, Any]) -> None:
    """Set Flower's options by name, so that only its command line may say otherwise."""
    from flower.options import options

    for name, value in values.items():
        # It would win over the settings; and Kubernetes sets FLOWER_PORT to a URL for a service called flower.
        os.environ.pop(f"FLOWER_{name.upper()}", None)
        setattr(options, name, value)
    # A file of Flower's default name in the folder we stand in would be run. `--conf` names one that is meant.
    options.conf = os.devnull


def make_folder(settings: Settings) -> None:
    """Make the folder of Flower's file, and see that it can be written. Raises SettingsInvalid."""
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
    """Let Flower's loop end at its next turn, also if it has not begun yet.

    Flower's own handler raises SystemExit wherever the signal finds it. Where that is in the middle of starting a
    thread of its pool, nobody knows the thread, and the process waits for it for good.
    """
    loop = asyncio.get_event_loop()  # Tornado's
    loop.call_soon_threadsafe(logger.info, "signal %s: Flower stops", signum)
    loop.call_soon_threadsafe(loop.stop)


def _install(settings: Settings) -> None:
    from flower import app, command, events, urls
    from flower.views import tasks

    from pattern_storage.tasks.flower import access
    from pattern_storage.tasks.flower.backend import Backend
    from pattern_storage.tasks.flower.handlers import HANDLERS
    from pattern_storage.tasks.flower.own_list import search_jobs
    from pattern_storage.tasks.flower.pages.routes import ROUTES, TABS
    from pattern_storage.tasks.flower.receiver import ValidatingReceiver
    from pattern_storage.tasks.flower.task import FlowerTask
    from pattern_storage.tasks.flower.templates_loader import create_loader
    from pattern_storage.tasks.flower.worker_inspector import WorkerInspector, enable_events

    command.sigterm_handler = stop_loop
    events.EventReceiver = ValidatingReceiver
    events.EventsState.Task = FlowerTask
    events.Events.on_enable_events = enable_events
    app.Inspector = WorkerInspector
    tasks.search_tasks = search_jobs
    access.install()
    urls.handlers[:0] = [*HANDLERS, *ROUTES]  # the first that matches answers
    urls.settings |= {
        "template_loader": create_loader(urls.settings["template_path"]),
        "pattern_storage_backend": Backend(settings),
        "pattern_storage_roles": logins(settings),
        "pattern_storage_tabs": TABS,
    }
