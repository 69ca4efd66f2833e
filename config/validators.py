"""Validation of settings: rules that are no matter of a type, and those that one field alone cannot break."""

import re
from typing import TYPE_CHECKING

from pattern_storage.config.broker import RABBITMQ_SCHEMES, REDIS_SCHEMES
from pattern_storage.config.urls import check_url
from pattern_storage.config.variables import PREFIX

if TYPE_CHECKING:
    from pattern_storage.config.settings import Settings

#: Fewer could be guessed: Flower lets anybody try as often as they like.
LEAST_PASSWORD = 8


def check_key_prefix(prefix: str) -> str:
    """Return the prefix. Raises ValueError for one that Celery would change, or that is no plain text in an ACL."""
    # Celery adds a "_" to one that ends otherwise, kombu does not.
    if not re.fullmatch(r"([A-Za-z0-9_.:-]{0,99}[.:_-])?", prefix):
        raise ValueError("should be letters, digits and .:_- and end in one of these four, as in 'team-a:'")
    return prefix


def cross_validate(settings: "Settings") -> None:
    """Raise ValueError, with one sentence that names variable, value and rule, for contradictory settings."""
    if settings.pool_min_size > settings.pool_max_size:
        raise ValueError(
            f"{PREFIX}POOL_MIN_SIZE is {settings.pool_min_size}; it should be at most {PREFIX}POOL_MAX_SIZE,"
            f" which is {settings.pool_max_size}"
        )
    if settings.task_soft_time_limit >= settings.task_time_limit:
        raise ValueError(
            f"{PREFIX}TASK_SOFT_TIME_LIMIT is {settings.task_soft_time_limit}; it should be less than"
            f" {PREFIX}TASK_TIME_LIMIT, which is {settings.task_time_limit}"
        )
    for name in ("statement_timeout", "query_statement_timeout", "batch_statement_timeout", "lock_timeout"):
        # A default gives way: Celery's limit then strikes first, and cancels the statement.
        if name in settings.model_fields_set and getattr(settings, name) > settings.task_soft_time_limit:
            raise ValueError(
                f"{PREFIX}{name.upper()} is {getattr(settings, name):g}; it should be at most"
                f" {PREFIX}TASK_SOFT_TIME_LIMIT, which is {settings.task_soft_time_limit}"
            )
    # A default gives way here too: the job is then told to stop while it waits.
    if "pool_timeout" in settings.model_fields_set and settings.pool_timeout >= settings.task_soft_time_limit:
        raise ValueError(
            f"{PREFIX}POOL_TIMEOUT is {settings.pool_timeout:g}; it should be less than"
            f" {PREFIX}TASK_SOFT_TIME_LIMIT, which is {settings.task_soft_time_limit}"
        )
    if settings.visibility_timeout <= settings.task_time_limit:
        raise ValueError(
            f"{PREFIX}VISIBILITY_TIMEOUT is {settings.visibility_timeout}; it should be more than"
            f" {PREFIX}TASK_TIME_LIMIT, which is {settings.task_time_limit}: a job still running would run twice"
        )
    if settings.retry_backoff_max >= settings.visibility_timeout:
        raise ValueError(
            f"{PREFIX}RETRY_BACKOFF_MAX is {settings.retry_backoff_max}; it should be less than"
            f" {PREFIX}VISIBILITY_TIMEOUT, which is {settings.visibility_timeout}: a waiting job would come twice"
        )
    if settings.flower_password is not None:
        _check_password("FLOWER_PASSWORD", settings.flower_password.get_secret_value())
    _check_logins(settings)
    check_url("DATABASE_URL", settings.database_url, ("postgresql", "postgres"))
    check_url("REDIS_URL", settings.redis_url, REDIS_SCHEMES)
    check_url("BROKER_URL", settings.broker_url, (*REDIS_SCHEMES, *RABBITMQ_SCHEMES))
    check_url("RESULT_BACKEND_URL", settings.result_backend_url, REDIS_SCHEMES)


def _check_password(name: str, password: str) -> None:
    if len(password) < LEAST_PASSWORD or not (password.isascii() and password.isprintable()):
        raise ValueError(
            f"{PREFIX}{name} has {len(password)} characters;"
            f" it should have at least {LEAST_PASSWORD}, all of them printable ASCII"
        )


def _check_logins(settings: "Settings") -> None:
    """Check the logins of Flower's roles; no sentence repeats a password."""
    seen = {settings.flower_user: "FLOWER_USER"}
    for role in ("viewers", "operators", "admins"):
        variable = f"FLOWER_{role.upper()}"
        secret = getattr(settings, f"flower_{role}")
        for place, login in enumerate(secret.get_secret_value().split() if secret else (), start=1):
            user, colon, password = login.partition(":")
            if not (user and colon and user.isascii() and user.isprintable()):
                raise ValueError(
                    f"{PREFIX}{variable}, login number {place}, should be user:password, with a blank or a line break"
                    " between two logins"
                )
            if user in seen:
                raise ValueError(f"{PREFIX}{variable} has the user {user!r}, whom {PREFIX}{seen[user]} has already")
            seen[user] = variable
            _check_password(f"{variable}, user {user},", password)
