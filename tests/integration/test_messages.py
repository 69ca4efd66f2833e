"""Messages that go to Redis without kombu: the same as kombu's, and a stock worker consumes them."""

import json
from base64 import b64decode
from typing import Any
from uuid import uuid4

import pytest
import redis
from celery import Celery, signals
from celery.contrib.testing import tasks as _ping  # noqa: F401  # start_worker sends it
from celery.contrib.testing.worker import start_worker

from pattern_storage.config.settings import Settings
from pattern_storage.storage import ModelContractPatternStorage
from pattern_storage.storage.pattern import Pattern
from pattern_storage.tasks.client import AsyncPatternStorageClient, BrokerUnavailable, PatternStorageClient
from pattern_storage.tasks.client.outgoing import prepare
from pattern_storage.tasks.client.publisher import KombuPublisher, is_direct
from tests.fix_process import DEADLINE, wait_until
from tests.fix_servers import messages_on
from tests.fix_storage import contract, make_pattern

#: What differs between any two messages.
OWN = {"delivery_tag", "sent_at"}


def contracts() -> list[ModelContractPatternStorage]:
    identifier = "01234567-89ab-4def-8123-456789abcdef"
    return [
        contract("insert", data=make_pattern(template_code="naïve ' \\ \" 日本 \u2028\n")),
        contract("update", pattern_id=identifier, data={"usage_count": 1}),
        contract("delete", pattern_id=identifier),
        contract("batch_insert", patterns=[make_pattern(), make_pattern(context={"a": [1, 2.5, None]})]),
        contract("query", query_params={"limit": 1}),
    ]


def without_own(message: dict[str, Any]) -> dict[str, Any]:
    for part in (message["headers"], message["properties"]):
        for name in OWN & part.keys():
            assert part.pop(name)
    return message | {"body": json.loads(b64decode(message["body"]))}


def test_each_is_what_kombu_would_send(store: "redis.Redis", redis_url: str) -> None:
    asked = contracts()
    settings = Settings(redis_url=redis_url)
    assert is_direct(settings)
    found = []
    with PatternStorageClient(redis_url=redis_url) as client:
        kombu = KombuPublisher(settings, store)
        for publish in (client.submit_many, lambda some: kombu.publish([prepare(one) for one in some], DEADLINE)):
            publish(asked)
            found.append(
                [without_own(message) for queue in ("storage", "batch") for message in messages_on(store, queue)]
            )
            assert len(
                {message["properties"]["delivery_tag"] for message in found[-1] if "delivery_tag" in message}
            ) in (0, 5)
            assert {store.ttl(key) > 0 for key in store.scan_iter("celery-task-meta-*")} == {True}
            store.flushdb()
    assert found[0] == found[1]
    assert [list(message) for message in found[0]] == [list(message) for message in found[1]]


def test_only_an_id_of_the_call_is_new(store: "redis.Redis", redis_url: str) -> None:
    """Of any other, PostgreSQL may keep something already: the worker has to look."""
    identifier, own = "01234567-89ab-4def-8123-456789abcdef", uuid4()
    with PatternStorageClient(redis_url=redis_url) as client:
        client.submit_again([contract("delete", pattern_id=identifier)])
        client.submit(contract("delete", pattern_id=identifier))
        for chosen in (None, own):
            client.insert(make_pattern(), correlation_id=chosen)
            client.insert(Pattern(**make_pattern()), correlation_id=chosen)
            client.delete(identifier, correlation_id=chosen)
    found = [message["headers"]["id_is_new"] for message in messages_on(store, "storage")]
    assert found == [False] * 2 + [True] * 3 + [False] * 3


def test_a_plain_application_sends_the_same_keys(store: "redis.Redis", redis_url: str) -> None:
    """Against the day when a new Celery adds a header or a property."""
    asked = contract("delete", pattern_id="01234567-89ab-4def-8123-456789abcdef")
    with PatternStorageClient(redis_url=redis_url) as client:
        client.submit(asked)
    with Celery("plain", broker=redis_url, set_as_current=False) as plain:
        plain.send_task("storage.delete", kwargs={"contract": {}}, task_id=str(asked.correlation_id), queue="storage")
    ours, theirs = messages_on(store, "storage")
    assert ours.keys() == theirs.keys()
    assert ours["headers"].keys() - {"sent_at", "id_is_new"} == theirs["headers"].keys()
    assert ours["properties"] | {"reply_to": "", "delivery_tag": ""} == theirs["properties"] | {
        "reply_to": "", "delivery_tag": "",
    }  # fmt: skip
    described = {"argsrepr", "kwargsrepr", "sent_at", "id_is_new"}
    # None where the caller says nothing.
    assert not theirs["headers"].pop("ignore_result")
    assert not ours["headers"].pop("ignore_result")
    for name in ours["headers"].keys() - described:
        assert ours["headers"][name] == theirs["headers"][name], name


@pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")
@pytest.mark.usefixtures("log_levels_kept")
async def test_a_stock_worker_consumes_them(redis_url: str) -> None:
    app = Celery("stock", broker=redis_url, backend=redis_url, set_as_current=False)
    app.conf.update(task_default_queue="storage", result_expires=60)

    @app.task(name="storage.insert", shared=False)
    def insert(contract: dict[str, Any]) -> Any:
        return contract["data"]["pattern_name"]

    patterns = [make_pattern() for _ in range(3)]
    with start_worker(app, perform_ping_check=False, pool="solo", shutdown_timeout=DEADLINE):
        with PatternStorageClient(redis_url=redis_url) as client:
            jobs = [client.insert(pattern).correlation_id for pattern in patterns[:2]]
        async with AsyncPatternStorageClient(redis_url=redis_url) as other:
            jobs.append((await other.insert(patterns[2])).correlation_id)
        # Without AsyncResult, whose subscription would outlive the test.
        wait_until(lambda: all(app.backend.get_state(str(job)) == "SUCCESS" for job in jobs), "all have succeeded")
        assert [app.backend.get_result(str(job)) for job in jobs] == [one["pattern_name"] for one in patterns]


def test_celery_s_publish_signals_are_sent(redis_url: str) -> None:
    """An application's instrumentation adds its headers there."""
    seen: list[dict[str, Any]] = []

    def before(headers: dict[str, Any], **more: Any) -> None:
        headers["from_a_signal"] = "kept"
        seen.append(more)

    def after(**more: Any) -> None:
        seen.append(more)

    signals.before_task_publish.connect(before)
    signals.after_task_publish.connect(after)
    try:
        with PatternStorageClient(redis_url=redis_url) as client, redis.Redis.from_url(redis_url) as store:
            client.insert(make_pattern())
            [message] = messages_on(store, "storage")
    finally:
        signals.before_task_publish.disconnect(before)
        signals.after_task_publish.disconnect(after)
    assert message["headers"]["from_a_signal"] == "kept"
    assert [(one["sender"], one["routing_key"]) for one in seen] == [("storage.insert", "storage")] * 2


def test_one_round_trip(redis_url: str, store: "redis.Redis") -> None:
    with PatternStorageClient(redis_url=redis_url) as client:
        client.insert(make_pattern())
        before = store.info("commandstats")
        connections = store.info("stats")["total_connections_received"]
        for _ in range(10):
            client.insert(make_pattern())
        after = store.info("commandstats")

    def calls(stats: dict[str, Any]) -> dict[str, int]:
        return {name.removeprefix("cmdstat_"): int(values["calls"]) for name, values in stats.items()}

    asked = {name: count - calls(before).get(name, 0) for name, count in calls(after).items()}
    assert {name: count for name, count in asked.items() if count and name != "info"} == {"lpush": 10, "set": 10}
    assert store.info("stats")["total_connections_received"] == connections


@pytest.mark.parametrize("number", [1, 3])
async def test_a_server_that_refuses_connections_is_named_at_once(absent_url: str, number: int) -> None:
    """Two attempts and no pause: redis-py's own retries would take seconds."""
    asked = [contract("insert", data=make_pattern()) for _ in range(number)]
    with PatternStorageClient(redis_url=absent_url) as client, pytest.raises(BrokerUnavailable, match="queue"):
        client.submit_many(asked)
    async with AsyncPatternStorageClient(redis_url=absent_url) as other:
        with pytest.raises(BrokerUnavailable, match="queue"):
            await other.submit_many(asked)


async def test_a_server_that_refuses_messages(lone_valkey: Any) -> None:
    with redis.Redis.from_url(lone_valkey.url) as store:
        store.config_set("maxmemory", 1)
        with (
            PatternStorageClient(redis_url=lone_valkey.url) as client,
            pytest.raises(BrokerUnavailable, match="memory"),
        ):
            client.insert(make_pattern())
        async with AsyncPatternStorageClient(redis_url=lone_valkey.url) as other:
            with pytest.raises(BrokerUnavailable, match="memory"):
                await other.insert(make_pattern())
        store.config_set("maxmemory", 0)
        # Not QUEUED either: a refused job is none.
        assert store.keys() == []
