"""Celery's settings, and what a person sees who starts Celery with wrong ones."""

import pytest
from celery import Celery
from celery.utils.imports import symbol_by_name
from pydantic import SecretStr

from pattern_storage.config.celeryconfig import QUEUES, celery_settings, queue_of
from pattern_storage.config.sentinel import read_address
from pattern_storage.config.settings import Settings, SettingsInvalid
from pattern_storage.tasks.imports.plan.beat import ImportScheduler

URL = "redis://127.0.0.1:1/0"


@pytest.fixture
def settings() -> Settings:
    return Settings(
        database_url="postgresql:///db",
        redis_url=URL,
        visibility_timeout=700,
        task_soft_time_limit=10,
        task_time_limit=20,
        prefetch_multiplier=7,
        group_size=3,
        connect_timeout=2.5,
        result_expires=60,
        track_started=False,
    )


def test_values_come_from_the_settings(settings: Settings) -> None:
    found = celery_settings(settings)
    assert (found["broker_url"], found["result_backend"]) == (URL, URL)
    assert found["broker_transport_options"]["visibility_timeout"] == 700
    assert (found["task_soft_time_limit"], found["task_time_limit"]) == (10, 20)
    assert (found["worker_prefetch_multiplier"], found["result_expires"], found["task_track_started"]) == (7, 60, False)
    # The next group waits while one is executed.
    wide = celery_settings(settings.model_copy(update={"group_size": 32}))
    assert wide["worker_prefetch_multiplier"] == 64
    alone = settings.model_copy(update={"group_size": 32, "group_execution": False})
    assert celery_settings(alone)["worker_prefetch_multiplier"] == 7
    assert found["broker_connection_timeout"] == found["redis_socket_connect_timeout"] == 2.5
    assert found["broker_transport_options"]["socket_connect_timeout"] == 2.5


def test_rabbitmq_keeps_jobs_in_quorum_queues(settings: Settings) -> None:
    found = celery_settings(settings.model_copy(update={"broker_url": "amqp://guest:guest@host//"}))
    assert found["broker_url"] == "amqp://guest:guest@host//"
    assert found["broker_transport_options"] == {"confirm_publish": True}
    assert {queue.queue_arguments["x-queue-type"] for queue in found["task_queues"]} == {"quorum"}
    # Celery leaves retries in a worker's memory for a direct one.
    assert {queue.exchange.type for queue in found["task_queues"]} == {"topic"}


def test_sentinels_are_asked_for_the_primary(settings: Settings) -> None:
    behind = {
        "redis_url": "sentinel://:pw@a:1/0;sentinel://b:2",
        "sentinel_master": "m",
        "sentinel_password": SecretStr("s"),
    }
    found = celery_settings(settings.model_copy(update=behind))
    for options in (found["broker_transport_options"], found["result_backend_transport_options"]):
        assert options["master_name"] == "m"
        assert options["sentinel_kwargs"]["password"] == "s"
        # They are asked one after the other.
        assert options["sentinel_kwargs"]["socket_timeout"] == settings.connect_timeout / 2
    assert found["broker_transport_options"]["visibility_timeout"] == 700
    assert celery_settings(settings)["result_backend_transport_options"] == {"global_keyprefix": ""}


def test_a_url_of_sentinels() -> None:
    found = read_address("sentinel://u:p%40w@a:1/3;sentinel://b")
    assert found.sentinels == [("a", 1), ("b", 26379)]
    assert found.credentials == {"db": 3, "username": "u", "password": "p@w"}


def test_nothing_but_json(settings: Settings) -> None:
    found = celery_settings(settings)
    assert found["accept_content"] == found["result_accept_content"] == ["json"]
    assert found["task_serializer"] == found["result_serializer"] == "json"


def test_a_crash_loses_no_job(settings: Settings) -> None:
    found = celery_settings(settings)
    assert found["task_acks_late"] is True
    assert found["task_retry_on_worker_lost"] is True


def test_celery_knows_every_setting(settings: Settings) -> None:
    """A misspelt one would be ignored without a word."""
    known = set(Celery(set_as_current=False).conf.table(with_defaults=True))
    # Read by Celery's Redis backend, and documented, but not in the table.
    known.add("redis_backend_health_check_interval")
    assert celery_settings(settings).keys() - known == set()


def test_queues(settings: Settings) -> None:
    queues = celery_settings(settings)["task_queues"]
    assert [queue.name for queue in queues] == list(QUEUES) == ["storage", "batch", "imports"]
    assert all(queue.name == queue.routing_key == queue.exchange.name for queue in queues)
    assert {queue_of(name) for name in ("insert", "update", "delete", "query")} == {"storage"}
    assert queue_of("batch_insert") == "batch"


def test_housekeeping_and_imports(settings: Settings) -> None:
    found = celery_settings(settings)
    tasks = {entry["task"] for entry in found["beat_schedule"].values()}
    assert tasks == {"maintenance.purge_ledger", "maintenance.purge_imports", "maintenance.sweep_outbox"}
    assert found["task_routes"]["imports.run"] == {"queue": "imports"}
    assert symbol_by_name(found["beat_scheduler"]) is ImportScheduler


def test_no_server() -> None:
    with pytest.raises(SettingsInvalid, match="REDIS_URL is not set"):
        celery_settings(Settings())
