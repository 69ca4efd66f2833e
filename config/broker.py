"""Broker differences: the settings that depend on whether the broker is Redis or RabbitMQ."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pattern_storage.config import sentinel

if TYPE_CHECKING:
    from pattern_storage.config.settings import Settings

#: URL schemes of each broker.
REDIS_SCHEMES = ("redis", "rediss", "sentinel", "redis+socket", "unix")
RABBITMQ_SCHEMES = ("amqp", "amqps", "pyamqp")

#: Deliveries after which RabbitMQ drops a message: so many that it never does. Attempts are counted in PostgreSQL, and
#: a job that twenty stopping workers handed back (RabbitMQ 4's own limit) has not failed once.
DELIVERY_LIMIT = 1_000_000

#: The Redis keys of messages in flight. kombu's default names are the same for every application of a Redis database,
#: and each application restores the messages that it finds there after its own visibility timeout.
UNACKED_KEYS = {
    "unacked_key": "pattern-storage.unacked",
    "unacked_index_key": "pattern-storage.unacked_index",
    "unacked_mutex_key": "pattern-storage.unacked_mutex",
}


@dataclass(frozen=True)
class Broker:
    """A kind of broker."""

    name: str
    #: Whether it is Redis, with Sentinels or without: its messages are in lists that transport and metrics read.
    is_redis: bool
    #: Minimum seconds before any retry. Celery sends the retry before it stores the state RETRY, which could otherwise
    #: overwrite the retry's SUCCESS. On RabbitMQ Celery truncates a delay to whole seconds.
    least_delay: float
    exchange_type: str = "direct"
    queue_arguments: dict[str, Any] | None = None


REDIS = Broker("Redis", is_redis=True, least_delay=0.25)

#: Its queues are quorum queues: a majority of the nodes keeps each on disk, so that no job is lost with one node.
#: Celery recognizes that and turns off the global QoS, which quorum queues do not have. Retries then wait in RabbitMQ
#: (native delayed delivery), which needs a topic exchange; with a direct one they would wait in a worker and use up
#: its prefetch limit, which it cannot raise on quorum queues.
RABBITMQ = Broker(
    "RabbitMQ",
    is_redis=False,
    least_delay=1.0,
    exchange_type="topic",
    queue_arguments={"x-queue-type": "quorum", "x-delivery-limit": DELIVERY_LIMIT},
)


def broker_of(url: str) -> Broker:
    """Return the kind of broker of a validated URL."""
    return RABBITMQ if url.startswith(RABBITMQ_SCHEMES) else REDIS


def transport_options(settings: "Settings") -> dict[str, Any]:
    """Return the options of kombu's transport for the broker of these settings."""
    if not settings.broker_kind.is_redis:
        # Publisher confirms: without them a message that RabbitMQ never stored counts as sent.
        return {"confirm_publish": True}
    # Seconds between two sweeps for jobs whose worker vanished. kombu's defaults amount to 100 seconds, long beside the
    # visibility timeout; this adds a tenth of the timeout at most, and no more than ten seconds.
    sweep = min(max(settings.visibility_timeout // 10, 1), 10)
    return {
        "visibility_timeout": settings.visibility_timeout,
        **UNACKED_KEYS,
        # kombu prefixes queues, bindings, messages in flight, and the channels of events and remote control with it.
        "global_keyprefix": settings.key_prefix,
        "unacked_restore_interval": sweep,
        "unacked_restore_throttle": 1,
        # Seconds for which a worker that is killed in a sweep keeps the others from sweeping; kombu's default is 300.
        # Sweeps that overlap do no harm: each message is put back in one step.
        "unacked_mutex_expire": 3 * sweep,
        "socket_connect_timeout": settings.connect_timeout,
        # A server that accepts connections and never answers is down too. A worker's blocking pop takes one second.
        "socket_timeout": max(settings.connect_timeout, 2.0),
        "socket_keepalive": True,
    } | sentinel.transport_options(settings, settings.broker)
