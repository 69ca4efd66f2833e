"""The command `env`: prints the URLs of the servers for a shell."""

import shlex

from pattern_storage.config.settings import load_settings


def env() -> None:
    r"""Print DATABASE_URL and REDIS_URL of the running 'up', or of the environment: eval "$(pattern-storage env)".

    The URLs hold passwords.
    """
    settings = load_settings()
    for variable, url in (("DATABASE_URL", settings.database), ("REDIS_URL", settings.result_backend)):
        print(f"export {variable}={shlex.quote(url)}")  # noqa: T201  # for a shell to read
