"""Restoring of messages that were not acknowledged, beside other transports and applications, and earlier versions."""

import json
import time
from typing import Any

import pytest
import redis

from pattern_storage.config.broker import UNACKED_KEYS
from pattern_storage.tasks.transport.restore import EARLIER_TIMEOUT
from pattern_storage.tasks.transport.scripts import RENEW
from tests.fix_process import DEADLINE
from tests.fix_reader import OURS, SOON, STOCK, Open, Reader, acknowledged, bodies, publish

Store = Any  # redis-py types what it returns too widely

HASH, INDEX = UNACKED_KEYS["unacked_key"], UNACKED_KEYS["unacked_index_key"]


def age(store: Store, index: str, seconds: float = 60.0) -> None:
    """Have all that is in flight be older than its visibility timeout."""
    for tag, score in store.zrange(index, 0, -1, withscores=True):
        store.zadd(index, {tag: score - seconds})


def cycle_of(reader: Reader) -> Any:
    transport: Any = reader.connection.transport
    return transport.cycle


def hold(store: Store, redis_url: str, read: Open, queue: str, body: Any, **options: Any) -> Reader:
    """A consumer that has taken a message and does not end."""
    publish(redis_url, queue, [body])
    got: list[Any] = []
    reader = read([queue], got.append, **options)
    reader.steps(lambda: got)
    return reader


def test_another_applications_tasks_are_left_alone(store: Store, redis_url: str, read: Open) -> None:
    """Theirs run for longer than our visibility timeout."""
    hold(store, redis_url, read, "theirs", 1, transport=STOCK, visibility_timeout=3_600)
    age(store, "unacked_index", 600)
    got: list[Any] = []
    ours = read(["q"], acknowledged(got), loop=True, **UNACKED_KEYS)
    publish(redis_url, "q", [2])
    ours.steps(lambda: got == [2])
    swept = store.zcard(INDEX)
    ours.channel.claims._swept_at = 0
    cycle_of(ours).maybe_restore_messages()
    assert swept == 0
    assert store.hlen("unacked") == 1
    assert store.llen("theirs") == 0


def test_another_applications_worker_leaves_ours_alone(store: Store, redis_url: str, read: Open) -> None:
    hold(store, redis_url, read, "q", 1, **UNACKED_KEYS)
    age(store, INDEX, 600)
    got: list[Any] = []
    theirs = read(["theirs"], acknowledged(got), transport=STOCK, visibility_timeout=1)
    publish(redis_url, "theirs", [2])
    theirs.steps(lambda: got == [2])
    theirs.channel.qos.restore_visible(interval=1)
    assert store.hlen(HASH) == 1
    assert store.llen("q") == 0


@pytest.mark.parametrize("held_by", [STOCK, OURS])
def test_what_earlier_versions_left_is_carried_over(store: Store, redis_url: str, read: Open, held_by: str) -> None:
    hold(store, redis_url, read, "q", 1, transport=held_by)
    hold(store, redis_url, read, "theirs", 2, transport=held_by)
    store.hset("unacked", "odd", "nonsense")
    store.zadd("unacked_index", {"odd": 1})
    got: list[Any] = []
    young = read(["q"], got.append, **UNACKED_KEYS)
    # It may still be at work.
    assert store.hlen("unacked") == 3
    age(store, "unacked_index", EARLIER_TIMEOUT)
    young.channel.claims._swept_at = 0
    cycle_of(young).maybe_restore_messages()
    young.steps(lambda: got)
    assert [message.payload for message in got] == [1]
    assert got[0].headers["redelivered"]
    assert bodies(
        json.dumps(json.loads(entry)[0]) for key, entry in store.hgetall("unacked").items() if key != b"odd"
    ) == [2]
    assert store.zcard("unacked_index") == 2
    assert store.hlen(HASH) == 1


def test_many_of_others_do_not_hide_ours(store: Store, redis_url: str, read: Open) -> None:
    for number in range(250):
        store.zadd("unacked_index", {f"other {number}": number})
        store.hset("unacked", f"other {number}", json.dumps([{"properties": {"delivery_info": {}}}, "", "theirs"]))
    hold(store, redis_url, read, "q", 1)
    age(store, "unacked_index", EARLIER_TIMEOUT)
    got: list[Any] = []
    read(["q"], got.append, **UNACKED_KEYS).steps(lambda: got)
    assert store.hlen("unacked") == 250


