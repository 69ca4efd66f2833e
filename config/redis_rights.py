"""Rights of each service in Redis: exactly the commands, keys and channels that its ACL user needs.

`tests/servers/test_redis_users.py` runs the whole system with them, docs/redis.md lists them, and `pattern-storage
doctor` checks that its user has them.
"""

from typing import NamedTuple


class Rights(NamedTuple):
    """Rights of one user."""

    commands: frozenset[str]
    #: Patterns without the prefix of `Settings.key_prefix`.
    keys: tuple[str, ...]
    #: Patterns of channels, likewise without prefix; `{db}` is the number of the database. To subscribe to a pattern,
    #: Redis requires that very pattern here, so that a wider one could not stand for several.
    channels: tuple[str, ...] = ()


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Of every service; with MULTI and DISCARD `doctor` also finds out what is refused without doing anything.
_ALL = _words("client|setinfo discard exec multi ping")
_RESULTS = ("celery-task-meta-*",)
_QUEUES = ("storage*", "batch*", "imports*")
#: For kombu to publish to a queue.
_PUBLISH = _words("llen lpush sadd")
#: For kombu to send remote control commands to workers and read the replies.
_ASK = _words(
    "brpop del eval evalsha get llen publish sadd script|exists script|load set smembers srem time zadd zrange"
    " zrangebyscore zrem"
)
#: To list and purge the messages of a queue.
_LOOK = _words("hscan lindex llen lrange mget rpop scan")
_STORE_STATE = _words("eval evalsha get getrange publish set")
#: For the metrics of a worker and a relay.
_MEASURE = _words("hlen info lindex llen scan")
#: The key that `health` writes.
_HEALTH = ("pattern-storage-health",)
_CONTROL = ("/{db}.celery.pidbox",)
#: The keys of a kombu consumer: its bindings, its messages in flight, remote control and its replies.
_CONSUMER_KEYS = ("_kombu.binding*", "pattern-storage.unacked*", "*.celery.pidbox*")

_CLIENT = Rights(
    _ALL | _STORE_STATE | _words("del lpush setrange subscribe unsubscribe"),
    ("storage*", "batch*", *_RESULTS),
    _RESULTS,
)
RIGHTS = {
    "worker": Rights(
        _ALL
        | _ASK
        | _PUBLISH
        | _STORE_STATE
        | _MEASURE
        | _words(
            "blmove client|id client|tracking client|unblock exists hdel hexists hget hset lpop lpos lrem ltrim"
            " psubscribe punsubscribe rpop rpush type"
        ),
        # Before version 0.1 was finished, messages in flight were under kombu's own names.
        (*_QUEUES, *_RESULTS, *_CONSUMER_KEYS, *_HEALTH, "celeryev.*", "unacked", "unacked_index"),
        (*_RESULTS, *_CONTROL, "/{db}.celeryev/*", "/{db}.celeryev/worker.*"),
    ),
    # It publishes an event for Flower about each job that it sends.
    "beat": Rights(
        _ALL | _PUBLISH | _words("info publish set"), (*_QUEUES, *_HEALTH, "_kombu.binding*"), ("/{db}.celeryev/*",)
    ),
    "relay": Rights(_ALL | _MEASURE | _words("lpush set"), (*_QUEUES, *_RESULTS, *_HEALTH, "pattern-storage.unacked*")),
    "flower": Rights(
        # It publishes the jobs that an operator replays, sends again or runs.
        _ALL | _ASK | _LOOK | _PUBLISH | _STORE_STATE | _words("info psubscribe punsubscribe"),
        (*_QUEUES, *_RESULTS, *_CONSUMER_KEYS, *_HEALTH, "celeryev.*"),
        (*_RESULTS, *_CONTROL, "/{db}.celeryev/*"),
    ),
    "client": _CLIENT,
    "command-line": Rights(
        _CLIENT.commands | _ASK | _LOOK | _PUBLISH | _words("info"),
        (*_QUEUES, *_RESULTS, *_CONSUMER_KEYS, *_HEALTH),
        (*_RESULTS, *_CONTROL),
    ),
}


def acl_rules(service: str, prefix: str = "", database: int = 0) -> list[str]:
    """Return the rules of a service's user, as ACL SETUSER and an ACL file take them, without its password."""
    rights = RIGHTS[service]
    return [
        "-@all",
        *(f"+{command}" for command in sorted(rights.commands)),
        "resetkeys",
        *(f"~{prefix}{pattern}" for pattern in rights.keys),
        "resetchannels",
        *(f"&{prefix}{pattern.format(db=database)}" for pattern in rights.channels),
    ]
