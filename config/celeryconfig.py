"""Celery's settings, in one place and with reasons.

Their names and defaults: https://docs.celeryq.dev/en/stable/userguide/configuration.html
"""

from typing import Any

from kombu import Exchange, Queue

from pattern_storage.config import broker, sentinel
from pattern_storage.config.settings import Settings
from pattern_storage.config.urls import is_socket
from pattern_storage.vocabulary import IMPORT_OPERATION, OperationName

#: Single operations, batches and imports have a queue each: where workers are split with `-Q`, a long job never delays
#: a short one.
QUEUES = ("storage", "batch", "imports")

IMPORT_TASK = "imports.run"
#: The operation of each task, by which time limits and metrics name a job.
OPERATION_OF_TASK = {f"storage.{name}": str(name) for name in OperationName} | {IMPORT_TASK: IMPORT_OPERATION}

#: Seconds between two purges of the ledger, and of the history of imports: short, so that each has little to do.
PURGE_INTERVAL = 3_600.0
#: Seconds between two sweeps of the outbox, for a deployment without a relay.
SWEEP_INTERVAL = 60.0


def queue_of(operation: str) -> str:
    """Return the queue of the jobs of this operation."""
    return "batch" if operation == OperationName.BATCH_INSERT else "storage"


def celery_settings(settings: Settings) -> dict[str, Any]:
    """Return Celery's configuration. Raises SettingsInvalid if a server's URL is missing."""
    return {
        "broker_url": settings.broker,
        "result_backend": settings.result_backend,
        "imports": (
            "pattern_storage.tasks.worker.operations",
            "pattern_storage.tasks.worker.maintenance",
            "pattern_storage.tasks.relay",
            "pattern_storage.tasks.imports.run.task",
        ),
        # JSON only: unpickling a message runs any code that is in it.
        "task_serializer": "json",
        "result_serializer": "json",
        "accept_content": ["json"],
        "result_accept_content": ["json"],
        "task_queues": [_queue(settings.broker_kind, name) for name in QUEUES],
        "task_default_queue": QUEUES[0],
        "task_routes": {
            f"storage.{OperationName.BATCH_INSERT}": {"queue": queue_of(OperationName.BATCH_INSERT)},
            IMPORT_TASK: {"queue": "imports"},
        },
        # Acknowledge a job after it is done, so that a crash delivers it again instead of losing it.
        "task_acks_late": True,
        # The job of a worker process that is killed is retried, a bounded number of times (Celery 5.7).
        "task_retry_on_worker_lost": True,
        "worker_prefetch_multiplier": settings.prefetch,
        "task_soft_time_limit": settings.task_soft_time_limit,
        "task_time_limit": settings.task_time_limit,
        "task_annotations": {
            task: dict(zip(("soft_time_limit", "time_limit"), settings.time_limits(operation), strict=True))
            for task, operation in OPERATION_OF_TASK.items()
        },
        "worker_soft_shutdown_timeout": settings.soft_shutdown_timeout,
        "broker_transport_options": broker.transport_options(settings),
        "result_backend_transport_options": {
            "global_keyprefix": settings.key_prefix,
            **sentinel.transport_options(settings, settings.result_backend),
        },
        "broker_connection_timeout": settings.connect_timeout,
        # A worker that starts before its broker waits for it, as after a power cut.
        "broker_connection_retry_on_startup": True,
        # No limit: Celery's default of 100 attempts is used up after 50 minutes.
        "broker_connection_max_retries": None,
        "redis_socket_connect_timeout": settings.connect_timeout,
        # A server that accepts connections and never answers is down too.
        "redis_socket_timeout": max(settings.connect_timeout, 2.0),
        "redis_socket_keepalive": not is_socket(settings.result_backend),
        "redis_backend_health_check_interval": 30,
        "result_expires": settings.result_expires,
        # A job that has committed must not be reported as failed because Redis was down when its result was stored.
        "result_backend_always_retry": True,
        "task_track_started": settings.track_started,
        # Validates messages before Celery uses them.
        "worker_consumer": "pattern_storage.tasks.worker.consumer:Consumer",
        # Flower and `celery events` read these.
        "worker_send_task_events": True,
        "task_send_sent_event": True,
        "beat_schedule": {
            "purge the ledger": {"task": "maintenance.purge_ledger", "schedule": PURGE_INTERVAL},
            "purge the history of imports": {"task": "maintenance.purge_imports", "schedule": PURGE_INTERVAL},
            "sweep the outbox": {
                "task": "maintenance.sweep_outbox",
                "schedule": SWEEP_INTERVAL,
                # After that the next sweep does its work.
                "options": {"expires": SWEEP_INTERVAL},
            },
        },
        # Celery's own schedule, and the imports of the imports file.
        "beat_scheduler": "pattern_storage.tasks.imports.plan.beat:ImportScheduler",
        "timezone": "UTC",
        "enable_utc": True,
    }


def _queue(kind: broker.Broker, name: str) -> Queue:
    exchange = Exchange(name, type=kind.exchange_type)
    return Queue(name, exchange, routing_key=name, queue_arguments=kind.queue_arguments)
