"""The command that looks at everything a deployment needs, and says what to do about what is wrong."""

from collections.abc import Iterator
from typing import Any

import typer
from kombu.exceptions import OperationalError
from redis.exceptions import NoPermissionError, RedisError, ResponseError
from rich.text import Text

from pattern_storage.config.redis_rights import RIGHTS
from pattern_storage.config.settings import Settings, load_settings
from pattern_storage.tasks import redis_connections
from pattern_storage.tasks.cli.doctor_postgresql import Finding, check_postgresql
from pattern_storage.tasks.cli.doctor_service import check_service
from pattern_storage.tasks.cli.exits import Exit
from pattern_storage.tasks.cli.jobs import Json
from pattern_storage.tasks.cli.output import print_json, print_table
from pattern_storage.tasks.redis_rights import missing_rights
from pattern_storage.tasks.redis_server import complaints
from pattern_storage.tasks.sender import create_app

OLDEST_REDIS = (6, 2)


def doctor(as_json: Json = False) -> None:
    """Check servers, workers and what waits; exit 0 if all is well, 3 if a server is unreachable, else 1."""
    findings = check_all(load_settings())
    if as_json:
        print_json([vars(finding) for finding in findings])
    else:
        rows = [
            (Text("ok", "green") if each.ok else Text("WRONG", "bold red"), each.subject, each.found, each.advice)
            for each in findings
        ]
        print_table(("", "what", "found", "what to do"), rows)
    if any(finding.unreachable for finding in findings):
        raise typer.Exit(Exit.UNREACHABLE)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(Exit.FAILED)


def check_all(settings: Settings) -> list[Finding]:
    """Return what each check found. Flower's overview shows the same."""
    return [finding for check in CHECKS for finding in check(settings)]


def _redis_subjects(settings: Settings) -> dict[str, str]:
    """Return the URLs of Redis servers, and what a finding about each is called."""
    urls = {"results": settings.result_backend}
    if settings.broker_kind.is_redis:
        urls["queue"] = settings.broker
    return {url: "Redis, " + " and ".join(n for n, u in urls.items() if u == url) for url in urls.values()}


def _redis(settings: Settings) -> Iterator[Finding]:
    for url, subject in _redis_subjects(settings).items():
        try:
            with redis_connections.connect(settings, url) as server:
                yield from _redis_server(subject, server.info())
        except NoPermissionError as error:
            advice = "grant its user '+info'; without it this command cannot look at version, persistence and memory"
            yield Finding(subject, False, str(error), advice)
        except ResponseError as error:
            yield Finding(subject, False, str(error), "correct REDIS_URL; docs/redis.md says what is supported")
        except RedisError as error:
            yield Finding(subject, False, str(error), "start Redis or Valkey, or correct REDIS_URL", unreachable=True)


def _redis_kind(settings: Settings) -> Iterator[Finding]:
    for complaint in complaints(settings):
        yield Finding("Redis", False, complaint, "docs/redis.md says what is supported")


def _redis_rights(settings: Settings) -> Iterator[Finding]:
    """Look for which services the user of each URL has enough rights, and what it lacks for the others."""
    for url, subject in _redis_subjects(settings).items():
        try:
            missing = {service: missing_rights(settings, url, service) for service in RIGHTS}
        except (RedisError, OSError):
            # The findings about the server say why.
            continue
        enough = [service for service, lacking in missing.items() if not lacking]
        nearest = min((service for service in RIGHTS if missing[service]), key=lambda s: len(missing[s]), default=None)
        found = f"enough for {', '.join(enough)}" if enough else "enough for no service"
        if nearest is not None:
            found += f"; a user of {nearest} needs {' '.join(missing[nearest])} as well"
        advice = "" if enough else "grant it what is missing; docs/redis.md lists the rights of each service"
        yield Finding(f"{subject}: rights", bool(enough), found, advice)


def _redis_server(subject: str, info: dict[str, Any]) -> Iterator[Finding]:
    name = "Valkey" if "valkey_version" in info else "Redis"
    version = str(info.get("valkey_version") or info["redis_version"])
    new = tuple(int(part) for part in version.split(".")[:2]) >= OLDEST_REDIS
    yield Finding(subject, new, f"{name} {version}", "" if new else "upgrade to 6.2 or later")
    kept = bool(info.get("aof_enabled"))
    yield Finding(
        f"{subject}: persistence", kept, "append-only file is on" if kept else "append-only file is off",
        "" if kept else "set 'appendonly yes', or a restart loses the jobs that wait",
    )  # fmt: skip
    policy = str(info.get("maxmemory_policy"))
    yield Finding(
        f"{subject}: memory", policy == "noeviction", f"maxmemory-policy {policy}",
        "" if policy == "noeviction" else "set 'maxmemory-policy noeviction', or a full server drops jobs in silence",
    )  # fmt: skip


def _workers(settings: Settings) -> Iterator[Finding]:
    app = create_app(settings)
    try:
        answers = app.control.ping(timeout=min(settings.connect_timeout, 2.0))
    except (OSError, RedisError, OperationalError) as error:
        yield Finding("workers", False, f"cannot ask: {error}", "see the lines above", unreachable=True)
        return
    finally:
        app.close()
    names = sorted(name for answer in answers or [] for name in answer)
    yield Finding(
        "workers", bool(names), ", ".join(names) or "none answers",
        "" if names else "start one: 'celery -A pattern_storage worker', or 'pattern-storage up'",
    )  # fmt: skip


CHECKS = (check_postgresql, _redis, _redis_rights, _redis_kind, _workers, check_service)
