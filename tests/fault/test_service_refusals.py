"""A Redis that is up and refuses for a moment: beat, relay, Flower and clients wait, say so once, and go on."""

from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import redis
from celery import Celery

from pattern_storage.tasks.client import AsyncPatternStorageClient, BrokerUnavailable, PatternStorageClient
from tests.fix_flower import PASSWORD, USER, ask
from tests.fix_imports import patterns, write_lines
from tests.fix_loading import LoadingValkey
from tests.fix_process import ProcessGroup, clean_environment, free_port, wait_until
from tests.fix_refusals import ALL_REFUSALS, Refusal, refusing
from tests.fix_servers import create_database, drop_database, on_database
from tests.fix_storage import contract, make_pattern

IMPORTS = '[[import]]\nname = "often"\nsource = "rows.jsonl"\nevery = "1s"\n'


class Services:
    """Beat, relay and Flower, with nobody who works off what they send."""

    def __init__(self, stack: ExitStack, database_url: str, valkey: LoadingValkey, folder: Path) -> None:
        self.database_url, self.url, self.port = database_url, valkey.url, free_port()
        write_lines(folder / "rows.jsonl", patterns(1))
        (folder / "imports.toml").write_text(IMPORTS)
        environment = clean_environment(
            DATABASE_URL=database_url, REDIS_URL=valkey.url, PATTERN_STORAGE_CONNECT_TIMEOUT="1",
            PATTERN_STORAGE_IMPORTS_FILE=str(folder / "imports.toml"), PATTERN_STORAGE_FLOWER_PORT=str(self.port),
            PATTERN_STORAGE_FLOWER_USER=USER, PATTERN_STORAGE_FLOWER_PASSWORD=PASSWORD,
            PATTERN_STORAGE_FLOWER_DB=str(folder / "flower"), PATTERN_STORAGE_RELAY_REPUBLISH_DELAY="1",
        )  # fmt: skip
        self.groups = {}
        celery = ("celery", "-A", "pattern_storage")
        for name, command in {
            "relay": ("pattern_storage", "relay"),
            "beat": (*celery, "beat", "-l", "INFO", "-s", str(folder / "schedule")),
            "flower": (*celery, "flower"),
        }.items():
            self.groups[name] = ProcessGroup(name, command, environment, folder / f"{name}.log")
            stack.callback(self.groups[name].discard)

    def heard(self) -> bool:
        """Whether Flower hears an event that is sent now."""
        probe = str(uuid4())
        url = f"http://127.0.0.1:{self.port}/api/task/info/{probe}"
        with (
            Celery("probe", broker=self.url, set_as_current=False) as app,
            app.events.default_dispatcher(hostname="celery@probe") as speak,
            suppress(OSError),
        ):
            speak.send("task-progress", uuid=probe)
            return any(ask(url).status == 200 for _ in range(20))
        return False

    def ask_workers(self) -> None:
        """Open pages for which Flower asks its workers."""
        for page in ("/workers?refresh=true", "/api/workers?refresh=true", "/api/workers?refresh=true"):
            with suppress(OSError):
                ask(f"http://127.0.0.1:{self.port}{page}")

    def work(self, store: Any) -> None:
        """Return when each of them does its work."""
        store.delete("storage", "imports")
        self.write_job()
        wait_until(lambda: store.llen("storage"), "the relay publishes")
        wait_until(lambda: store.llen("imports"), "beat publishes")
        wait_until(self.heard, "Flower hears events")
        self.ask_workers()

    def write_job(self) -> None:
        """Give relay and beat something to send."""
        with (
            psycopg.connect(self.database_url) as connection,
            PatternStorageClient(redis_url=self.url, database_url=self.database_url) as client,
        ):
            client.submit_in(connection, contract("insert", data=make_pattern()))
            # While it waits there is no other run of the import.
            connection.execute("DELETE FROM import_runs")


@pytest.fixture(scope="module")
def valkey(server_directory: Path) -> Iterator[LoadingValkey]:
    with LoadingValkey(server_directory / "refuses", durable=True) as server:
        yield server


@pytest.fixture(scope="module")
def services(
    valkey: LoadingValkey, postgres_url: str, template_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Services]:
    name = create_database(postgres_url, template_database)
    with ExitStack() as stack:
        stack.callback(drop_database, postgres_url, name)
        running = Services(stack, on_database(postgres_url, name), valkey, tmp_path_factory.mktemp("services"))
        with redis.Redis.from_url(valkey.url) as store:
            running.work(store)
        yield running


@pytest.mark.parametrize("refusal", ALL_REFUSALS)
async def test_services_wait_and_go_on(services: Services, valkey: LoadingValkey, refusal: Refusal) -> None:
    before = {name: len(group.text()) for name, group in services.groups.items()}

    def said(name: str) -> str:
        return services.groups[name].text()[before[name] :]

    with closing(redis.Redis.from_url(valkey.url)) as store:
        with refusing(refusal, valkey):
            with PatternStorageClient(redis_url=valkey.url) as client, pytest.raises(BrokerUnavailable):
                client.insert(make_pattern())
            async with AsyncPatternStorageClient(redis_url=valkey.url) as asynchronous:
                with pytest.raises(BrokerUnavailable):
                    await asynchronous.insert(make_pattern())
            services.write_job()
            services.ask_workers()
            wait_until(lambda: "flower: cannot ask workers" in said("flower"), "Flower says so")
            wait_until(lambda: "relay: cannot publish" in said("relay"), "the relay says so")
            wait_until(lambda: "imports: cannot decide what is due" in said("beat"), "beat says so")
        services.work(store)
    for name, group in services.groups.items():
        assert group.status == "running"
        assert "Traceback" not in said(name), said(name)
        # In the outage, and once more where the server takes a while to be what it was.
        complaints = ("cannot ", "hears no events", "Failed", "rror")
        lines = [line for line in said(name).splitlines() if any(each in line for each in complaints)]
        assert len(lines) <= 4, lines


@pytest.mark.parametrize("command", [("beat", "-s", "{}/schedule"), ("flower",)])
def test_a_database_that_the_server_lacks(
    valkey: LoadingValkey, database_url: str, tmp_path: Path, command: tuple[str, ...]
) -> None:
    url = valkey.url.rpartition("/")[0] + "/99"
    environment = clean_environment(
        DATABASE_URL=database_url, REDIS_URL=url, PATTERN_STORAGE_FLOWER_PASSWORD=PASSWORD,
        PATTERN_STORAGE_FLOWER_DB=str(tmp_path / "flower"), PATTERN_STORAGE_FLOWER_PORT=str(free_port()),
    )  # fmt: skip
    arguments = [part.format(tmp_path) for part in command]
    group = ProcessGroup(command[0], ["celery", "-A", "pattern_storage", *arguments], environment, tmp_path / "log")
    try:
        wait_until(lambda: group.status == "exited", "it ends")
        assert group.process.returncode == 2
        assert "REDIS_URL has a database that the server does not have" in group.text()
        assert "Traceback" not in group.text()
    finally:
        group.discard()
