"""The command `env`: prints the URLs of the servers for a shell, which keeps them when these servers have stopped."""

import shlex
from contextlib import suppress

from pattern_storage.config.settings import SettingsInvalid, load_settings
from pattern_storage.embedded import is_of_stopped_stack
from pattern_storage.tasks.cli.options import Json
from pattern_storage.tasks.cli.output import print_json


def env(as_json: Json = False) -> None:
    r"""Print DATABASE_URL and REDIS_URL of the running 'up', or of the environment: eval "$(pattern-storage env)".

    The URLs hold passwords.
    """
    settings = load_settings()
    urls = {"DATABASE_URL": settings.database, "REDIS_URL": settings.result_backend}
    if as_json:
        print_json(urls)
        return
    for variable, url in urls.items():
        print(f"export {variable}={shlex.quote(url)}")  # noqa: T201  # for a shell to read


def left_over() -> str:
    """Return a sentence about variables that name servers of an `up` that has stopped; empty if there are none."""
    found = []
    with suppress(SettingsInvalid):
        settings = load_settings()
        for variable, url, server in (
            ("DATABASE_URL", settings.database_url, "postgres"),
            ("REDIS_URL", settings.redis_url, "valkey"),
        ):
            if url and is_of_stopped_stack(url, settings.data_dir, server):
                found.append(variable)
    if not found:
        return ""
    verb = "is" if len(found) == 1 else "are"
    return (
        f"{' and '.join(found)} {verb} left from a 'pattern-storage up' that has stopped:"
        f" 'unset {' '.join(found)}', and start it again."
    )
