"""Flower on this machine, also as a part of `up`: its port, its login, its URL, and whether it answers."""

import json
from base64 import b64encode
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit
from urllib.request import ProxyHandler, Request, build_opener

from pydantic import SecretStr

from pattern_storage.config.settings import Settings
from pattern_storage.config.variables import PREFIX
from pattern_storage.embedded import read_state
from pattern_storage.embedded.files import read_or_create_secret
from pattern_storage.embedded.ports import is_free, port_for
from pattern_storage.tasks.cli.exits import InputInvalid

#: Addresses that stand for all of this machine's, and one of these for a browser.
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104


def with_login(settings: Settings, folder: Path, port: int | None) -> Settings:
    """Return the settings with a port that is free and a password, made once and kept in the folder.

    Args:
        settings: of the environment, which may name a port too.
        folder: where password and port are kept.
        port: of the command's option, if it was given.

    Raises:
        InputInvalid: the port of the option or the environment is taken.
    """
    wanted = port or settings.flower_port
    if not is_free(wanted):
        if port or "flower_port" in settings.model_fields_set:
            raise InputInvalid(
                f"port {wanted} for Flower is taken by another program;"
                f" choose another with --flower-port or {PREFIX}FLOWER_PORT, or leave Flower out with --no-flower"
            )
        wanted = port_for(folder / "flower-port")
    password = settings.flower_password or SecretStr(read_or_create_secret(folder / "flower-password"))
    return settings.model_copy(update={"flower_port": wanted, "flower_password": password})


def of_running_up(settings: Settings) -> Settings:
    """Return the settings with address and login of the Flower of a running `up`, unless they have a password."""
    state = None if settings.flower_password else read_state(settings.data_dir)
    if state is None or "flower_url" not in state.values:
        return settings
    url = urlsplit(str(state.values["flower_url"]))
    return settings.model_copy(
        update={
            "flower_address": url.hostname, "flower_port": url.port, "flower_url_prefix": url.path,
            "flower_user": unquote(url.username or ""), "flower_password": SecretStr(unquote(url.password or "")),
        }
    )  # fmt: skip


def variables(settings: Settings) -> dict[str, str]:
    """Return environment variables for Flower alone; every user of the machine could read them as arguments."""
    password = settings.flower_password.get_secret_value() if settings.flower_password else ""
    return {f"{PREFIX}FLOWER_PORT": str(settings.flower_port), f"{PREFIX}FLOWER_PASSWORD": password}


def address(settings: Settings, *, login: bool = False) -> str:
    """Return the URL at which a browser on this machine finds Flower, with user and password if `login`."""
    host = EVERYWHERE.get(settings.flower_address, settings.flower_address)
    place = f"{f'[{host}]' if ':' in host else host}:{settings.flower_port}"
    if login and settings.flower_password:
        password = quote(settings.flower_password.get_secret_value(), safe="")
        place = f"{quote(settings.flower_user, safe='')}:{password}@{place}"
    prefix = settings.flower_url_prefix.strip("/")
    return f"http://{place}/{prefix}/" if prefix else f"http://{place}/"


def workers(settings: Settings, timeout: float) -> dict[str, bool]:
    """Return the workers that Flower has heard of, and whether each is online.

    Args:
        settings: the address of Flower, and its login.
        timeout: seconds to wait for its answer.

    Raises:
        OSError: Flower does not answer, or refuses the login.
        HTTPException: another program answers, which is no web server.
        ValueError: another web server answers.
    """
    password = settings.flower_password.get_secret_value() if settings.flower_password else ""
    login = b64encode(f"{settings.flower_user}:{password}".encode()).decode()
    url = f"{address(settings)}api/workers?status=1"
    request = Request(url, headers={"Authorization": f"Basic {login}"})  # noqa: S310  # it begins with http://
    # A proxy in the environment is for other hosts.
    with build_opener(ProxyHandler({})).open(request, timeout=timeout) as answer:
        found: dict[str, bool] = json.load(answer)
    return found


def shows_a_worker(settings: Settings) -> bool:
    """Return whether Flower answers and has heard of a worker: from then on it misses no job."""
    try:
        return any(workers(settings, timeout=1).values())
    except OSError:
        return False