@pytest.mark.parametrize(
    "entry",
    [
        b"nonsense",
        b"null",
        b"[]",
        b'[{}, "", "q"]',
        b'[5, "", "q"]',
        b'[{"headers": 5, "properties": {}}, "", "q"]',
        b'{"a": 1}',
    ],
)
def test_an_entry_that_cannot_be_read_is_put_aside(store: Store, redis_url: str, read: Open, entry: bytes) -> None:
    """kombu's own drops it, and prints it into the log."""
    store.hset(HASH, "tag", entry)
    store.zadd(INDEX, {"tag": time.time() - 60})
    got: list[Any] = []
    reader = read(["q"], acknowledged(got), **UNACKED_KEYS)
    reader.steps(lambda: not store.exists(HASH))
    assert not store.exists(HASH, INDEX)
    assert store.lrange(f"{HASH}.unreadable", 0, -1) == [entry]
    publish(redis_url, "q", [1])
    reader.steps(lambda: got == [1])


@pytest.mark.parametrize("how", ["it is handed back", "its consumer ends", "its visibility timeout is over"])
def test_without_bindings_a_message_goes_to_the_queue_of_its_routing_key(
    store: Store, redis_url: str, read: Open, how: str
) -> None:
    """A full server refuses bindings; kombu's own then drops the message."""
    reader = hold(store, redis_url, read, "q", 1, **UNACKED_KEYS)
    [tag] = store.zrange(INDEX, 0, -1)
    store.delete("_kombu.binding.q")
    match how:
        case "it is handed back":
            reader.channel.basic_reject(tag.decode(), requeue=True)
        case "its consumer ends":
            reader.close()
        case _:
            reader.channel.qos.restore_by_tag(tag)
    assert bodies(store.lrange("q", 0, -1)) == [1]
    assert not store.exists(HASH, INDEX)


def test_only_what_may_have_begun_is_marked_when_a_consumer_ends(store: Store, redis_url: str, read: Open) -> None:
    """The next start of any other is its first. All come back in their order, before those that waited meanwhile."""
    publish(redis_url, "q", range(5))
    got: list[Any] = []
    reader = read(["q"], got.append, loop=True, **UNACKED_KEYS)
    reader.steps(lambda: len(got) == 4)
    for message in got[1:3]:
        message.has_begun = lambda: False
    reader.close()
    assert bodies(reversed(store.lrange("q", 0, -1))) == [0, 1, 2, 3, 4]
    again: list[Any] = []
    read(["q"], again.append, loop=True, prefetch=5, **UNACKED_KEYS).steps(lambda: len(again) == 5)
    marked = [(bool(one.headers.get("redelivered")), "redelivered" in one.delivery_info) for one in again]
    assert marked == [(True, True), (False, False), (False, False), (True, True), (False, False)]


def test_a_job_of_a_connection_that_was_lost_may_be_handed_back(store: Store, redis_url: str, read: Open) -> None:
    """Another worker has it by then, under the same tag: it is delivered once more, and not put aside."""
    publish(redis_url, "q", [1])
    got: list[Any] = []
    first = read(["q"], got.append, loop=True, **UNACKED_KEYS)
    first.steps(lambda: got)
    first.close()
    read(["q"], got.append, **UNACKED_KEYS).steps(lambda: len(got) == 2)
    got[0].requeue()
    assert not store.exists(f"{HASH}.unreadable")
    assert bodies(store.lrange("q", 0, -1)) == [1]


def test_others_without_bindings_are_left_alone(store: Store, redis_url: str, read: Open) -> None:
    store.hset("unacked", "tag", json.dumps([{"properties": {"delivery_info": {}}}, "theirs", "theirs"]))
    store.zadd("unacked_index", {"tag": 1})
    got: list[Any] = []
    publish(redis_url, "q", [1])
    read(["q"], acknowledged(got), **UNACKED_KEYS).steps(lambda: got)
    assert store.hlen("unacked") == store.zcard("unacked_index") == 1


