"""Nothing holds the event loop: not a dead connection, not an old report, not a copy of a socket in a child."""

import os
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest

from pattern_storage.tasks.transport import acknowledgements
from pattern_storage.tasks.transport.scripts import SWEEP
from tests.fix_process import DEADLINE, wait_until
from tests.fix_proxy import ProxyTo, through
from tests.fix_reader import Open, Reader, acknowledged, publish, sockets_in_child, waiting, where
from tests.fix_servers import Store

#: Of Python 3.12: threads of proxies may run. The children do next to nothing.
pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")

#: Blocking pops of one queue: its other priorities are watched.
WAITS = 1


def connection_of(reader: Reader, name: str) -> Any:
    [connection] = [each for each in reader.channel.claims.connections if each.name == name]
    return connection


@contextmanager
def copies_elsewhere() -> Iterator[None]:
    """A forked process that has a copy of every socket, and does nothing."""
    ours, theirs = os.pipe()
    if (child := os.fork()) == 0:
        os.close(theirs)
        os.read(ours, 1)
        os._exit(0)
    os.close(ours)
    try:
        yield
    finally:
        os.close(theirs)
        os.waitpid(child, 0)


@pytest.mark.parametrize("moved", [False, True], ids=["nothing", "a message"])
def test_a_wait_whose_answer_is_lost_is_cut_off(store: Store, redis_url: str, proxy_to: ProxyTo, moved: bool) -> None:
    proxy = proxy_to(redis_url)
    proxy.keep_answer_to(b"BLMOVE\r\n$1\r\nq\r\n")
    got: list[Any] = []
    with closing(Reader(through(redis_url, proxy), ["q"], acknowledged(got), loop=True)) as reader:
        reader.consumer.consume()
        reader.steps(lambda: waiting(store) == WAITS, "it waits")
        if moved:
            # CLIENT UNBLOCK finds nobody waiting, and there is nothing to read. Else it wakes, and there is nothing.
            publish(redis_url, "q", [1])
            wait_until(lambda: where(store, "q")["claimed"] == [1], "the message is moved")
        wait = connection_of(reader, "BLMOVE q")
        sock = wait.connection._sock
        # Breaks everything, and so ends the test, should it not return.
        watchdog = threading.Timer(DEADLINE / 2, proxy.reset)
        watchdog.start()
        reader.channel.claims.stop_waiting()
        watchdog.cancel()
        assert sock.fileno() == -1
        if not moved:
            publish(redis_url, "q", [1])
        reader.steps(lambda: got == [1], "it returns with a sweep and is delivered")


def test_a_socket_that_others_have_a_copy_of_is_not_reported_after_its_end(store: Store, read: Open) -> None:
    reader = read(["q"], print, loop=True)
    reader.channel.brpop_timeout = 600
    reader.steps(lambda: waiting(store) == WAITS, "it waits")
    connections = reader.channel.claims.connections
    assert reader.hub is not None
    with copies_elsewhere():
        connections[0].connection.disconnect()
        for each in connections[1:]:
            each.disconnect()
        wait_until(lambda: waiting(store) == 0, "the server has noticed")
        reader.steps(lambda: waiting(store) == WAITS, "it waits again")
        assert reader.hub.poller.poll(0) == []


def test_a_forked_child_closes_its_copies(store: Store, redis_url: str, read: Open) -> None:
    got: list[Any] = []
    reader = read(["q"], acknowledged(got), loop=True)
    reader.channel.brpop_timeout = 600
    reader.steps(lambda: waiting(store) == WAITS, "it waits")
    before, after = sockets_in_child(reader)
    assert len(before) >= 3, "claim call, blocking pop and watch"
    assert not after
    # The parent's are as they were, and polled.
    assert waiting(store) == WAITS
    publish(redis_url, "q", [1])
    reader.steps(lambda: got == [1], "the parent goes on")


def test_a_report_of_what_was_read_already_is_ignored(store: Store, read: Open) -> None:
    reader = read(["q"], print, loop=True)
    reader.channel.brpop_timeout = 600
    reader.steps(lambda: waiting(store) == WAITS, "it waits")
    cycle, wait = reader.channel.connection.cycle, connection_of(reader, "BLMOVE q")
    sock = wait.connection._sock
    # Reading would wait for an answer that is not to come.
    assert not cycle.on_readable(sock.fileno())
    assert wait.pending
    reader.channel.claims.stop_waiting()
    # Nothing to read, and nothing expected: the connection has not ended.
    assert not cycle.on_readable(sock.fileno())
    assert wait.connection._sock is sock


def test_answers_that_came_while_the_process_stood_still_are_read(store: Store, redis_url: str, read: Open) -> None:
    got: list[Any] = []
    reader = read(["q"], acknowledged(got), loop=True)
    reader.steps(lambda: waiting(store) == WAITS, "it waits")
    wait_until(lambda: waiting(store) == 0, "the server has answered")
    # As after a suspend, whose first pass of the loop fires the timer before it polls.
    for each in reader.channel.claims.connections:
        if each.pending:
            each.sent_at -= 60
    reader.channel.claims.drop_dead_connections(2.0)
    publish(redis_url, "q", [1])
    reader.steps(lambda: got == [1], "it is delivered")


