"""kombu's Redis transport with atomic claims: a message is never only in a worker's memory.

kombu pops a message with BRPOP and records it as unacked with a second call: a worker that is killed between the two
loses the message. Here a message is at every moment in a list or in the unacked hash.

The protocol, for a queue `q` (each priority of a queue is a key of its own and treated like a queue):

1. A *claim* is one call of a Lua script (claim.lua). It acknowledges, takes messages from the queues, as many as the
   prefetch limit allows but not more than half of those that wait, and records them as unacked: in kombu's hash
   `unacked` and its index `unacked_index`, in kombu's format, so that kombu's own code restores them and Flower
   understands them.
2. When a claim has left nothing, the channel *waits*. For the first priority of a queue of short jobs it waits with a
   blocking pop, `BLMOVE q q.claimed RIGHT LEFT`, on a connection of its own, because BLMOVE takes one key and no queue
   may add to the delay of another. A message wakes the one worker that has waited longest. The next claim moves it from
   `q.claimed` into the unacked hash. A worker that hands messages on delivers the moved message before it has the reply
   to that claim, which saves a job that comes alone a round trip. All other keys share a *watch*: EXISTS on a
   connection with CLIENT TRACKING, on which the server reports the next change. It wakes all workers that watch, and
   takes nothing; the claims that follow decide which worker gets the message. For queues of long jobs and for other
   priorities, where few messages come, one connection in place of one for each key is worth a claim by each idle
   worker. A pop of many keys at once (BRPOP, BLMPOP) is no way out: it would remove a message from the server before a
   worker has it.
3. A channel at its prefetch limit *stops waiting*: it ends its blocking pops with CLIENT UNBLOCK, reads the one reply
   of each, and puts back what had just been moved. Nothing is claimed that cannot be delivered. A consumer without an
   event loop, or one that works inside its callback (the solo pool), stops waiting before each delivery and claims one
   message at a time, as kombu does.
4. A *sweep* (sweep.lua: when a queue is first consumed from, then every `unacked_restore_interval` seconds) puts all
   of `q.claimed` back at the head of `q`. No worker has these messages, so there is no timeout to wait for. (A pool
   process may be executing one, see below.) Then it puts back the messages that are unacked and have not been renewed
   (`tasks.worker.lease`) for the visibility timeout, by the server's clock. A new connection does not do that at first:
   where the server was away, other workers have to renew theirs.

What can happen to a message m that worker A is about to get:

- A ends, or its connection does, before the server has seen BLMOVE or the claim: m is in `q`.
- After BLMOVE, before the claim: m is in `q.claimed` until a sweep.
- After the claim, before its reply is read: m is unacked until the visibility timeout, as if A had died
  working on it. The server cannot tell the two apart, and A does not renew what it does not know.
- A lives, and is cut off or hangs for longer than the visibility timeout: m is redelivered while A has it, and storage
  jobs replay their result. Both copies have one delivery tag, which A renews when it is back, as the other worker does.
- m is acknowledged when A renews it: only entries of the index that exist are renewed.
- Between delivery and acknowledgement, or with an acknowledgement collected and not sent: m is unacked, and
  redelivered; storage jobs recognize that and replay their result.
- A ends in an orderly way, or notices that its connection is lost, and has m: m is handed back, to be taken next, and
  marked as redelivered unless A knows that no work on it has begun (`message.Message.has_begun`).
- A process of A's pool waits itself, with pop and claim of its own (`tasks.worker.pool.pool_claims`), and is killed:
  m is in `q.claimed` or unacked as above. A's main process finds m in memory that both share, and executes it.
- A sweep comes while that process executes m and has not sent its claim: m is executed a second time, and the ledger
  decides which of the two has an effect. Both have one delivery tag, so the first acknowledgement holds for both.
- A has delivered m before the reply to its claim, and the claim is lost, refused, or comes after a sweep: m is in `q`
  again at the next sweep at the latest and delivered once more, and storage jobs replay their result.
- m is acknowledged, or refused, before the reply to the claim that records it: that goes with the claim after it.
- m is handed back before the claim has recorded it: there is nothing to hand back, and m is then unacked until the
  visibility timeout.
- A sweep comes while A is between BLMOVE and its claim, and A delivers only what the reply names. m is in `q` again;
  A's claim does not find it in `q.claimed`, and A does not deliver it. If B has moved m there a second time before A's
  claim comes, then A's claim takes it and B's does not find it: one of the two delivers, because LREM removes a copy
  once. If A has delivered m early, or a process of its pool has m, both may deliver, see above. The claim that does not
  find m takes no other message in its slot, which is in use.
- Two sweeps, or a sweep and a claim, come at once: scripts do not interleave.
- CLIENT UNBLOCK comes together with m: the pop replies once, with nothing or with m, and that reply is read.
  Where CLIENT UNBLOCK is forbidden, or the reply does not come within a second because the connection is dead,
  the connection is closed instead, and m may wait for a sweep.
- CLIENT UNBLOCK comes before the BLMOVE that it should end: it wakes nothing, and is sent again.
- The prefetch limit is reached while pops are replied to: the claim puts back what it has no slot for, at the
  head of the queue, where the worker that has waited longest gets it.
- A puts m back while another worker restores it from the unacked hash: the one that removes it from the hash first
  puts it back.
- The claim is sent twice, because the first may or may not have arrived: acknowledgements are idempotent, what
  was moved is not found again, and what the first one took is unacked until the visibility timeout.
- The server restarts and has forgotten the scripts: NOSCRIPT comes before any effect, and the text is sent.
- The process forks: the child forgets all claims and closes its copies of the sockets, which does not end the
  connections. A socket leaves the poller before it is closed: while a copy is open the kernel still reports its end.
- m comes after a claim that found none and before EXISTS: EXISTS counts it, and the next claim follows. After EXISTS
  the server reports it. If the watch's connection breaks, the next EXISTS, on another one, counts what came meanwhile.
- CLIENT TRACKING is forbidden or unknown: all keys are waited for with BLMOVE, each on a connection of its own.
- The server is full: BLMOVE is refused, so the channel claims once a second. A claim begins with ZREM, after which a
  full server refuses a script nothing.
- m is no message of kombu's (no delivery tag): it is put aside in `q.unreadable` instead of stopping every worker.
- A worker with kombu's own transport takes from the same queue: it pops from `q`, and finds in the unacked hash what
  it expects. It does not sweep `q.claimed`: start a worker with this transport once more before you leave it for good.
"""

