"""Channels of the transport as kombu's others are: simple queues, prefixes, broadcasts, limits, and closing."""

import time
from typing import Any

import pytest
import redis
from kombu import Connection, Consumer, Exchange, Queue

from pattern_storage.tasks.transport import transport
from pattern_storage.tasks.transport.channel import Channel
from tests.fix_process import wait_until
from tests.fix_reader import OURS, Open, acknowledged, publish, where
from tests.fix_servers import Store


def test_single_messages_and_simple_queues(store: Store, redis_url: str) -> None:
    with Connection(redis_url, transport=OURS) as connection, connection.SimpleQueue("simple") as simple:
        channel: Any = connection.channel()
        simple.put({"n": 1})
        simple.put({"n": 2})
        first = simple.get(timeout=5)
        assert store.hlen("unacked") == 1
        second = simple.get_nowait()
        assert [first.payload["n"], second.payload["n"]] == [1, 2]
        assert store.hlen("unacked") == 2
        first.ack()
        second.ack()
        assert not store.exists("unacked", "unacked_index", "simple.claimed")
        with pytest.raises(simple.Empty):
            simple.get_nowait()
        begun = time.monotonic()
        with pytest.raises(simple.Empty):
            simple.get(timeout=0.3)
        assert time.monotonic() - begun > 0.25
        simple.put({"n": 3})
        assert channel.basic_get("simple", no_ack=True).payload == {"n": 3}
        assert not store.exists("unacked")


def test_a_global_prefix_is_before_every_key(store: Store, redis_url: str, read: Open) -> None:
    options = {"global_keyprefix": "mine:"}
    publish(redis_url, "q", [1, 2], transport_options=options)
    got: list[Any] = []
    reader = read(["q"], got.append, loop=True, **options)
    reader.steps(lambda: len(got) == 2)
    publish(redis_url, "q", [3], transport_options=options)
    reader.steps(lambda: len(got) == 3)
    assert store.hlen("mine:unacked") == 3
    got[0].reject(requeue=True)
    reader.steps(lambda: len(got) == 4)
    for message in got[1:]:
        message.ack()
    reader.step()
    assert all(key.startswith(b"mine:") for key in store.scan_iter())


def test_broadcasts_arrive_beside_messages(redis_url: str, read: Open) -> None:
    got: list[str] = []
    exchange = Exchange("all", type="fanout")
    for loop in (False, True):
        reader = read(["q"], acknowledged(got), loop=loop)
        queue = Queue(f"listener-{loop}", exchange, auto_delete=True)
        with Consumer(reader.channel, [queue], callbacks=[lambda body, message: got.append(body)], no_ack=True):
            reader.step()
            with Connection(redis_url, transport=OURS) as connection:
                connection.Producer().publish("broadcast", exchange=exchange, declare=[exchange])
            publish(redis_url, "q", ["message"])
            reader.steps(lambda: {"broadcast", "message"} <= set(got))
        got.clear()
        reader.close()


def test_cancelling_and_closing_leave_everything_in_the_queue(store: Store, redis_url: str, read: Open) -> None:
    publish(redis_url, "q", range(10))
    got: list[Any] = []
    reader = read(["q", "r"], got.append, loop=True, claim_ahead=True, prefetch=20)
    reader.steps(lambda: len(got) == 10)
    for _ in range(3):
        reader.step()
    reader.consumer.cancel_by_queue("q")
    publish(redis_url, "q", [10])
    for _ in range(3):
        reader.step()
    assert where(store, "q")["queue"] == [10]
    for message in got[:5]:
        message.ack()
    reader.close()
    # kombu restores what was delivered and not acknowledged when it closes.
    assert sorted(where(store, "q")["queue"]) == [5, 6, 7, 8, 9, 10]
    assert not store.exists("unacked", "unacked_index", "q.claimed")


def test_a_queue_with_a_limit_of_its_own(redis_url: str, read: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of long jobs a worker takes few ahead, and of short ones as many as ever."""
    monkeypatch.setattr(Channel, "queue_prefetch", {"long": 3})
    publish(redis_url, "long", [f"long {number}" for number in range(10)])
    publish(redis_url, "short", [f"short {number}" for number in range(10)])
    got: list[Any] = []
    reader = read(["long", "short"], got.append, loop=True, claim_ahead=True, prefetch=50)
    reader.steps(lambda: len(got) == 13)
    for _ in range(5):
        reader.step()
    long = [message for message in got if message.payload.startswith("long")]
    assert (len(got), len(long)) == (13, 3)
    long[0].ack()
    reader.steps(lambda: len(got) == 14)
    assert got[-1].payload == "long 3"


def test_an_old_server_is_refused_in_one_sentence(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis.Redis, "info", lambda self, section: {"redis_version": "6.0.16"})
    with (
        Connection(redis_url, transport=OURS) as connection,
        pytest.raises(transport.ServerTooOld, match=r"Redis 6\.0\.16 has no BLMOVE.*Redis 6\.2"),
    ):
        connection.connect()


def test_a_channel_that_hands_messages_back_leaves_no_connection_open(store: Store, redis_url: str, read: Open) -> None:
    publish(redis_url, "q", [1, 2])
    before = len(store.client_list())
    first: list[Any] = []
    reader = read(["q"], first.append, loop=True)
    reader.steps(lambda: len(first) == 2)
    reader.close()
    wait_until(lambda: len(store.client_list()) == before, "the server has noticed")
    # A job that ends after its connection was lost: its acknowledgement holds for whoever has it now.
    second: list[Any] = []
    other = read(["q"], second.append)
    other.steps(lambda: len(second) == 2)
    first[0].ack()
    assert where(store, "q")["unacked"] == [2]