@pytest.mark.parametrize("loop", [False, True], ids=["without loop", "loop"])
def test_a_health_check_may_connect_again(redis_url: str, proxy_to: ProxyTo, loop: bool) -> None:
    proxy = proxy_to(redis_url)
    got: list[Any] = []
    reader = Reader(
        through(redis_url, proxy), ["q"], got.append, loop=loop, prefetch=1,
        claim_ahead=loop, socket_timeout=0.5, retry_on_timeout=True,
    )  # fmt: skip
    with closing(reader):
        reader.consumer.consume()
        publish(redis_url, "q", [1])
        reader.steps(lambda: got, "it is at its limit")
        call = connection_of(reader, "CLAIM")
        sock, call.connection.next_health_check = call.connection._sock, 0
        proxy.keep_answer_to(b"PING")
        got[0].ack()
        publish(redis_url, "q", [2])
        reader.steps(lambda: len(got) == 2 and sock.fileno() == -1, "the claim is answered on another connection")
        assert sock.fileno() == -1


@pytest.mark.parametrize("then", ["it waits", "it is acknowledged", "it is refused", "it is swept"])
def test_what_was_moved_is_delivered_before_it_is_claimed(store: Store, redis_url: str, read: Open, then: str) -> None:
    got: list[Any] = []

    def take(message: Any) -> None:
        got.append((message.payload, connection_of(reader, "CLAIM").pending))
        if then == "it is acknowledged":
            message.ack()
        elif then == "it is refused":
            message.channel.refuse(message)
        elif then == "it is swept":
            SWEEP.run(store, ["unacked", "unacked_index", "q"], [])

    reader = read(["q"], take, loop=True, claim_ahead=True)
    reader.steps(lambda: waiting(store) == WAITS, "it waits")
    publish(redis_url, "q", [1])
    reader.steps(lambda: got)
    left = [] if then in ("it is acknowledged", "it is refused") else [1]
    reader.steps(
        lambda: where(store, "q") == {"queue": [], "claimed": [], "unacked": left}, "it is recorded, or settled"
    )
    # The next one goes the same way, and nothing was delivered twice.
    publish(redis_url, "q", [2])
    reader.steps(lambda: len(got) == 2)
    assert got == [(1, True), (2, True)]
    assert store.llen("q.unreadable") == (2 if then == "it is refused" else 0)


@pytest.mark.parametrize("then", ["it is handed back", "it is refused", "a thread acknowledges it"])
def test_what_was_moved_may_be_settled_before_its_claim_arrives(
    store: Store, redis_url: str, read: Open, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    """The claim goes over another connection, so that the server may read it last."""
    monkeypatch.setattr(acknowledgements, "LOOP_ALIVE", -1)
    got: list[Any] = []
    late: list[bytes] = []

    def take(message: Any) -> None:
        got.append(message.payload)
        if not late:
            return
        if then == "it is handed back":
            message.requeue()
        elif then == "it is refused":
            message.channel.refuse(message)
        else:
            thread = threading.Thread(target=message.ack)
            thread.start()
            thread.join()
        monkeypatch.undo()
        call.send_packed(late.pop())

    reader = read(["q"], take, loop=True, claim_ahead=True)
    reader.steps(lambda: waiting(store) == WAITS, "it waits")
    call = connection_of(reader, "CLAIM")
    monkeypatch.setattr(call, "send_packed", late.append)
    publish(redis_url, "q", [1])
    reader.steps(lambda: got)
    # The claim of another message acknowledges what there is to acknowledge.
    publish(redis_url, "q", [2])
    reader.steps(lambda: where(store, "q")["unacked"][-1:] == [2], "the other is recorded")
    left = [1, 2] if then == "it is handed back" else [2]
    assert where(store, "q") == {"queue": [], "claimed": [], "unacked": left}
    assert store.zcard("unacked_index") == len(left)
    assert got == [1, 2]


def test_an_acknowledgement_waits_for_the_next_claim(
    store: Store, redis_url: str, read: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acknowledgements, "ACK_DELAY", 600)
    got: list[Any] = []
    reader = read(["q"], got.append, loop=True, claim_ahead=True)
    reader.steps(lambda: waiting(store) == WAITS, "it waits")
    publish(redis_url, "q", [1])
    reader.steps(lambda: where(store, "q")["unacked"] == [1])
    got[0].ack()
    reader.steps(lambda: waiting(store) == WAITS, "it waits again")
    assert where(store, "q")["unacked"] == [1]
    publish(redis_url, "q", [2])
    reader.steps(lambda: where(store, "q")["unacked"] == [2], "the claim of the second took it along")


def test_an_event_loop_forgets_a_connection_that_was_closed(read: Open) -> None:
    """A worker keeps its event loop when it connects again."""
    reader = read(["q"], print, loop=True)
    hub: Any = reader.hub
    assert hub.on_tick
    hub.on_tick.add(print)
    reader.connection.close()
    assert hub.on_tick == {print}
