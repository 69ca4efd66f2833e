"""Check of a Redis user: the rights that a service needs and the user lacks."""

from collections.abc import Iterator
from typing import Any

from redis.exceptions import NoPermissionError, ResponseError

from pattern_storage.config.redis_rights import RIGHTS, Rights
from pattern_storage.config.settings import Settings
from pattern_storage.tasks import redis_connections

#: Stands for the key or channel among the arguments.
OURS = "?"
#: Arguments with which the server queues a command in a transaction.
ARGUMENTS: dict[str, tuple[str, ...]] = {
    "blmove": (OURS, OURS, "RIGHT", "LEFT", "1"),
    "client|setinfo": ("LIB-VER", ""),
    "client|tracking": ("OFF",),
    "eval": ("return 1", "1", OURS),
    "evalsha": ("0" * 40, "1", OURS),
    "script|load": ("return 1",),
    **dict.fromkeys(("client|id", "info", "ping", "punsubscribe", "time", "unsubscribe"), ()),
    **dict.fromkeys(("client|unblock", "scan", "script|exists"), ("0",)),
    **dict.fromkeys(
        ("del", "exists", "get", "hlen", "llen", "lpop", "mget", "psubscribe", "rpop", "smembers", "subscribe", "type"),
        (OURS,),
    ),
    **dict.fromkeys(("brpop", "hdel", "hexists", "hget", "hscan", "lindex", "lpos", "lpush", "publish"), (OURS, "0")),
    **dict.fromkeys(("rpush", "sadd", "set", "srem", "zrem"), (OURS, "0")),
    **dict.fromkeys(
        ("getrange", "hset", "lrange", "lrem", "ltrim", "setrange", "zadd", "zrange", "zrangebyscore"),
        (OURS, "0", "0"),
    ),
}
#: The commands of the transaction itself.
AROUND = frozenset({"multi", "exec", "discard"})


def missing_rights(settings: Settings, url: str, service: str) -> list[str]:
    """Return the rights of a service that the user of this URL lacks, as rules of an ACL. Raises RedisError.

    No command is carried out: the server checks rights when it queues a command in a transaction, which is discarded.
    """
    rights = RIGHTS[service]
    with redis_connections.connect(settings, url) as client:
        connection: Any = client.connection_pool.get_connection()
        database = int(client.connection_pool.connection_kwargs.get("db") or 0)
        try:
            connection.send_command("MULTI")
            connection.read_response()
            lacking = list(_missing(connection, rights, settings.key_prefix, database))
            connection.send_command("DISCARD")
            connection.read_response()
        except NoPermissionError:
            lacking = [f"+{command}" for command in sorted(AROUND)]
        finally:
            connection.disconnect()
    return lacking


def _missing(connection: Any, rights: Rights, prefix: str, database: int) -> Iterator[str]:
    def refusal(command: str, name: str = OURS) -> str:
        """Return the server's refusal of a command on this key or channel, "" if it allows it."""
        arguments = [name if argument is OURS else argument for argument in ARGUMENTS[command]]
        connection.send_command(*command.upper().split("|"), *arguments)
        try:
            connection.read_response()
        except NoPermissionError as error:
            return str(error)
        except ResponseError:
            # A server that is full, for example: other checks report that.
            return ""
        return ""

    refusals = {command: refusal(command) for command in sorted(rights.commands - AROUND)}
    lacking = {command for command, text in refusals.items() if "command" in text}
    yield from (f"+{command}" for command in sorted(lacking))
    allowed = [command for command in refusals if command not in lacking]
    keyed = [command for command in ("get", "set", "llen", "lpush", "del") if command in allowed]
    for pattern in (f"{prefix}{key}" for key in rights.keys):
        if keyed and "key" in refusal(keyed[0], pattern.replace("*", "x")):
            yield f"~{pattern}"
    for pattern in (f"{prefix}{channel.format(db=database)}" for channel in rights.channels):
        example = pattern.replace("*", "x")
        # Only broadcasts are subscribed to by a pattern, for which the rule has to be that very pattern.
        names = {"publish": example} | ({"psubscribe": pattern} if "/" in pattern else {"subscribe": example})
        if any(command in allowed and "channel" in refusal(command, name) for command, name in names.items()):
            yield f"&{pattern}"
