"""Validation of settings beyond their types: the key prefix, logins, URLs, and rules between several fields."""

import re
from typing import TYPE_CHECKING

from pattern_storage.config.broker import RABBITMQ_SCHEMES, REDIS_SCHEMES
from pattern_storage.config.flower_roles import split_logins
from pattern_storage.config.urls import check_url
from pattern_storage.config.variables import PREFIX

if TYPE_CHECKING:
    from pattern_storage.config.settings import Settings

#: Minimum length of a password. A shorter one could be guessed: Flower does not limit the attempts.
LEAST_PASSWORD = 8


def check_key_prefix(prefix: str) -> str:
    """Return the prefix. Raises ValueError for one that Celery would change, or that is a pattern in an ACL."""
    # Celery, unlike kombu, appends "_" to a prefix that ends otherwise.
    if not re.fullmatch(r"([A-Za-z0-9_.:-]{0,99}[.:_-])?", prefix):
        raise ValueError("should be letters, digits and .:_- and end in one of these four, as in 'team-a:'")
    return prefix


def cross_validate(settings: "Settings") -> None:
    """Raise ValueError, with one sentence that names variable, value and rule, for contradictory settings."""
    if settings.pool_min_size > settings.pool_max_size:
        raise _contradiction(settings, "pool_min_size", "at most", "pool_max_size")
    if settings.task_soft_time_limit >= settings.task_time_limit:
        raise _contradiction(settings, "task_soft_time_limit", "less than", "task_time_limit")
    for field in ("statement_timeout", "query_statement_timeout", "batch_statement_timeout", "lock_timeout"):
        # A default may be longer: Celery's limit then comes first, and cancels the statement.
        if field in settings.model_fields_set and getattr(settings, field) > settings.task_soft_time_limit:
            raise _contradiction(settings, field, "at most", "task_soft_time_limit")
    # A default may be longer here too: the job is then told to stop while it waits.
    if "pool_timeout" in settings.model_fields_set and settings.pool_timeout >= settings.task_soft_time_limit:
        raise _contradiction(settings, "pool_timeout", "less than", "task_soft_time_limit")
    if settings.flower_password is not None:
        _check_password("FLOWER_PASSWORD", settings.flower_password.get_secret_value())
    _check_logins(settings)
    check_url("DATABASE_URL", settings.database_url, ("postgresql", "postgres"))
    check_url("REDIS_URL", settings.redis_url, REDIS_SCHEMES)
    check_url("BROKER_URL", settings.broker_url, (*REDIS_SCHEMES, *RABBITMQ_SCHEMES))
    check_url("RESULT_BACKEND_URL", settings.result_backend_url, REDIS_SCHEMES)


def _contradiction(settings: "Settings", field: str, rule: str, other: str) -> ValueError:
    value = getattr(settings, field)
    return ValueError(
        f"{PREFIX}{field.upper()} is {f'{value:g}' if isinstance(value, float) else value}; it should be {rule}"
        f" {PREFIX}{other.upper()}, which is {getattr(settings, other)}"
    )


def _check_password(name: str, password: str) -> None:
    if len(password) < LEAST_PASSWORD or not (password.isascii() and password.isprintable()):
        raise ValueError(
            f"{PREFIX}{name} has {len(password)} characters;"
            f" it should have at least {LEAST_PASSWORD}, all of them printable ASCII"
        )


def _check_logins(settings: "Settings") -> None:
    """Check the logins of Flower's roles; no error text repeats a password."""
    seen = {settings.flower_user: "FLOWER_USER"}
    for role in ("viewers", "operators", "admins"):
        variable = f"FLOWER_{role.upper()}"
        for place, login in enumerate(split_logins(getattr(settings, f"flower_{role}")), start=1):
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