def test_a_claim_in_between_is_not_forgotten(
    store: Store, redis_url: str, read: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another worker claims a message that was handed back just when a sweep has found nothing under its tag."""
    reader = hold(store, redis_url, read, "q", 1, **UNACKED_KEYS)
    [(tag, entry)] = store.hgetall(HASH).items()
    store.hdel(HASH, tag)
    hget = redis.Redis.hget

    def hget_and_claim(client: Any, name: str, key: str) -> Any:
        found = hget(client, name, key)
        store.hset(HASH, tag, entry)
        return found

    monkeypatch.setattr(redis.Redis, "hget", hget_and_claim)
    reader.channel.qos.restore_by_tag(tag)
    assert store.zrange(INDEX, 0, -1) == [tag]


def test_a_tag_without_its_message_is_forgotten(store: Store, redis_url: str, read: Open) -> None:
    reader = hold(store, redis_url, read, "q", 1, **UNACKED_KEYS)
    [tag] = store.hkeys(HASH)
    store.hdel(HASH, tag)
    reader.channel.qos.restore_by_tag(tag)
    assert not store.exists(INDEX)


def test_an_acknowledgement_in_between_wins(store: Store, redis_url: str, read: Open) -> None:
    reader = hold(store, redis_url, read, "q", 1, **UNACKED_KEYS)
    [tag] = store.zrange(INDEX, 0, -1)
    reader.channel.basic_ack(tag.decode())
    reader.channel.qos.restore_by_tag(tag)
    assert not store.exists("q", HASH, INDEX)
    assert SOON["visibility_timeout"] == 3


def test_the_clock_of_a_host_does_not_matter(
    store: Store, redis_url: str, read: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is an hour ahead would take messages of all others."""
    for clock in ("kombu.transport.redis.time", "time.time"):
        monkeypatch.setattr(clock, lambda now=time.time: now() + 3_600)
    reader = hold(store, redis_url, read, "q", 1, **UNACKED_KEYS)
    reader.channel.opened_at -= 60
    reader.channel.qos.restore_visible(interval=1)
    seconds, _ = store.time()
    [(_, delivered)] = store.zrange(INDEX, 0, -1, withscores=True)
    assert abs(delivered - seconds) < 60


def test_a_new_connection_lets_others_renew_first(store: Store, redis_url: str, read: Open) -> None:
    """The server was away: all messages are old, and each worker renews its own when it has connected again."""
    hold(store, redis_url, read, "q", 1, **UNACKED_KEYS)
    [tag] = store.zrange(INDEX, 0, -1)
    age(store, INDEX)
    other = read(["q"], lambda message: None, **UNACKED_KEYS)
    other.channel.opened_at += 60
    other.channel.qos.restore_visible(interval=1)
    assert store.zrange(INDEX, 0, -1) == [tag]
    assert RENEW.run(store, [HASH, INDEX], [tag]) == 1
    other.channel.opened_at -= 120
    other.channel.qos.restore_visible(interval=1)
    assert store.zrange(INDEX, 0, -1) == [tag]
    age(store, INDEX)
    other.channel.qos.restore_visible(interval=1)
    assert not store.exists(INDEX)


def test_only_what_is_unacked_is_renewed(store: Store, redis_url: str, read: Open) -> None:
    """An acknowledged message must not come back. There may be more than Lua takes in one command."""
    store.zadd(INDEX, {f"tag {number}": 1 for number in range(2_500)})
    tags = [f"tag {number}" for number in range(5_000)]
    assert RENEW.run(store, [HASH, INDEX], tags) == 2_500
    assert store.zcard(INDEX) == 2_500
    assert store.zrangebyscore(INDEX, 0, time.time() - 60) == []
    age(store, INDEX)
    store.config_set("maxmemory", 1)
    try:
        assert RENEW.run(store, [HASH, INDEX], tags) == 2_500
    finally:
        store.config_set("maxmemory", 0)


def test_leftovers_come_back_when_a_consumer_starts_and_later(store: Store, redis_url: str, read: Open) -> None:
    publish(redis_url, "q", [1])
    store.lmove("q", "q.claimed", "RIGHT", "LEFT")
    got: list[Any] = []
    reader = read(["q"], got.append, loop=True)
    reader.steps(lambda: len(got) == 1)
    publish(redis_url, "elsewhere", [2])
    store.lmove("elsewhere", "q.claimed", "RIGHT", "LEFT")
    reader.steps(lambda: len(got) == 2)


@pytest.mark.parametrize(("holder", "finder"), [(STOCK, OURS), (OURS, STOCK)])
def test_each_sweep_restores_what_the_other_transport_held(
    store: Store, redis_url: str, read: Open, holder: str, finder: str
) -> None:
    publish(redis_url, "q", [1])
    held: list[Any] = []
    read(["q"], held.append, transport=holder).steps(lambda: held)
    age(store, "unacked_index", EARLIER_TIMEOUT)
    got: list[Any] = []
    read(["q"], got.append, transport=finder, loop=True).steps(lambda: got)
    assert got[0].payload == 1
    assert got[0].headers["redelivered"]
    got[0].ack()


def test_workers_of_both_kinds_share_a_queue(store: Store, redis_url: str, read: Open) -> None:
    got: dict[str, list[int]] = {STOCK: [], OURS: []}
    readers = [read(["q"], acknowledged(got[name]), transport=name) for name in got]
    publish(redis_url, "q", range(200))
    deadline = time.monotonic() + DEADLINE
    while sum(map(len, got.values())) < 200:
        assert time.monotonic() < deadline, got
        for reader in readers:
            reader.step()
    assert sorted(got[STOCK] + got[OURS]) == list(range(200))
    assert got[STOCK]
    assert got[OURS]
    assert not store.exists("q", "q.claimed", "unacked")
