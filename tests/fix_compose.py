"""The services of docker-compose.yml as processes: what a container has for itself is a folder or a port here."""

import os
import re
import shutil
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import yaml

from pattern_storage.embedded import EmbeddedPostgres
from pattern_storage.embedded.account import Account
from pattern_storage.embedded.binaries import find_postgres, find_valkey
from tests.fix_process import DEADLINE, ROOT, ProcessGroup, clean_environment, free_port, wait_until

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))


SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


FLOWER, METRICS, PROMETHEUS = "5555", "9540", "9090"


class Composed:
    """The services of the file on one PostgreSQL and one Redis server."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: dict[str, ProcessGroup] = {}
        subprocess.run([ROOT / "deploy/make-secrets", folder / "secrets"], check=True, capture_output=True)
        self.postgres = EmbeddedPostgres(folder / "postgres", durable=False)
        self.postgres.start()
        server = urlsplit(self.postgres.url)
        self.hosts = {"postgres:5432": f"127.0.0.1:{server.port}", "redis:6379": f"127.0.0.1:{free_port()}"}
        self.ports = {(name, port): str(free_port()) for name in SERVICES for port in (FLOWER, METRICS, PROMETHEUS)}
        # Where the images have their programs: ours, and the servers'.
        us = Account(os.geteuid(), os.getegid(), switched=False)
        self.path = [Path(sys.executable).parent, find_postgres(folder, us).postgres.parent, folder / "bin"]
        self._shim("redis-server", f'{find_valkey(folder, us)} "$@" --port {self.port("redis:6379")} --dir {folder}')
        if cli := shutil.which("redis-cli"):
            self._shim("redis-cli", f'{cli} -p {self.port("redis:6379")} "$@"')
        self._create_roles(server.username, server.password)

    def port(self, host: str) -> str:
        return self.hosts[host].rpartition(":")[2]

    def _shim(self, name: str, command: str) -> None:
        (self.folder / "bin").mkdir(exist_ok=True)
        script = self.folder / "bin" / name
        script.write_text(f"#!/bin/sh\nexec {command}\n")
        script.chmod(0o755)

    def _create_roles(self, user: str | None, password: str | None) -> None:
        with psycopg.connect(self.postgres.url, dbname="postgres", autocommit=True) as connection:
            connection.execute("DROP DATABASE pattern_storage")  # the embedded server's own, of the same name
        script = next(mount for mount in SERVICES["postgres"]["volumes"] if "initdb" in mount).split(":")[0]
        variables = {"POSTGRES_USER": user, "PGPASSWORD": password, "SECRETS_DIR": str(self.secrets("postgres"))}
        self.run("postgres", [str(ROOT / script)], **variables)

    def secrets(self, name: str) -> Path:
        """The secrets that this service is given, under the names it knows them by."""
        folder = self.folder / f"secrets-{name}"
        if folder.exists():
            return folder
        folder.mkdir()
        for given in SERVICES[name].get("secrets", []):
            given = {"source": given, "target": given} if isinstance(given, str) else given
            text = (self.folder / "secrets" / given["source"]).read_text()
            for host, here in self.hosts.items():
                text = text.replace(host, here)
            (folder / given["target"]).write_text(text)
        return folder

    def secret(self, name: str, file: str) -> str:
        return (self.secrets(name) / file).read_text().strip()

    def here(self, name: str, text: str) -> str:
        """What a text of the file means where nothing is a container."""
        volume = self.folder / f"volume-{name}"
        volume.mkdir(exist_ok=True)
        places = {
            "$$": "$", "/run/secrets": str(self.secrets(name)), "/var/lib/pattern-storage": str(volume),
            "/etc/pattern-storage": str(ROOT / "deploy"),
            "/etc/prometheus": str(ROOT / "deploy/prometheus"), "=/prometheus": f"={volume}",
        } | {port: self.ports[name, port] for port in (FLOWER, METRICS, PROMETHEUS)}  # fmt: skip
        # At once: what stands in the place of one may look like another.
        return re.sub("|".join(map(re.escape, places)), lambda there: places[there[0]], text)

    def environment(self, name: str, **more: Any) -> dict[str, str]:
        given = {key: self.here(name, str(value)) for key, value in SERVICES[name].get("environment", {}).items()}
        path = os.pathsep.join([*map(str, self.path), os.environ["PATH"]])
        server = {"PGHOST": "127.0.0.1", "PGPORT": self.port("postgres:5432")}
        return clean_environment(**given, **server, PATH=path, HOSTNAME=socket.gethostname()) | more

    def run(self, name: str, command: list[str], **more: Any) -> str:
        """Run a command as the service and return what it printed; fails unless it succeeds."""
        done = subprocess.run(
            command, env=self.environment(name, **more), cwd=self.folder, capture_output=True, text=True,
            timeout=DEADLINE, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def command(self, name: str) -> list[str]:
        # The entry point of this image is its program.
        entry = ["prometheus"] if name == "prometheus" else []
        return entry + [self.here(name, part) for part in SERVICES[name]["command"]]

    def start(self, name: str, *more: str) -> ProcessGroup:
        """Start a service as the file says, unless it runs; `more` are arguments that give it a port of its own."""
        if name not in self.running:
            program, *arguments = [*self.command(name), *more]
            found = shutil.which(program, path=self.environment(name)["PATH"])
            assert found, program
            log = self.folder / f"{name}.log"
            self.running[name] = ProcessGroup(name, arguments, self.environment(name), log, program=[found])
        return self.running[name]

    def check(self, name: str) -> int:
        """Run a service's health check and return its exit code."""
        kind, *test = [self.here(name, part) for part in SERVICES[name]["healthcheck"]["test"]]
        command = ["sh", "-c", *test] if kind == "CMD-SHELL" else test
        environment = self.environment(name)
        return subprocess.run(command, env=environment, capture_output=True, timeout=DEADLINE, check=False).returncode

    def becomes_healthy(self, *names: str) -> None:
        def healthy(name: str) -> bool:
            assert self.running[name].status == "running", f"{name} ended:\n{self.running[name].text()}"
            return self.check(name) == 0

        for name in names:
            wait_until(partial(healthy, name), f"{name} is healthy")

    def close(self) -> None:
        for group in self.running.values():
            group.stop(1)
            group.discard()
        self.postgres.stop()
