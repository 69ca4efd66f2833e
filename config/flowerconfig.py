"""Flower's options, in one place and with reasons.

Their names and defaults: https://flower.readthedocs.io/en/latest/config.html
"""

from typing import Any

from pattern_storage.config.flower_roles import logins
from pattern_storage.config.settings import Settings, SettingsInvalid
from pattern_storage.config.variables import PREFIX

#: Columns of the list of jobs, in order, by Flower's names: `uuid` is the correlation id, `args` our description of the
#: job, `result` its result, error or progress, `routing_key` its queue. Flower sorts by `received`.
COLUMNS = ("name", "uuid", "state", "args", "result", "runtime", "worker", "routing_key", "received")

#: Jobs kept in memory and in the file. Writing the file blocks Flower, for a sixth of a second with this many.
MAX_TASKS = 10_000

#: Seconds after which an offline worker is removed from the list: containers have a new name after every start.
FORGET_WORKERS = 86_400


def flower_options(settings: Settings) -> dict[str, Any]:
    """Return Flower's options by name. Raises SettingsInvalid if there is no password."""
    if settings.flower_password is None:
        raise SettingsInvalid(
            f"{PREFIX}FLOWER_PASSWORD is not set; Flower is only for users who log in, as"
            f" {settings.flower_user!r} with this password"
        )
    return {
        "basic_auth": list(logins(settings)),
        "address": settings.flower_address,
        "port": settings.flower_port,
        "read_only": settings.flower_read_only,
        "persistent": True,
        "db": str(settings.flower_file),
        "state_save_interval": round(settings.flower_save_interval * 1_000),
        "max_tasks": MAX_TASKS,
        "purge_offline_workers": FORGET_WORKERS,
        "tasks_columns": ",".join(COLUMNS),
    } | ({"url_prefix": prefix} if (prefix := settings.flower_url_prefix.strip("/")) else {})
