"""`--json` of commands that print no result of a job: one document, and nothing else on standard output."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pattern_storage.config.settings import Settings, load_settings
from pattern_storage.storage import schema
from tests.fix_celery import StorageWorker
from tests.fix_cli import Cli


def test_demo(cli: Cli, worker: StorageWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def system(_: int) -> Iterator[Settings]:
        yield load_settings(database_url=worker.database_url, redis_url=worker.redis_url)

    # The package has the command under the name of its module.
    monkeypatch.setattr(sys.modules["pattern_storage.tasks.cli.demo"], "_system", system)
    said = cli("demo", "--patterns", "10", "--json")
    assert said.code == 0, said.error
    assert said.json["ok"]
    assert [step["ok"] for step in said.json["steps"]] == [True] * 11
    assert said.json["steps"][0]["step"] == "store 10 patterns"
    assert len({step["correlation_id"] for step in said.json["steps"]}) == 11
    # What was stored before is a duplicate now.
    again = cli("demo", "--patterns", "10", "--json")
    assert (again.code, again.json["ok"], again.json["steps"][0]["ok"]) == (1, False, False)


def test_migrate(cli: Cli, database_url: str) -> None:
    said = cli("migrate", "--json", DATABASE_URL=database_url)
    revision = schema.current(database_url)
    assert (said.code, said.json) == (0, {"before": revision, "after": revision, "granted_to": None})
