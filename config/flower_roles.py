"""Roles of Flower's logins: viewer, operator and admin. Each has all rights of the ones before it."""

from enum import IntEnum
from typing import TYPE_CHECKING

from pydantic import SecretStr

if TYPE_CHECKING:
    from pattern_storage.config.settings import Settings


class Role(IntEnum):
    """Rights of a user who has logged in to Flower."""

    VIEWER = 1
    """Sees every page."""

    OPERATOR = 2
    """Cancels, retries and replays jobs, starts, stops and pauses imports, pauses queues."""

    ADMIN = 3
    """Discards dead letters, empties queues, sends tasks, and controls workers."""

    @property
    def label(self) -> str:
        """Name of the role on a page."""
        return self.name.lower()


def logins(settings: "Settings") -> dict[str, Role]:
    """Return the role of each login, `user:password`; FLOWER_USER with FLOWER_PASSWORD is an admin."""
    roles: dict[str, Role] = {}
    for secret, role in (
        (settings.flower_viewers, Role.VIEWER),
        (settings.flower_operators, Role.OPERATOR),
        (settings.flower_admins, Role.ADMIN),
    ):
        roles |= dict.fromkeys(split_logins(secret), role)
    if settings.flower_password is not None:
        roles[f"{settings.flower_user}:{settings.flower_password.get_secret_value()}"] = Role.ADMIN
    return roles


def split_logins(secret: SecretStr | None) -> list[str]:
    """Return the logins of one role's setting, which separates them by blanks or line breaks."""
    return [] if secret is None else secret.get_secret_value().split()
