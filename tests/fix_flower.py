"""Flower as a real process, and what it answers."""

import base64
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import pytest
from celery import Celery

from tests.fix_celery import StorageWorker
from tests.fix_process import ProcessGroup, clean_environment, free_port, wait_until

USER, PASSWORD = "admin", "correct-horse"
_open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


@dataclass(frozen=True)
class Answer:
    status: int
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


def ask(url: str, login: str | None = f"{USER}:{PASSWORD}", data: bytes | None = None, **headers: str) -> Answer:
    """Get a page, or post `data`; errors are answers too."""
    if login is not None:
        headers["Authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"
    try:
        with _open(urllib.request.Request(url, data=data, headers=headers), timeout=30) as answer:
            return Answer(answer.status, answer.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.read().decode())


class Servers(Protocol):
    """Whoever has servers: a worker, for example."""

    database_url: str
    redis_url: str


@dataclass
class GivenServers:
    """Servers without a worker."""

    database_url: str
    redis_url: str


class Flower:
    """`celery -A pattern_storage flower` on a worker's servers, or on others."""

    def __init__(self, worker: Servers, folder: Path, **variables: str) -> None:
        self.port = free_port()
        self.file = folder / "flower"
        self.variables = {
            "DATABASE_URL": worker.database_url,
            "REDIS_URL": worker.redis_url,
            "PATTERN_STORAGE_FLOWER_PORT": str(self.port),
            "PATTERN_STORAGE_FLOWER_PASSWORD": PASSWORD,
            "PATTERN_STORAGE_FLOWER_DB": str(self.file),
            "PATTERN_STORAGE_FLOWER_SAVE_INTERVAL": "1",
            # What Kubernetes says of a service called flower.
            "FLOWER_PORT": "tcp://10.0.0.1:5555",
        } | variables
        command = ("celery", "-A", "pattern_storage", "flower")
        self.group = ProcessGroup("flower", command, clean_environment(**self.variables), folder / "flower.log")

    def ready(self) -> "Flower":
        """Return once it serves pages and hears events."""
        probe = str(uuid4())
        with (
            Celery("probe", broker=self.variables["REDIS_URL"], set_as_current=False) as app,
            app.events.default_dispatcher(hostname="celery@probe") as speak,
        ):

            def heard() -> bool:
                assert self.group.status == "running", self.group.text()
                speak.send("task-progress", uuid=probe)
                with suppress(OSError):
                    return self.ask(f"/api/task/info/{probe}").status == 200
                return False

            wait_until(heard, "Flower hears events")
        return self

    def files(self) -> list[Path]:
        """Return the files that its memory consists of: how many, that Python's `dbm` decides."""
        return [path for path in self.file.parent.glob("flower*") if path.suffix != ".log"]

    def remembers(self) -> None:
        """Return once all that it knows now is in its files."""

        def written() -> int:
            try:
                return max((path.stat().st_mtime_ns for path in self.files() if ".tmp" not in path.name), default=0)
            except FileNotFoundError:
                return 0

        for _ in range(2):  # the first may have begun before
            before = written()
            wait_until(lambda before=before: written() > before, "Flower writes its file")  # type: ignore[misc]
        wait_until(lambda: not any(".tmp" in path.name for path in self.files()), "all of it is in place")

    def ask(self, path: str, **options: Any) -> Answer:
        return ask(f"http://127.0.0.1:{self.port}{path}", **options)

    def job(self, correlation_id: object, state: str) -> dict[str, Any]:
        """Return what it knows of a job, once it is in that state."""

        def known() -> Any:
            answer = self.ask(f"/api/task/info/{correlation_id}")
            return answer.status == 200 and answer.json["state"] == state and answer.json

        found: dict[str, Any] = wait_until(known, f"Flower shows {correlation_id} as {state}")
        return found


@pytest.fixture(scope="module")
def flower(worker: StorageWorker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flower]:
    """One Flower for the tests of a module."""
    running = Flower(worker, tmp_path_factory.mktemp("flower"))
    yield running.ready()
    running.group.discard()
