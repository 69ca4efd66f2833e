"""Check of Redis servers at start: one sentence for a fault that does not pass by waiting."""

from collections.abc import Iterator

from redis.exceptions import RedisError, ResponseError

from pattern_storage.config.settings import Settings, SettingsInvalid
from pattern_storage.tasks import redis_connections


def redis_urls(settings: Settings) -> dict[str, str]:
    """Return the URLs of the Redis servers, each with the name of the variable that it comes from."""
    urls = {settings.result_backend: "RESULT_BACKEND_URL" if settings.result_backend_url else "REDIS_URL"}
    if settings.broker_kind.is_redis:
        urls[settings.broker] = "BROKER_URL" if settings.broker_url else "REDIS_URL"
    return urls


def complaints(settings: Settings) -> Iterator[str]:
    """Yield a sentence for each server that answers and cannot be used. A server that is down may come back."""
    for url, variable in redis_urls(settings).items():
        try:
            with redis_connections.connect(settings, url) as server:
                server.ping()
                if server.info("cluster").get("cluster_enabled"):
                    yield (
                        f"{variable} names a Redis Cluster, which is not supported: the keys of a queue have to be on"
                        " one server; use a server of its own, or one behind Sentinels (sentinel://)"
                    )
        except ResponseError as error:
            if "DB index is out of range" in str(error):
                yield f"{variable} has a database that the server does not have; it should be less than its 'databases'"
        except (RedisError, OSError):
            continue


def check_redis(settings: Settings) -> None:
    """Raise SettingsInvalid for a server that answers and cannot be used."""
    for complaint in complaints(settings):
        raise SettingsInvalid(complaint)
