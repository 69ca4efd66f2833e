"""Faults of a soak: what its servers and services suffer."""

import os
import random
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import psutil
import psycopg
import redis

from pattern_storage.embedded import EmbeddedPostgres, EmbeddedValkey
from pattern_storage.embedded.account import Account
from tests.fix_chaos import Fault, Repair
from tests.fix_process import DEADLINE, ProcessGroup

SERVERS = ["PostgreSQL", "Valkey"]
#: Celery ends a worker that loses a process of its pool while it starts, and leaves the next start to a supervisor.
LOST_AT_START = "Could not start worker processes"


class SyncedValkey(EmbeddedValkey):
    """A Valkey with an `appendfsync` of its own."""

    appendfsync = "everysec"

    def _command(self, account: Account, port: int, password: str) -> Sequence[str | Path]:
        return [*super()._command(account, port, password), "--appendfsync", self.appendfsync]


class SoakFaults:
    """Does things to two servers and to services by their names, of which workers are called `worker-...`."""

    def __init__(
        self,
        chance: random.Random,
        postgres: EmbeddedPostgres,
        valkey: EmbeddedValkey,
        database_url: str,
        services: dict[str, ProcessGroup],
    ) -> None:
        self._chance, self._postgres, self._valkey, self._services = chance, postgres, valkey, services
        self._database_url = database_url
        #: Services that ended without a fault, and such that did not end when they were asked to.
        self.surprises: list[str] = []
        workers = [name for name in services if name.startswith("worker")]
        self.all = [
            Fault(self.kill_pool_process, 6, workers),
            Fault(self.kill, 4, list(services)),
            Fault(self.terminate, 3, list(services)),
            Fault(self.quit, 1, workers),
            Fault(self.suspend, 3, list(services)),
            Fault(self.suspend_pool_process, 2, workers),
            Fault(self.suspend_server, 1, SERVERS),
            Fault(self.crash_server, 2, SERVERS),
            Fault(self.shut_down_postgresql, 1, SERVERS[:1]),
            Fault(self.kill_clients, 3, SERVERS[1:]),
            Fault(self.terminate_backends, 3, SERVERS[:1]),
        ]

    def notice_ends(self, down: set[str]) -> None:
        """Note services that have ended and are not among those that are down, and start them again."""
        for name, service in self._services.items():
            if name not in down and service.status == "exited":
                if LOST_AT_START not in service.text():
                    self._note(name, f"ended with {service.process.returncode}")
                service.restart()

    def _note(self, name: str, what: str) -> None:
        self.surprises.append(f"{name} {what}:\n{self._services[name].text()[-3_000:]}")

    def kill_pool_process(self, name: str) -> None:
        self._pool_process(name).kill()

    def kill(self, name: str) -> Repair:
        self._services[name].kill()
        return self._services[name].restart

    def terminate(self, name: str) -> Repair:
        return self._end(name, signal.SIGTERM)

    def quit(self, name: str) -> Repair:
        return self._end(name, signal.SIGQUIT)

    def suspend(self, name: str) -> Repair:
        return _suspend(_tree(self._services[name].process.pid))

    def suspend_pool_process(self, name: str) -> Repair:
        return _suspend([self._pool_process(name)])

    def suspend_server(self, name: str) -> Repair:
        return _suspend(_tree(self._server(name).pid))

    def crash_server(self, name: str) -> Repair:
        self._server(name).kill()
        return self._server(name).start

    def shut_down_postgresql(self, _: str) -> Repair:
        """Have it end at once, without a goodbye to anyone."""
        assert self._postgres.pid
        os.kill(self._postgres.pid, signal.SIGQUIT)
        return self._start_postgresql

    def kill_clients(self, _: str) -> None:
        """Close half of the connections to Valkey."""
        with redis.Redis.from_url(self._valkey.url, socket_timeout=DEADLINE) as store:
            for client in store.client_list():
                if self._chance.random() < 0.5:
                    store.client_kill_filter(_id=client["id"])

    def terminate_backends(self, _: str) -> None:
        """Close half of the connections to PostgreSQL."""
        with psycopg.connect(self._database_url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
                " AND pid <> pg_backend_pid() AND random() < 0.5"
            )

    def _server(self, name: str) -> EmbeddedPostgres | EmbeddedValkey:
        return self._valkey if name == "Valkey" else self._postgres

    def _pool_process(self, name: str) -> psutil.Process:
        """A process of the worker's pool; under threads it has none."""
        if children := psutil.Process(self._services[name].process.pid).children():
            return self._chance.choice(children)
        raise psutil.NoSuchProcess(self._services[name].process.pid)

    def _end(self, name: str, number: signal.Signals) -> Repair:
        self._services[name].kill(number)
        return partial(self._start_when_ended, name, time.monotonic() + 3 * DEADLINE)

    def _start_when_ended(self, name: str, deadline: float) -> bool:
        service = self._services[name]
        if service.status == "running":
            if time.monotonic() < deadline:
                return False
            self._note(name, "was asked to end and did not")
        service.kill()
        service.start()
        return True

    def _start_postgresql(self) -> bool:
        if not self._postgres.running:
            self._postgres.start()
            return True
        return False


def _tree(pid: int | None) -> list[psutil.Process]:
    main = psutil.Process(pid)
    return [main, *main.children(recursive=True)]


def _suspend(processes: Sequence[psutil.Process]) -> Repair:
    """Stop processes where they are; the repair lets them go on."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.suspend()

    def resume() -> None:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.resume()

    return resume
