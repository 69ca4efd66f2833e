"""Messages that are none: each is refused once, with one line that says where it went, and the worker goes on."""

import base64
import json
from typing import Any
from uuid import uuid4

import pytest
import redis
from celery import Celery

from pattern_storage import PatternStorageClient
from pattern_storage.config.broker import UNACKED_KEYS
from tests.fix_celery import StartWorker
from tests.fix_process import DEADLINE, wait_until

SECRET = "def top_secret(): pass"
CALL: Any = [
    [],
    {"contract": {"query_params": {}}},
    {"callbacks": None, "errbacks": None, "chain": None, "chord": None},
]


def message(body: Any = CALL, headers: Any = None, /, **outer: Any) -> dict[str, Any]:
    """A task message as kombu has it in Redis; `headers` are added to its own."""
    job = str(uuid4())
    given = {"task": "storage.query", "id": job, "lang": "py", "argsrepr": "", "kwargsrepr": SECRET}
    delivery_info = {"exchange": "storage", "routing_key": "storage"}
    return {
        "body": base64.b64encode(body if isinstance(body, bytes) else json.dumps(body).encode()).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": given | headers if isinstance(headers, dict | None) and headers is not None else given,
        "properties": {
            "delivery_tag": job, "delivery_info": delivery_info, "body_encoding": "base64", "correlation_id": job,
            "delivery_mode": 2, "priority": 0, "reply_to": None,
        },
    } | outer  # fmt: skip


def protocol_1(**fields: Any) -> dict[str, Any]:
    job = {"task": "storage.query", "id": str(uuid4()), "args": [], "kwargs": {"contract": {}}} | fields
    return message(job) | {"headers": {}}


def with_properties(**fields: Any) -> dict[str, Any]:
    whole = message()
    return whole | {"properties": whole["properties"] | fields}


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


#: By what is wrong.
HEADER_VALUES: dict[str, list[Any]] = {
    "task": [5, [], {}, None, "", "storage.query\nforged"],
    "id": [5, [], None, "", "a\nb"],
    "shadow": [5, ["x"], "line\nbreak", "\u2028"],
    "eta": ["", 5, "tomorrow", [], {}],
    "expires": ["", "soon", [], True],
    "timelimit": [5, "ab", [], [1], ["a", "b"], [1, 2, 3], [-1, None], [float("nan"), 1], [1e300, 1], {}],
    "retries": ["5", -1, 1.5, [], True, 2**40],
    "stamped_headers": [5, "ab", [5]],
    "stamps": [5, []],
    "group": [5, []],
    "group_index": ["a", []],
    "root_id": [5, {}],
    "parent_id": [[]],
    "replaced_task_nesting": ["a"],
    "ignore_result": ["no", 5],
    "argsrepr": [5],
    "kwargsrepr": [[]],
    "origin": [5],
    "lang": [5],
    "compression": ["none-of-ours", 5],
}
BODIES: dict[str, Any] = {
    "empty": b"", "no JSON": b"garbage", "not UTF-8": b"\xff\xfe", "null": None, "a number": 5, "a list": [],
    "two": [[], {}], "four": [[], {}, {}, {}], "no arguments": [5, {}, {}], "no keywords": [[], 5, {}],
    "keywords of numbers": b'[[], [], {}]', "no embed": [[], {}, 5], "an object": {"a": 1},
    "callbacks": [[], {}, {"callbacks": 5}], "errbacks": [[], {}, {"errbacks": ["x"]}],
    "chain": [[], {}, {"chain": 5}], "chord": [[], {}, {"chord": 5}], "deep": json.dumps(nested(500)).encode(),
    "keywords nested deeper than a process of a pool can be told": [[], {"contract": nested(600)}, {"callbacks": []}],
    "deeper": ("[" * 100_000 + "]" * 100_000).encode(),
}  # fmt: skip
OTHERS: dict[str, Any] = {
    "headers are a list": message() | {"headers": [1]},
    "headers are a text": message() | {"headers": "text"},
    "headers are a number": message() | {"headers": 5},
    "headers are an empty list": message() | {"headers": []},
    "no headers": {name: value for name, value in message().items() if name != "headers"},
    "a body that is no base64": message() | {"body": "a"},
    "a body that is a number": message() | {"body": 5},
    "a body that is a list": message() | {"body": ["a"]},
    "no body": {name: value for name, value in message().items() if name != "body"},
    "an encoding of the body that nobody knows": with_properties(body_encoding="rot13"),
    "an encoding of the body that is a list": with_properties(body_encoding=[]) | {"body": ["a"]},
    "content type is a number": message() | {"content-type": 5},
    "content type is a list": message() | {"content-type": ["application/json"]},
    "content type is pickle": message() | {"content-type": "application/x-python-serialize"},
    "content encoding is a number": message() | {"content-encoding": 5},
    "correlation id is a number": with_properties(correlation_id=5),
    "reply_to is a list": with_properties(reply_to=[]),
    "priority is a text": with_properties(priority="high"),
    "kombu's own type that is none": message(None, {"x": {"__type__": "datetime", "__value__": 5}}),
    "protocol 1, no task": protocol_1(task=None),
    "protocol 1, no id": protocol_1(id=None),
    "protocol 1, arguments": protocol_1(args=5),
    "protocol 1, keywords": protocol_1(kwargs=[]),
    "protocol 1, eta": protocol_1(eta=""),
    "protocol 1, timelimit": protocol_1(timelimit=5),
    "protocol 1, callbacks": protocol_1(callbacks=5),
    "protocol 1, utc": protocol_1(utc="x"),
    "protocol 1, taskset": protocol_1(taskset=[]),
    "both protocols": message({"args": 5, "kwargs": {}}),
}
RAW: dict[str, bytes] = {
    "no JSON": b"nonsense",
    "no tag": b'{"properties": {}}',
    "a list": b"[]",
    "null": b"null",
    "headers nested deeper than Python reads": json.dumps(message()).encode().replace(
        b'"py"', b"[" * 950 + b"]" * 950
    ),
    "headers nested deeper than a process of a pool can be told": json.dumps(message()).encode().replace(
        b'"py"', b"[" * 600 + b"]" * 600
    ),
}  # fmt: skip


