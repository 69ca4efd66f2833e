"""Roles of Flower's logins: viewer, operator and admin, each of which may do all that the ones before it may."""

from enum import IntEnum
from typing import TYPE_CHECKING

from pydantic import SecretStr

if TYPE_CHECKING:
    from pattern_storage.config.settings import Settings


class Role(IntEnum):
    """What somebody who logged in may do."""

    VIEWER = 1
    """Sees every page."""

    OPERATOR = 2
    """Cancels, retries and replays jobs, starts, stops and pauses imports, pauses queues."""

    ADMIN = 3
    """Discards dead letters, empties queues, sends tasks, and controls workers."""

    @property
    def label(self) -> str:
        """Its name on a page."""
        return self.name.lower()


def logins(settings: "Settings") -> dict[str, Role]:
    """Return the role of each login, `user:password`; FLOWER_USER with FLOWER_PASSWORD is an admin."""
    found: dict[str, Role] = {}
    for secret, role in (
        (settings.flower_viewers, Role.VIEWER),
        (settings.flower_operators, Role.OPERATOR),
        (settings.flower_admins, Role.ADMIN),
    ):
        found |= dict.fromkeys(_split(secret), role)
    if settings.flower_password is not None:
        found[f"{settings.flower_user}:{settings.flower_password.get_secret_value()}"] = Role.ADMIN
    return found


def _split(secret: SecretStr | None) -> list[str]:
    return [] if secret is None else secret.get_secret_value().split()
