"""What a worker tells about its connection to whoever asks."""

from types import SimpleNamespace

from celery.worker.consumer import Connection as ConnectionStep
from kombu import Connection as Broker

from pattern_storage.config.celeryconfig import celery_settings
from pattern_storage.config.settings import load_settings
from pattern_storage.tasks.worker.consumer import Consumer


def test_inspect_stats_has_no_password() -> None:
    settings = load_settings(
        redis_url="sentinel://:redis-secret@127.0.0.1:1/0;sentinel://:redis-secret@127.0.0.1:2/0",
        sentinel_password="sentinel-secret",
    )
    found = celery_settings(settings)
    broker = Broker(found["broker_url"], transport_options=found["broker_transport_options"])
    steps = [ConnectionStep.__new__(ConnectionStep)]
    told = Consumer.Blueprint().info(SimpleNamespace(connection=broker, steps=steps))
    assert told["broker"]["transport_options"]["master_name"] == "mymaster"
    assert "secret" not in repr(told)
