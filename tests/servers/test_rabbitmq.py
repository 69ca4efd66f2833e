"""RabbitMQ as the queue: quorum queues, retries that wait in the broker, and messages that come again."""

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import amqp
import pytest
from celery import Celery

from pattern_storage.config.celeryconfig import QUEUES
from pattern_storage.tasks.client import BrokerUnavailable, PatternStorageClient
from tests.fix_celery import BLOCKED, locked_patterns, worker_connections
from tests.fix_cli import run_script
from tests.fix_everything import PATIENT, do_everything
from tests.fix_faults import SOON, Launch, crash, start_again
from tests.fix_load import Load
from tests.fix_process import DEADLINE, StartProcess, wait_until
from tests.fix_proxy import ProxyTo, through
from tests.fix_rabbitmq import RabbitMQ
from tests.fix_storage import make_pattern


@pytest.fixture
def on_rabbitmq(rabbitmq: RabbitMQ) -> dict[str, str]:
    """What workers and relays need to use it; results stay in Redis."""
    with rabbitmq.channel() as channel:
        for queue in QUEUES:
            channel.queue_delete(queue)
    return {"BROKER_URL": rabbitmq.url}


@pytest.fixture
def rabbit_load(database_url: str, redis_url: str, on_rabbitmq: dict[str, str]) -> Iterator[Load]:
    client = PatternStorageClient(redis_url=redis_url, broker_url=on_rabbitmq["BROKER_URL"])
    with closing(Load(database_url, redis_url, client=client)) as opened:
        yield opened


def settled(load: Load, rabbitmq: RabbitMQ, number: int) -> None:
    """Every job has ended in one way, and no message is left."""
    # Two processes and a broker begin anew, which takes a busy machine its time.
    assert load.settle(180.0).counts == {"done": number}
    for queue in ("storage", "batch"):
        wait_until(lambda queue=queue: rabbitmq.waiting(queue) == 0, f"{queue} is empty")  # type: ignore[misc]


def test_everything(
    rabbitmq: RabbitMQ, rabbit_load: Load, on_rabbitmq: dict[str, str], launch: Launch, start_process: StartProcess
) -> None:
    urls: dict[str, Any] = {"DATABASE_URL": rabbit_load.database_url, "REDIS_URL": rabbit_load.redis_url, **on_rabbitmq}
    worker = launch(rabbit_load.database_url, rabbit_load.redis_url, env=on_rabbitmq | PATIENT)
    start_process("pattern_storage", "relay", **urls)
    do_everything(rabbit_load.client, rabbit_load.database_url)
    assert run_script("health", "worker", "--name", worker.hostname(), **urls).code == 0
    assert run_script("health", "relay", **urls).code == 0
    assert "Global QoS is disabled" in worker.logs()
    # A quorum queue refuses the global QoS that Celery would ask for otherwise.
    with rabbitmq.channel() as channel, pytest.raises(amqp.PreconditionFailed, match="x-queue-type"):
        channel.queue_declare("storage", durable=True, auto_delete=False)


@pytest.mark.parametrize(("prefetch", "most"), [(4, 98), (128, 25)])
def test_jobs_at_hand_are_executed_in_groups(
    rabbitmq: RabbitMQ, rabbit_load: Load, on_rabbitmq: dict[str, str], launch: Launch, prefetch: int, most: int
) -> None:
    """Those that the worker receives while its only process is busy, as many as the prefetch limit lets it have."""
    environment = on_rabbitmq | {"PATTERN_STORAGE_PREFETCH_MULTIPLIER": str(prefetch)}
    with locked_patterns(rabbit_load.database_url):
        rabbit_load.submit([rabbit_load.batch(2)])
        launch(rabbit_load.database_url, rabbit_load.redis_url, concurrency=1, env=environment)
        wait_until(lambda: worker_connections(rabbit_load.database_url, BLOCKED), "a batch waits for the table")
        rabbit_load.submit(rabbit_load.inserts(100))
        left = max(0, 100 - prefetch)
        wait_until(lambda: rabbitmq.waiting("storage") == left, "the worker has as many as it may")
    settled(rabbit_load, rabbitmq, 101)
    assert rabbit_load.transactions() <= most


def test_workers_and_broker_killed_under_load(
    rabbitmq: RabbitMQ, rabbit_load: Load, on_rabbitmq: dict[str, str], launch: Launch
) -> None:
    """What a killed worker held comes again at once; what a killed broker had confirmed is on its disk."""
    worker = launch(rabbit_load.database_url, rabbit_load.redis_url, env=SOON | on_rabbitmq)
    rabbit_load.submit(rabbit_load.mixed(300))
    for kill in range(3):
        rabbit_load.wait_done(40 * kill + 20)
        crash(worker)
        start_again(worker)
    rabbit_load.wait_done(160)
    rabbitmq.restart()
    settled(rabbit_load, rabbitmq, 300)


def test_a_job_that_always_kills_its_worker_ends(
    rabbitmq: RabbitMQ, rabbit_load: Load, on_rabbitmq: dict[str, str], launch: Launch
) -> None:
    """RabbitMQ says that a message comes again; PostgreSQL counts how often."""
    limits = {"PATTERN_STORAGE_MAX_ATTEMPTS": "2", "PATTERN_STORAGE_LOCK_TIMEOUT": "60"}
    worker = launch(rabbit_load.database_url, rabbit_load.redis_url, env=on_rabbitmq | limits)
    with locked_patterns(rabbit_load.database_url), rabbit_load.connect() as connection:
        job = rabbit_load.client.insert(make_pattern())
        for _ in range(2):
            [begun] = wait_until(lambda: worker_connections(rabbit_load.database_url, BLOCKED), "the job has begun")
            crash(worker)
            # PostgreSQL does not look for a client while it waits for a lock.
            connection.execute("SELECT pg_terminate_backend(%s, 10000)", [begun])
            start_again(worker)
        result = job.result(DEADLINE)
    assert (result.metadata["error_type"], result.metadata["dead_letter"]) == ("worker_lost", True)


def test_another_application_sends_by_name(
    rabbitmq: RabbitMQ, rabbit_load: Load, on_rabbitmq: dict[str, str], launch: Launch
) -> None:
    """It names the exchange, and so leaves it to our workers to say what kind of queue it is."""
    launch(rabbit_load.database_url, rabbit_load.redis_url, env=on_rabbitmq)
    with Celery("plain", broker=rabbitmq.url, backend=rabbit_load.redis_url, set_as_current=False) as app:
        result = app.send_task(
            "storage.insert", kwargs={"contract": {"data": make_pattern()}}, exchange="storage", routing_key="storage"
        )
        assert result.get(timeout=DEADLINE)["success"]


def test_a_silent_broker(rabbitmq: RabbitMQ, on_rabbitmq: dict[str, str], redis_url: str, proxy_to: ProxyTo) -> None:
    """One that takes a message and never confirms it is reported as down, and a job is sent once it is back."""
    proxy = proxy_to(rabbitmq.url)
    urls: dict[str, Any] = {"redis_url": redis_url, "broker_url": through(rabbitmq.url, proxy)}
    with PatternStorageClient(connect_timeout=1, **urls) as client:
        client.insert(make_pattern())
        proxy.stall()
        with pytest.raises(BrokerUnavailable):
            client.insert(make_pattern())
        proxy.flow()
        wait_until(lambda: client.insert(make_pattern()), "the broker is back")
