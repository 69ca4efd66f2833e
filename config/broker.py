"""Broker differences: what our settings and tasks do otherwise on Redis, behind Sentinels, and on RabbitMQ."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pattern_storage.config import sentinel

if TYPE_CHECKING:
    from pattern_storage.config.settings import Settings

#: The schemes of their URLs.
REDIS_SCHEMES = ("redis", "rediss", "sentinel", "redis+socket", "unix")
RABBITMQ_SCHEMES = ("amqp", "amqps", "pyamqp")

#: Deliveries after which RabbitMQ drops a message: so many that it never decides. Attempts are counted in PostgreSQL,
#: and a job that was handed back by twenty stopping workers, RabbitMQ 4's own limit, has not failed once.
DELIVERY_LIMIT = 1_000_000

#: The Redis keys of messages in flight. kombu's own names are the same for every application of a Redis database,
#: and each restores what it finds there by a visibility timeout of its own.
UNACKED_KEYS = {
    "unacked_key": "pattern-storage.unacked",
    "unacked_index_key": "pattern-storage.unacked_index",
    "unacked_mutex_key": "pattern-storage.unacked_mutex",
}


@dataclass(frozen=True)
class Broker:
    """A kind of broker."""

    name: str
    #: Whether it is Redis, behind Sentinels or not: its messages are in lists that transport and metrics look at.
    is_redis: bool
    #: Seconds before any retry. Celery sends it before it stores RETRY, which could otherwise land on the SUCCESS of
    #: it; and RabbitMQ delays by whole seconds, Celery cuts off the rest.
    least_delay: float
    exchange_type: str = "direct"
    queue_arguments: dict[str, Any] | None = None


REDIS = Broker("Redis", is_redis=True, least_delay=0.25)
SENTINEL = Broker("Redis behind Sentinels", is_redis=True, least_delay=0.25)

#: Its queues are quorum queues: kept on disk by a majority of the nodes, so that no node that dies takes a job with it.
#: Celery recognizes that and turns off the global QoS, which quorum queues do not have. Retries then wait in RabbitMQ
#: (native delayed delivery), which needs a topic exchange; with a direct one they would wait in a worker and use up
#: its prefetch limit, which quorum queues do not let it raise.
RABBITMQ = Broker(
    "RabbitMQ",
    is_redis=False,
    least_delay=1.0,
    exchange_type="topic",
    queue_arguments={"x-queue-type": "quorum", "x-delivery-limit": DELIVERY_LIMIT},
)


def broker_of(url: str) -> Broker:
    """Return the kind of broker that a checked URL names."""
    if url.startswith(RABBITMQ_SCHEMES):
        return RABBITMQ
    return SENTINEL if sentinel.is_sentinel(url) else REDIS


def transport_options(settings: "Settings") -> dict[str, Any]:
    """Return what kombu's transport for the broker of these settings takes."""
    if not broker_of(settings.broker).is_redis:
        # A message counts as sent when RabbitMQ says that it has it; without that a publisher only hopes.
        return {"confirm_publish": True}
    # Seconds between two looks for jobs whose worker vanished. kombu's defaults come to a look every 100 seconds,
    # a long time beside a short visibility timeout; this adds a tenth to it, and no more than ten seconds.
    sweep = min(max(settings.visibility_timeout // 10, 1), 10)
    return {
        "visibility_timeout": settings.visibility_timeout,
        **UNACKED_KEYS,
        # kombu puts it before queues, their bindings, what is in flight, and channels of events and remote control.
        "global_keyprefix": settings.key_prefix,
        "unacked_restore_interval": sweep,
        "unacked_restore_throttle": 1,
        # A worker that is killed while it looks keeps all others from looking for so long, 300 seconds by default.
        # Looks that overlap do no harm: each message is put back in one step.
        "unacked_mutex_expire": 3 * sweep,
        "socket_connect_timeout": settings.connect_timeout,
        # A server that accepts and then says nothing is down too; a worker asks for a second at a time.
        "socket_timeout": max(settings.connect_timeout, 2.0),
        "socket_keepalive": True,
    } | sentinel.transport_options(settings, settings.broker)
