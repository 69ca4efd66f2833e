"""pytest-celery's own `celery_setup`, as in its guide, with its matrix pinned to Redis and without containers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from celery import Celery
from pytest_celery import CeleryTestBackend, CeleryTestBroker, CeleryTestContainer

from pattern_storage.embedded import EmbeddedValkey
from tests.fix_celery import StorageWorker, launch_worker
from tests.fix_process import DEADLINE, signal_of


class ValkeyServer:
    """The embedded Valkey with the face of a docker container."""

    id = name = "valkey"

    def __init__(self, server: EmbeddedValkey) -> None:
        self.server = server
        self.attrs: dict[str, Any] = {"NetworkSettings": {"Networks": {}, "Ports": {}}}

    @property
    def status(self) -> str:
        return "running" if self.server.running else "exited"

    def reload(self) -> None:
        """Forget what was cached: nothing is."""

    def logs(self) -> bytes:
        return self.server.log_file.read_bytes()

    def kill(self, signal: str | int | None = None) -> None:
        if signal_of(signal) == signal_of("SIGKILL"):
            self.server.kill()
        else:
            self.server.stop()

    def restart(self, timeout: float = DEADLINE) -> None:
        self.server.stop()
        self.server.start()


class ValkeyContainer(CeleryTestContainer):  # type: ignore[misc]  # pytest-celery has no type hints
    """Broker and result backend of `celery_setup`."""

    @property
    def url(self) -> str:
        return str(self._container.server.url)

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 6379

    @property
    def celeryconfig(self) -> dict[str, Any]:
        return {"url": self.url, "host_url": self.url, "hostname": "127.0.0.1", "port": self.port}

    def _wait_ready(self, timeout: int = 30) -> bool:
        return True  # its start() returns when it answers


@pytest.fixture
def celery_broker(lone_valkey: EmbeddedValkey) -> CeleryTestBroker:
    """pytest-celery's broker, not parametrized: Redis alone."""
    return CeleryTestBroker(ValkeyContainer(ValkeyServer(lone_valkey)))


@pytest.fixture
def celery_backend(lone_valkey: EmbeddedValkey) -> CeleryTestBackend:
    """pytest-celery's result backend: the same server."""
    return CeleryTestBackend(ValkeyContainer(ValkeyServer(lone_valkey)))


@pytest.fixture
def celery_worker(
    lone_valkey: EmbeddedValkey, database_url: str, tmp_path: Path, celery_setup_app: Celery
) -> Iterator[StorageWorker]:
    """pytest-celery's worker: ours, on this test's database."""
    started = launch_worker(database_url, lone_valkey.url, tmp_path / "setup.log", app=celery_setup_app)
    yield started
    started.teardown()
