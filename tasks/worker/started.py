"""The state STARTED, which is stored only for jobs that are still running after half a second: most have ended."""

from collections.abc import Iterable
from typing import cast

from celery import current_app
from celery.exceptions import SoftTimeLimitExceeded
from celery.states import STARTED

from pattern_storage.config.settings import environment_settings
from pattern_storage.storage.logs import get_logger
from pattern_storage.tasks.worker.result_backend import StorageRedisBackend

logger = get_logger(__name__)


def mark_started(ids: Iterable[str]) -> None:
    """Store that these jobs are running. An error is logged and has no other consequence."""
    if not environment_settings().track_started:
        return
    try:
        cast("StorageRedisBackend", current_app.backend).store_many((job_id, {}, STARTED, None) for job_id in ids)
    except SoftTimeLimitExceeded:
        raise
    except Exception as error:
        logger.warning("cannot store that jobs have started: %s", error)
