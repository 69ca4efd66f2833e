"""Claims of single messages on a real server, with an event loop and without: order, limits, acknowledgements."""

import json
import socket
import time
from typing import Any

import pytest

from pattern_storage.tasks.transport import claim_call
from pattern_storage.tasks.transport.queue_keys import QueueKey
from pattern_storage.tasks.transport.scripts import SWEEP
from tests.fix_reader import OURS, STOCK, Open, acknowledged, bodies, publish, waiting, where
from tests.fix_servers import Store

both_paths = pytest.mark.parametrize("loop", [False, True], ids=["without loop", "loop"])


@both_paths
def test_a_message_is_recorded_as_kombu_records_it(store: Store, redis_url: str, read: Open, loop: bool) -> None:
    records = []
    for transport_name in (STOCK, OURS):
        publish(redis_url, "q", [{"text": 'ü " \\ / \u2028', "empty": [], "big": 2**60}], headers={"x": {}, "y": 1.0})
        got: list[Any] = []
        reader = read(["q"], got.append, loop=loop, transport=transport_name)
        reader.steps(lambda got=got: got)  # type: ignore[misc]
        [(tag, record)] = store.hgetall("unacked").items()
        assert store.zrange("unacked_index", 0, -1) == [tag]
        assert abs(float(store.zscore("unacked_index", tag) or 0) - time.time()) < 5
        message, exchange, routing_key = json.loads(record)
        message["properties"].pop("delivery_tag")
        records.append((message, exchange, routing_key))
        got[0].ack()
        reader.step()
        assert not store.exists("unacked", "unacked_index", "q", "q.claimed")
        reader.close()
    assert records[0] == records[1]


@both_paths
def test_reject_requeue_and_recover(store: Store, redis_url: str, read: Open, loop: bool) -> None:
    publish(redis_url, "q", [1])
    got: list[Any] = []
    reader = read(["q"], got.append, loop=loop)
    reader.steps(lambda: len(got) == 1)
    got[0].requeue()
    reader.steps(lambda: len(got) == 2)
    assert got[1].headers["redelivered"]
    reader.channel.basic_recover(requeue=True)
    reader.steps(lambda: len(got) == 3)
    got[2].reject()
    reader.step()
    assert where(store, "q") == {"queue": [], "claimed": [], "unacked": []}


@both_paths
def test_first_in_first_out_and_the_higher_priority_before(redis_url: str, read: Open, loop: bool) -> None:
    publish(redis_url, "q", [3, 4], priority=9)
    publish(redis_url, "q", [1, 2], priority=0)
    got: list[int] = []
    read(["q"], acknowledged(got), loop=loop).steps(lambda: len(got) == 4)
    assert got == [1, 2, 3, 4]


@pytest.mark.parametrize("ahead", [False, True])
def test_a_busy_queue_leaves_another_its_turn(redis_url: str, read: Open, ahead: bool) -> None:
    publish(redis_url, "busy", range(60))
    publish(redis_url, "calm", range(5))
    got: list[str] = []

    def take(message: Any) -> None:
        got.append(message.delivery_info["routing_key"])
        message.ack()

    read(["busy", "calm"], take, loop=True, claim_ahead=ahead).steps(lambda: len(got) == 65)
    assert got[:11].count("calm") == 5


def test_the_order_of_queues_can_be_strict(redis_url: str, read: Open) -> None:
    publish(redis_url, "b", range(5))
    publish(redis_url, "a", range(5))
    got: list[str] = []
    reader = read(
        ["b", "a"], lambda message: got.append(message.delivery_info["routing_key"]), prefetch=0, loop=True,
        claim_ahead=True, queue_order_strategy="sorted",
    )  # fmt: skip
    reader.steps(lambda: len(got) == 10)
    assert "".join(got) == "aaaaabbbbb"


@both_paths
@pytest.mark.parametrize("ahead", [False, True])
def test_at_the_limit_nothing_is_claimed(store: Store, redis_url: str, read: Open, loop: bool, ahead: bool) -> None:
    got: list[Any] = []
    reader = read(["q", "r"], got.append, loop=loop, prefetch=2, claim_ahead=ahead)
    for _ in range(3):
        reader.step()  # it waits now
    publish(redis_url, "q", [1, 2, 3])
    publish(redis_url, "r", [4])
    reader.steps(lambda: len(got) == 2)
    for _ in range(3):
        reader.step()
    publish(redis_url, "r", [5])
    for _ in range(3):
        reader.step()
    assert len(got) == 2
    assert store.hlen("unacked") == 2
    assert store.llen("q") + store.llen("r") == 3
    assert not store.exists("q.claimed", "r.claimed")
    assert waiting(store) == 0
    got[0].ack()
    reader.steps(lambda: len(got) == 3)
    for message in got[1:]:
        message.ack()
    reader.steps(lambda: len(got) == 5)
    assert sorted(message.payload for message in got) == [1, 2, 3, 4, 5]


def test_a_consumer_may_say_how_many_it_can_take(store: Store, redis_url: str, read: Open) -> None:
    got: list[Any] = []
    reader = read(["q"], got.append, loop=True, prefetch=0, claim_ahead=True)
    # As Celery does for `worker_disable_prefetch`.
    reader.channel.qos.can_consume = lambda: len(got) < 3
    publish(redis_url, "q", range(10))
    reader.steps(lambda: len(got) == 3)
    for _ in range(3):
        reader.step()
    assert where(store, "q")["unacked"] == [0, 1, 2]
    assert waiting(store) == 0


