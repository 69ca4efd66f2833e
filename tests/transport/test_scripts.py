"""The transport's scripts under failures in their middle: no message is lost, and none is stranded."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
from redis.exceptions import RedisError

from pattern_storage.tasks.transport import claim_call
from pattern_storage.tasks.transport.claim_call import ClaimReply
from pattern_storage.tasks.transport.queue_keys import QueueKey
from pattern_storage.tasks.transport.scripts import PUT_ASIDE, RELEASE, SWEEP
from tests.fix_reader import bodies, publish, where
from tests.fix_servers import Store

KEYS = ("unacked", "unacked_index")
Q = QueueKey("q", "q", needs_ack=True)


@pytest.fixture
def without(store: Any, redis_url: str) -> Iterator[Any]:
    """A client that may run everything but one command."""
    parts = urlsplit(redis_url)
    opened: list[Store] = []

    def connect(command: str) -> Store:
        store.execute_command(
            "ACL", "SETUSER", "limited", "reset", "on", ">limited", "~*", "&*", "+@all", f"-{command.lower()}"
        )
        url = parts._replace(netloc=f"limited:limited@{parts.hostname}:{parts.port}").geturl()
        opened.append(redis.Redis.from_url(url))
        return opened[-1]

    yield connect
    for one in opened:
        one.close()
    store.execute_command("ACL", "DELUSER", "limited")


def claim(client: Store, limit: int = 4, moved: tuple[Any, ...] = (), acks: tuple[str, ...] = ()) -> ClaimReply:
    return claim_call.claim(client, KEYS, [Q], limit, moved=[(Q, raw) for raw in moved], acks=acks)


def everything(store: Store) -> set[int]:
    """The bodies of all messages, wherever they are; each unacked one has to be in the index too, to be redelivered."""
    indexed = set(store.zrange("unacked_index", 0, -1))
    assert set(store.hkeys("unacked")) <= indexed, "a message is unacked for ever"
    return {body for place in where(store, "q").values() for body in place}


@pytest.mark.parametrize("command", ["ZREM", "ZADD", "HSET", "LTRIM", "LLEN", "LINDEX"])
def test_a_claim_that_fails_loses_nothing(store: Store, redis_url: str, without: Any, command: str) -> None:
    publish(redis_url, "q", range(6))
    try:
        reply = claim(without(command))
    except RedisError as error:
        assert "NOPERM" in str(error) or "permission" in str(error)  # noqa: PT017
    else:
        assert reply.error is not None
        assert not reply.claimed
    assert everything(store) == set(range(6))
    # Whoever may do it all gets them all.
    got: set[int] = set()
    while some := claim(store, 10).claimed:
        got |= set(bodies([one.raw for one in some]))
    assert got == set(range(6))


def test_a_claim_reads_the_tag_behind_any_body(store: Store) -> None:
    sent = ["", "YQ==", 'a"b', "a\\", 'a\\"', '", "properties": "', "\u2028", None, 5, {"body": '"'}]
    for tag, body in enumerate(sent):
        properties = {"delivery_tag": str(tag), "delivery_info": {"exchange": "", "routing_key": "q"}}
        store.lpush("q", json.dumps({"body": body, "properties": properties}))
    claimed = claim(store, 100).claimed + claim(store, 100).claimed + claim(store, 100).claimed + claim(store).claimed
    assert [one.tag for one in claimed] == [str(tag) for tag in range(len(sent))]
    assert [json.loads(one.raw)["body"] for one in claimed] == sent


@pytest.mark.parametrize("command", ["ZADD", "HSET", "LPOS", "LREM", "RPUSH"])
@pytest.mark.parametrize("limit", [0, 4])
def test_a_claim_of_what_was_moved_loses_nothing(
    store: Store, redis_url: str, without: Any, command: str, limit: int
) -> None:
    publish(redis_url, "q", range(2))
    moved = [store.lmove("q", "q.claimed", "RIGHT", "LEFT") for _ in range(2)]
    client = without(command)
    try:
        claim(client, limit, tuple(moved))
    except RedisError as error:
        assert "permission" in str(error)  # noqa: PT017
    assert everything(store) == {0, 1}


def test_what_was_claimed_before_an_error_is_delivered(store: Store, redis_url: str) -> None:
    publish(redis_url, "q", [1])
    store.lpush("q", b"nonsense")
    store.set("q.unreadable", "mine")
    reply = claim(store, 4)
    assert bodies([one.raw for one in reply.claimed]) == [1]
    reply = claim(store, 4)
    assert "q.unreadable holds a string" in str(reply.error)
    assert store.lrange("q", 0, -1) == [b"nonsense"]


@pytest.mark.parametrize("command", ["RPUSH", "HDEL", "ZREM", "HEXISTS"])
def test_a_release_that_fails_loses_nothing(store: Store, redis_url: str, without: Any, command: str) -> None:
    publish(redis_url, "q", range(3))
    claimed = claim(store, 8).claimed
    assert len(claimed) == 2
    arguments = [part for one in claimed for part in (one.tag, one.raw)]
    with pytest.raises(RedisError, match="permission"):
        RELEASE.run(without(command), [*KEYS, "q", "q"], arguments)
    assert everything(store) == set(range(3))


@pytest.mark.parametrize("command", ["RPUSH", "LPOP", "LINDEX", "ZREM"])
def test_a_sweep_that_fails_loses_nothing(store: Store, redis_url: str, without: Any, command: str) -> None:
    publish(redis_url, "q", range(3))
    for _ in range(2):
        store.lmove("q", "q.claimed", "RIGHT", "LEFT")
    with pytest.raises(RedisError, match="permission"):
        SWEEP.run(without(command), [*KEYS, "q"], [])
    assert everything(store) == set(range(3))


@pytest.mark.parametrize("command", ["LPUSH", "HDEL", "ZREM"])
def test_putting_aside_that_fails_loses_nothing(store: Store, redis_url: str, without: Any, command: str) -> None:
    publish(redis_url, "q", [1])
    [claimed] = claim(store).claimed
    with pytest.raises(RedisError, match="permission"):
        PUT_ASIDE.run(without(command), [*KEYS, "q"], [claimed.tag, claimed.raw])
    assert everything(store) == {1} or bodies(store.lrange("q.unreadable", 0, -1)) == [1]


@pytest.mark.parametrize("key", ["unacked", "unacked_index", "q", "q.claimed"])
@pytest.mark.parametrize("script", ["claim", "moved", "release", "sweep"])
def test_a_key_of_another_type_is_named(store: Store, redis_url: str, key: str, script: str) -> None:
    publish(redis_url, "q", range(4))
    claimed = claim(store, 1).claimed
    moved = store.lmove("q", "q.claimed", "RIGHT", "LEFT")
    backup = {name: store.dump(name) for name in (*KEYS, "q", "q.claimed")}
    store.delete(key)
    store.set(key, "of another application")
    said = ""
    try:
        match script:
            case "claim":
                said = str(claim(store).error)
            case "moved":
                said = str(claim(store, 0, (moved,)).error)
            case "release":
                RELEASE.run(store, [*KEYS, "q"], [claimed[0].tag, claimed[0].raw])
            case "sweep":
                SWEEP.run(store, [*KEYS, "q"], [])
    except RedisError as error:
        said = str(error)
    uses = {
        "claim": {*KEYS, "q"},
        "moved": set(backup) - {"unacked"},
        "release": {*KEYS, "q"},
        "sweep": {"unacked_index", "q", "q.claimed"},
    }
    if key in uses[script]:
        assert f"the key {key} holds a string, and the queue needs a" in said
    assert store.get(key) == b"of another application"
    store.delete(key)
    store.restore(key, 0, backup[key])  # type: ignore[arg-type]
    assert everything(store) == set(range(4))


def test_the_list_of_unreadable_messages_is_bounded(store: Store) -> None:
    store.lpush("q", *[b"nonsense %d" % number for number in range(1_100)])
    while claim(store, 100).waiting:
        pass
    assert store.llen("q.unreadable") == 1_000
    assert store.lindex("q.unreadable", 0) == b"nonsense 1099"
