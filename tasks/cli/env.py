"""The command `env`: prints the URLs of the servers for a shell."""

import shlex

from pattern_storage.config.settings import load_settings
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