def test_a_consumer_that_works_in_its_callback_holds_one_message(store: Store, redis_url: str, read: Open) -> None:
    seen: list[dict[str, int]] = []

    def work(message: Any) -> None:
        publish(redis_url, "r", [len(seen)])
        time.sleep(0.02)
        seen.append({"q": store.llen("q"), "r": store.llen("r"), "unacked": store.hlen("unacked")})
        message.ack()
        seen[-1]["after"] = store.hlen("unacked")

    reader = read(["q", "r"], work, loop=True, prefetch=8)
    for _ in range(3):
        reader.step()
    publish(redis_url, "q", [1])
    reader.steps(lambda: seen)
    assert seen[0] == {"q": 0, "r": 1, "unacked": 1, "after": 0}


def test_without_acknowledgements_nothing_is_recorded(store: Store, redis_url: str, read: Open) -> None:
    got: list[Any] = []
    reader = read(["q"], got.append, no_ack=True, loop=True)
    for _ in range(3):
        reader.step()
    publish(redis_url, "q", range(20))
    reader.steps(lambda: len(got) == 20)
    assert not store.exists("q", "q.claimed", "unacked")
    assert [message.payload for message in got] == list(range(20))


def test_ack_emulation_can_be_off(store: Store, redis_url: str, read: Open) -> None:
    publish(redis_url, "q", [1, 2])
    got: list[Any] = []
    read(["q"], got.append, ack_emulation=False).steps(lambda: len(got) == 2)
    assert not store.exists("q", "q.claimed", "unacked")


def move(store: Store) -> bytes:
    """Move a message as a wait does."""
    message = store.lmove("q", "q.claimed", "RIGHT", "LEFT")
    assert isinstance(message, bytes)
    return message


def claim(
    store: Store, moved: list[bytes], limit: int = 5, queues: list[str] | None = None, early: tuple[bytes, ...] = ()
) -> list[bytes]:
    """Claim as a worker of its own would."""
    queue_key = QueueKey("q", "q", needs_ack=True)
    queue_keys = [QueueKey(name, name, needs_ack=True) for name in queues or []]
    both = {"moved": [(queue_key, raw) for raw in moved], "early": [(queue_key, raw) for raw in early]}
    reply = claim_call.claim(store, ("unacked", "unacked_index"), queue_keys, limit, **both)
    return [message.raw for message in reply.claimed]


def test_a_sweep_between_move_and_claim_gives_the_message_to_one(store: Store, redis_url: str) -> None:
    publish(redis_url, "q", [1, 2])
    first = move(store)
    move(store)
    assert SWEEP.run(store, ["unacked", "unacked_index", "q"], []) == 2
    assert bodies(reversed(store.lrange("q", 0, -1))) == [1, 2]
    # The slow worker comes too late.
    assert claim(store, [first]) == []
    # Another moves it again: the first to claim it delivers, the other does not.
    assert move(store) == first
    assert claim(store, [first]) == [first]
    assert claim(store, [first]) == []
    assert where(store, "q") == {"queue": [2], "claimed": [], "unacked": [1]}


@pytest.mark.parametrize("limit", [0, 1])
def test_a_sweep_before_an_early_claim_does_not_give_its_slot_to_another(
    store: Store, redis_url: str, limit: int
) -> None:
    """It has been delivered: what a pool process claimed in its place, nobody would deliver."""
    publish(redis_url, "q", range(5))
    early = move(store)
    assert SWEEP.run(store, ["unacked", "unacked_index", "q"], []) == 1
    # Another worker takes it.
    assert claim(store, [], limit=1, queues=["q"]) == [early]
    assert bodies(claim(store, [], limit=limit, queues=["q"], early=(early,))) == [1][:limit]
    assert where(store, "q") == {"queue": [4, 3, 2, 1][: 4 - limit], "claimed": [], "unacked": [0, 1][: 1 + limit]}


def test_what_there_is_no_room_for_goes_back_to_the_head(store: Store, redis_url: str) -> None:
    publish(redis_url, "q", [1, 2, 3])
    moved = [move(store) for _ in range(2)]
    assert claim(store, moved[:1], limit=0) == []
    assert claim(store, moved[1:], limit=1) == moved[1:]
    assert where(store, "q") == {"queue": [3, 1], "claimed": [], "unacked": [2]}


def test_a_claim_leaves_half_to_others(store: Store, redis_url: str) -> None:
    publish(redis_url, "q", range(10))
    assert [len(claim(store, [], limit=8, queues=["q"])) for _ in range(4)] == [5, 3, 1, 1]


def test_what_is_no_message_is_put_aside(store: Store, redis_url: str, read: Open) -> None:
    store.lpush("q", b"nonsense", b'{"properties": {}}', b'["list"]', b'{"properties": {"delivery_tag": "t"}}')
    publish(redis_url, "q", [1])
    got: list[Any] = []
    read(["q"], got.append).steps(lambda: got)
    assert store.llen("q.unreadable") == 4
    assert got[0].payload == 1


def test_a_drain_without_messages_ends_in_time(read: Open) -> None:
    reader = read(["q"], print)
    begun = time.monotonic()
    with pytest.raises(socket.timeout):
        reader.connection.drain_events(timeout=0.3)
    assert time.monotonic() - begun > 0.29
