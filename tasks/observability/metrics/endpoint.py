"""The endpoint: files that the processes of a worker write and its main process serves.

prometheus_client's multiprocess mode names files by process id, so that a worker whose children come and go
(`worker_max_tasks_per_child`) would gather files without end. Here they are named by the child's place in the pool: a
child that replaces another goes on with its counters, and the gauges are cleared.
"""

import atexit
import os
import shutil
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

from celery import signals
from celery.utils.log import current_process_index  # type: ignore[attr-defined]  # missing in celery-types
from prometheus_client import CollectorRegistry, start_http_server, values
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from pattern_storage.config.settings import Settings, SettingsInvalid
from pattern_storage.config.variables import PREFIX
from pattern_storage.tasks.observability.metrics.folder import make_folder, remove_stale_folders
from pattern_storage.tasks.observability.metrics.recorder import Recorder
from pattern_storage.tasks.observability.metrics.servers import ServersCollector

#: The one variable by which prometheus_client finds the files.
DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"


class _ProcessSlot:
    """The name of this process's files: its place in the pool, or `main`."""

    def __init__(self) -> None:
        self._process_id = 0
        self._name = ""

    def __call__(self) -> str:
        if os.getpid() != self._process_id:
            index = current_process_index()
            self._process_id, self._name = os.getpid(), "main" if index is None else str(index)
            # Clears the gauges of a child that was killed, and whose place this is now.
            mark_process_dead(self._name)  # type: ignore[no-untyped-call]
        return self._name


class FilesCollector(MultiProcessCollector):
    """prometheus_client's collector of the files of all processes, also while a process is creating one."""

    def collect(self) -> Any:
        """Return what all files say together. An empty one would fail the whole request."""
        files = [str(file) for file in Path(self._path).glob("*.db") if _has_content(file)]
        return self.merge(files, accumulate=True)  # type: ignore[no-untyped-call]


def _has_content(file: Path) -> bool:
    # Gauges of a process that has ended are removed.
    with suppress(FileNotFoundError):
        return file.stat().st_size > 0
    return False


def serve(settings: Settings, queues: Callable[[], Collection[str]]) -> Recorder:
    """Open the endpoint of this process and of those it will fork; return the recorder for all of them.

    Raises SettingsInvalid if the address cannot be listened on.
    """
    remove_stale_folders()
    directory = make_folder()
    os.environ[DIRECTORY] = str(directory)
    atexit.register(_remove, directory, os.getpid())
    slot = _ProcessSlot()
    # prometheus_client chooses when it is first imported. Celery's command line imports it, through Flower, before any
    # of our code runs.
    values.ValueClass = values.MultiProcessValue(slot)  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    FilesCollector(registry, str(directory))  # type: ignore[no-untyped-call]
    registry.register(ServersCollector(settings, queues))
    address, port = settings.metrics_address, settings.metrics_port
    try:
        server, _ = start_http_server(port, address, registry)
    except OSError as error:
        raise SettingsInvalid(
            f"{PREFIX}METRICS_PORT is {port}, but {address}:{port} cannot be listened on ({error.strerror or error});"
            " each process on a host needs a port of its own, and 0 serves no metrics"
        ) from error
    # An orphan would keep the port.
    os.register_at_fork(after_in_child=server.socket.close)

    @signals.worker_process_shutdown.connect(weak=False)
    def leave(**_: Any) -> None:
        mark_process_dead(slot())  # type: ignore[no-untyped-call]

    return Recorder()


def _remove(directory: Path, owner: int) -> None:
    if os.getpid() == owner:
        shutil.rmtree(directory, ignore_errors=True)
