"""Rights of each service in Redis: the commands, keys and channels that an ACL user of it needs, and no more.

`tests/servers/test_redis_users.py` runs the whole system with exactly these, docs/redis.md shows them, and
`pattern-storage doctor` looks whether its user has them.
"""

from typing import NamedTuple


class Rights(NamedTuple):
    """What a user needs."""

    commands: frozenset[str]
    #: Patterns without the prefix of `Settings.key_prefix`.
    keys: tuple[str, ...]
    #: The same for channels; `{db}` is the number of the database. Redis wants patterns that are subscribed to word
    #: for word, so that none of these could stand for another.
    channels: tuple[str, ...] = ()


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Of every service; MULTI and DISCARD also have `doctor` ask what is refused without doing anything.
_ALL = _words("client|setinfo discard exec multi ping")
_RESULTS = ("celery-task-meta-*",)
_QUEUES = ("storage*", "batch*", "imports*")
#: kombu's, for a queue that it publishes to.
_PUBLISH = _words("llen lpush sadd")
#: kombu's, to ask workers and read their answers.
_ASK = _words(
    "brpop del eval evalsha get llen publish sadd script|exists script|load set smembers srem time zadd zrange"
    " zrangebyscore zrem"
)
#: To show and purge what waits.
_LOOK = _words("hscan lindex llen lrange mget rpop scan")
_STORE_STATE = _words("eval evalsha get getrange publish set")
#: What the metrics of a worker and a relay read, by way of kombu.
_MEASURE = _words("hlen info lindex llen scan")
#: What `health` writes.
_HEALTH = ("pattern-storage-health",)
_CONTROL = ("/{db}.celery.pidbox",)
#: What a consumer of kombu's has: its bindings, what it has in flight, answers and remote control.
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
        # Before version 0.1 was finished, what is in flight was under kombu's own names.
        (*_QUEUES, *_RESULTS, *_CONSUMER_KEYS, *_HEALTH, "celeryev.*", "unacked", "unacked_index"),
        (*_RESULTS, *_CONTROL, "/{db}.celeryev/*", "/{db}.celeryev/worker.*"),
    ),
    # It tells Flower of what it sends.
    "beat": Rights(
        _ALL | _PUBLISH | _words("info publish set"), (*_QUEUES, *_HEALTH, "_kombu.binding*"), ("/{db}.celeryev/*",)
    ),
    "relay": Rights(_ALL | _MEASURE | _words("lpush set"), (*_QUEUES, *_RESULTS, *_HEALTH, "pattern-storage.unacked*")),
    "flower": Rights(
        # It publishes what an operator replays, sends again or runs.
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
