"""Each example, in an environment that has only the wheel and the example's own requirements."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import psycopg
import pytest

from tests.fix_celery import StorageWorker
from tests.fix_install import Install, Installation
from tests.fix_process import ROOT, free_port, needs, wait_until
from tests.fix_up import Running

EXAMPLES = ROOT / "examples"
#: How each runs its own tests.
PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider")
SUITES = {
    "script": PYTEST,
    "celery_application": PYTEST,
    # In parallel: each process has servers of its own.
    "fastapi_service": (*PYTEST, "-n", "2"),
    "sqlalchemy_service": PYTEST,
    "django_project": ("manage.py", "test", "--noinput"),
}


@pytest.fixture
def example(request: pytest.FixtureRequest, install: Install, worker: StorageWorker) -> "Example":
    """The example that the test's parameter names."""
    return Example(request.param, install, worker)


class Example:
    """An example in its environment, beside a running worker.

    Attributes:
        folder: where it is.
    """

    def __init__(self, name: str, install: Install, worker: StorageWorker) -> None:
        self.folder = EXAMPLES / name
        wanted = (self.folder / "requirements.txt").read_text().split()
        self.installation = install("", *wanted)
        self.variables: dict[str, Any] = {
            "DATABASE_URL": worker.database_url,
            "REDIS_URL": worker.redis_url,
            # The folder is the repository's.
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def run(self, *arguments: str) -> str:
        """Run `python ARGUMENTS` in its folder and return what it printed; fails if it does."""
        done = self.installation.run("python", *arguments, cwd=self.folder, **self.variables)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def stored(worker: StorageWorker, prefix: str) -> int:
    with psycopg.connect(worker.database_url) as connection:
        [(count,)] = connection.execute(
            "SELECT count(*) FROM pattern_templates WHERE starts_with(pattern_name, %s)", [prefix]
        ).fetchall()
    return int(count)


def test_every_example_is_described_and_tested() -> None:
    folders = {path.name for path in EXAMPLES.iterdir() if path.is_dir()}
    readme = (EXAMPLES / "README.md").read_text()
    assert folders == {*SUITES, "node_client"}
    for folder in folders:
        assert f"`{folder}/`" in readme


@pytest.fixture(scope="module")
def suites(install: Install) -> Installation:
    """One environment for the suites of all examples: the wheel with the testing kit, and what they name themselves."""
    files = EXAMPLES.glob("*/requirements*.txt")
    return install("testing", *sorted({name for file in files for name in file.read_text().split()}))


@pytest.mark.parametrize("name", SUITES)
def test_its_own_suite(name: str, suites: Installation, postgres_url: str, tmp_path: Path) -> None:
    """By the kit's fixtures, on servers that it starts itself; Django makes its test database on one that is there."""
    server = {"DATABASE_URL": postgres_url} if name == "django_project" else {}
    # Where no file of the repository configures pytest.
    shutil.copytree(EXAMPLES / name, tmp_path / name)
    done = suites.run("python", *SUITES[name], cwd=tmp_path / name, timeout=300, **server)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_node_client(worker: StorageWorker, tmp_path: Path) -> None:
    """With a package of npm's, and nothing of ours."""
    npm, node = needs("npm"), needs("node")
    folder = tmp_path / "node_client"
    shutil.copytree(EXAMPLES / "node_client", folder, ignore=shutil.ignore_patterns("node_modules"))
    for command in ([npm, "install", "--no-audit", "--no-fund", "--no-package-lock"], [node, "--test"]):
        done = subprocess.run(
            command, cwd=folder, env={**os.environ, "REDIS_URL": worker.redis_url},
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("example", ["script"], indirect=True)
def test_the_script(example: Example, worker: StorageWorker) -> None:
    assert example.run("store.py").count("stored") == stored(worker, "Script") == 10
    assert example.run("store.py").count("Pattern already exists") == 10


@pytest.mark.parametrize("example", ["celery_application"], indirect=True)
def test_the_celery_application(example: Example, worker: StorageWorker) -> None:
    said = example.run("-c", "import json, tasks; print(json.dumps(tasks.store('Celery application')))")
    result = json.loads(said)
    assert (result["success"], stored(worker, "Celery application")) == (True, 1)
    assert example.run("-c", "import tasks; print(tasks.count_words('three words here'))") == "3\n"


@pytest.mark.parametrize("example", ["django_project"], indirect=True)
def test_the_django_project(example: Example, worker: StorageWorker) -> None:
    example.run("manage.py", "migrate", "--verbosity", "0")
    assert example.run("manage.py", "makemigrations", "--check", "--dry-run") == "No changes detected\n"
    # No relay runs here: what it does is published by a relay of this test's own.
    relay = example_relay(example)
    try:
        assert example.run("manage.py", "store", "Django").startswith("stored ")
    finally:
        relay.end()
    assert stored(worker, "Django") == 1
    with psycopg.connect(worker.database_url) as connection:
        [(title,)] = connection.execute("SELECT title FROM tasks_review").fetchall()
    assert title == "Look at Django"


def example_relay(example: Example) -> Running:
    log = example.installation.folder / "relay.log"
    return Running("relay", log=log, command=[sys.executable, "-m", "pattern_storage"], **example.variables)


@pytest.mark.parametrize("example", ["fastapi_service"], indirect=True)
def test_the_fastapi_service(example: Example, worker: StorageWorker, tmp_path: Path) -> None:
    port = free_port()
    service = Running(
        "service:app", "--port", str(port), command=[str(example.installation.bin / "uvicorn")], cwd=example.folder,
        log=tmp_path / "service.log", environment=example.installation.environment(**example.variables),
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"

    def ask(path: str, body: object = None) -> object:
        data = None if body is None else json.dumps(body).encode()
        with urlopen(Request(address + path, data, {"Content-Type": "application/json"}), timeout=30) as answer:
            return json.load(answer)

    def ready() -> bool:
        try:
            return bool(ask("/openapi.json"))
        except URLError:
            return False

    pattern = {"pattern_name": "FastAPI", "pattern_type": "code", "language": "python", "template_code": "..."}
    try:
        wait_until(ready, f"the service answers:\n{service.text}")
        job = ask("/patterns", pattern)
        assert isinstance(job, dict)
        result = ask(f"/jobs/{job['correlation_id']}")
        assert isinstance(result, dict)
        assert (result["success"], stored(worker, "FastAPI")) == (True, 1)
        found = ask("/patterns?name_contains=FastAPI")
        assert isinstance(found, list)
        assert [one["pattern_name"] for one in found] == ["FastAPI"]
    finally:
        service.end()