from typing import Any

from kombu.exceptions import VersionMismatch
from redis.exceptions import RedisError, ResponseError

from pattern_storage.tasks.redis_sentinels import SentinelGroup
from pattern_storage.tasks.transport import channel, poller
from pattern_storage.tasks.transport.kombu_parts import redis

#: The first version with BLMOVE.
MINIMUM_VERSION = (6, 2)


class ServerTooOld(VersionMismatch):
    """The Redis server lacks a command that the transport is built on."""


class Transport(redis.Transport):  # type: ignore[misc]  # kombu's is untyped
    """kombu's Redis transport with claims; the module explains the protocol."""

    Channel = channel.Channel

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.cycle = poller.Poller()
        # What kombu has the event loop call in each iteration.
        self._ticks: set[Any] = set()

    def establish_connection(self) -> Any:
        """Connect. Raises ServerTooOld for a server without BLMOVE."""
        connection = super().establish_connection()
        try:
            require_blmove(self._avail_channels[-1])
            require_writable(self._avail_channels[-1])
        except (ServerTooOld, RedisError):
            self.close_connection(connection)
            raise
        return connection

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        """Have the event loop do the polling from now on."""
        self.cycle.hub = loop
        before = set(loop.on_tick)
        super().register_with_event_loop(connection, loop)
        self._ticks |= loop.on_tick - before

    def close_connection(self, connection: Any) -> None:
        """Close the connection, and have the event loop forget it; kombu's would call it for ever, and so keep it."""
        if self.cycle.hub is not None:
            self.cycle.hub.on_tick -= self._ticks
            self._ticks.clear()
        super().close_connection(connection)


class SentinelChannel(channel.Channel, redis.SentinelChannel):  # type: ignore[misc]  # kombu's is untyped
    """The same behind Sentinel."""

    from_transport_options = (*redis.SentinelChannel.from_transport_options, *channel.TRANSPORT_OPTIONS)

    def _sentinel_managed_pool(self, asynchronous: bool = False) -> Any:
        pool = super()._sentinel_managed_pool(asynchronous)
        # kombu builds redis-py's own class.
        pool.sentinel_manager.__class__ = SentinelGroup
        pool.sentinel_manager.forbid_retries()
        return pool


class SentinelTransport(Transport, redis.SentinelTransport):  # type: ignore[misc]  # kombu's is untyped
    """The same behind Sentinel."""

    default_port = redis.SentinelTransport.default_port
    Channel = SentinelChannel


def require_writable(opened: Any) -> None:
    """Raise ServerRefuses for a server that takes no writes for now. kombu then waits, and connects again."""
    # A write that changes nothing.
    opened.plain_client.hdel(opened.unacked_keys[0], "")


def require_blmove(opened: Any) -> None:
    """Raise ServerTooOld for a server without BLMOVE. A server that hides its version is supposed to have it."""
    try:
        version = str(opened._create_client().info("server")["redis_version"])
    except (ResponseError, KeyError):
        return
    if tuple(int(part) for part in version.split(".")[:2]) < MINIMUM_VERSION:
        raise ServerTooOld(
            f"Redis {version} has no BLMOVE, which the claiming transport needs: use Redis 6.2 or newer, or Valkey, "
            "or set PATTERN_STORAGE_SAFE_TRANSPORT=false for kombu's own."
        )