def every_case() -> dict[str, bytes]:
    cases: dict[str, Any] = {
        f"header {name}={value!r}": message(CALL, {name: value})
        for name, values in HEADER_VALUES.items()
        for value in values
    }
    cases |= {f"body: {name}": message(body) for name, body in BODIES.items()}
    cases |= OTHERS
    return {name: json.dumps(case).encode() for name, case in cases.items()} | {f"raw: {n}": r for n, r in RAW.items()}


BROADCASTS: dict[str, Any] = {
    "null": None, "a list": [], "a number": 5, "headers are a list": message([], []) | {"headers": [1]},
    "no properties": {}, "no base64": message() | {"body": "a"}, "body null": message(None), "body list": message([]),
    "no method": message({"arguments": {}}), "method is a list": message({"method": []}),
    "no exchange to reply to": message({"method": "ping", "reply_to": {"exchange": 5, "routing_key": "a"}}),
    "no such method": message({"method": "unheard_of"}), "arguments": message({"method": "ping", "arguments": 5}),
    "wrong arguments": message({"method": "ping", "arguments": {"a": 1}}),
    "destination": message({"method": "ping", "destination": 5}),
    "reply_to": message({"method": "ping", "reply_to": 5}),
    "empty reply_to": message({"method": "ping", "reply_to": {"a": 5}}),
    "clock": message({"method": "ping"}, {"clock": "x"}),
    "pattern": message({"method": "ping", "pattern": 5, "matcher": 5}), "no JSON": b"garbage", "no UTF-8": b"\xff",
    "deep": b"[" * 100_000,
}  # fmt: skip


def broadcast(store: redis.Redis, exchange: str, routing_key: str = "") -> None:
    number = store.connection_pool.connection_kwargs["db"]
    topic = f"/{number}.{exchange}" + (f"/{routing_key}" if routing_key else "")
    for value in BROADCASTS.values():
        if isinstance(value, dict) and "properties" in value:
            info = {"exchange": exchange, "routing_key": routing_key}
            sent = json.dumps(value | {"properties": value["properties"] | {"delivery_info": info}}).encode()
        else:
            sent = value if isinstance(value, bytes) else json.dumps(value).encode()
        store.publish(topic, sent)


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_each_malformed_message_is_refused_once(
    start_worker: StartWorker, client: PatternStorageClient, redis_url: str, pool: str
) -> None:
    cases = every_case()
    with redis.Redis.from_url(redis_url) as store:
        store.lpush("storage", *cases.values())
        worker = start_worker(pool=pool)
        pid = worker.pid
        good = [
            client.insert({"pattern_name": f"p{n}", "pattern_type": "t", "language": "l", "template_code": "x"})
            for n in range(3)
        ]
        assert all(job.result(DEADLINE).success for job in good)
        # The queue was served in order.
        aside = store.lrange("storage.unreadable", 0, -1)
        for name, case in cases.items():
            tag = json.loads(case)["properties"]["delivery_tag"].encode() if not name.startswith("raw") else case
            assert any(tag in one for one in aside), name
        wait_until(lambda: not store.exists(*UNACKED_KEYS.values()), "nothing is unacked")
        assert store.llen("storage.unreadable") == len(cases)
    log = worker.logs()
    assert worker.pid == pid
    lines = [line for line in log.splitlines() if "refused" in line]
    raw = len(RAW)
    assert len(cases) - raw < len(lines) <= len(cases)
    assert all("kept in the" in line for line in lines)
    assert "Traceback" not in log
    assert "top_secret" not in log
    assert "forged" not in log
    assert worker.stop() == 0


def test_no_broadcast_ends_a_worker(start_worker: StartWorker, client: PatternStorageClient, redis_url: str) -> None:
    worker = start_worker(options=("--without-mingle",))
    with redis.Redis.from_url(redis_url) as store:
        wait_until(lambda: store.pubsub_numpat() >= 2, "it listens to remote control and to events")
        broadcast(store, "celery.pidbox")
        for routing_key in ("worker.heartbeat", "worker.elect", "worker.elect.ack", ""):
            broadcast(store, "celeryev", routing_key)
    with Celery("plain", broker=redis_url, set_as_current=False) as app:
        assert app.control.ping(timeout=DEADLINE, limit=1), "it answers as before"
    assert client.query().result(DEADLINE).success
    log = worker.logs()
    for kind in ("a remote control message", "an event", "a broadcast"):
        assert log.count(f"refused {kind}") >= 5, kind
    assert "Traceback" not in log
    assert "Unrecoverable" not in log
    assert "connection to broker lost" not in log.lower()
    assert worker.stop() == 0
