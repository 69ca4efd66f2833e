"""Every code block of README and docs runs, and every table says what the code says."""

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from pattern_storage.config.settings import Settings
from pattern_storage.config.variables import PREFIX
from pattern_storage.embedded.account import Account
from pattern_storage.embedded.binaries import find_postgres
from pattern_storage.storage.operations import OPERATIONS
from tests.fix_celery import StorageWorker
from tests.fix_process import DEADLINE, ROOT, clean_environment

DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "examples/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [
    pytest.param(language, code, id=f"{document.name}-{language or 'plain'}-{number}")
    for document in DOCUMENTS
    for number, (language, code) in enumerate(BLOCK.findall(document.read_text(encoding="utf-8")))
]


def _run(arguments: list[str], folder: Path, worker: StorageWorker) -> subprocess.CompletedProcess[str]:
    # As a user has it: the programs of our installation on PATH, in a folder that is not the repository; PostgreSQL's,
    # and what stands in for programs that talk to a container engine or a cluster.
    postgres = find_postgres(folder, Account(os.geteuid(), os.getegid(), switched=False)).postgres.parent
    places = [Path(sys.executable).parent, ROOT / "tests/programs", postgres]
    path = os.pathsep.join([*map(str, places), os.environ["PATH"]])
    # Not measured: the documents are examples of what other tests cover, and harvesting under coverage is slow.
    unmeasured = {name: "" for name in os.environ if name.startswith("COV")}
    urls = {"DATABASE_URL": worker.database_url, "REDIS_URL": worker.redis_url}
    environment = clean_environment(**urls, PATH=path) | unmeasured
    return subprocess.run(
        arguments, cwd=folder, env=environment, capture_output=True, text=True, timeout=DEADLINE * 2, check=False
    )


def test_there_is_something_to_run() -> None:
    assert len(BLOCKS) >= 5


@pytest.fixture
def folder(tmp_path: Path, worker: StorageWorker) -> Iterator[Path]:
    """Where a user stands who has copied what a deployment needs."""
    for name in ("deploy", "docker-compose.yml"):
        (tmp_path / name).symlink_to(ROOT / name)
    yield tmp_path
    with psycopg.connect(worker.database_url, autocommit=True) as connection:
        # docs/operations.md creates one, and roles belong to the whole server.
        if connection.execute("SELECT FROM pg_roles WHERE rolname = 'patterns_service'").fetchone() is not None:
            connection.execute("DROP OWNED BY patterns_service")
            connection.execute("DROP ROLE patterns_service")


@pytest.mark.parametrize(("language", "code"), BLOCKS)
def test_block_runs(language: str, code: str, folder: Path, worker: StorageWorker) -> None:
    if language == "python":
        done = _run([sys.executable, "-c", code], folder, worker)
    else:
        assert language == "bash", "a block that no test can run"
        # The two commands would run this test again: make says what they do, .ci/run does it.
        folder = ROOT if code.startswith(("make ", ".venv/")) else folder
        with redis.Redis.from_url(worker.redis_url) as connection:
            connection.config_set("appendonly", "yes")  # or doctor, rightly, finds fault with it
        # pytest inside of pytest only collects: what it would run is run beside this.
        dry = re.sub(r"^make ", "make --dry-run ", code, flags=re.MULTILINE)
        dry = re.sub(
            r"^\.venv/bin/python -m pytest", f"{sys.executable} -m pytest --collect-only -q", dry, flags=re.MULTILINE
        )
        done = _run(["bash", "-euo", "pipefail", "-c", dry], folder, worker)
    assert done.returncode == 0, done.stdout + done.stderr


def test_readme_example_stores_a_pattern(tmp_path: Path, worker: StorageWorker) -> None:
    """The first example prints a success, and its result is in Redis under the id it prints."""
    example = next(code for language, code in BLOCK.findall(DOCUMENTS[0].read_text()) if language == "python")
    unique = example.replace("AsyncDatabaseWriter", "AsyncDatabaseWriterOnce")
    done = _run([sys.executable, "-c", unique], tmp_path, worker)
    success, *_, correlation_id = done.stdout.split()
    assert success == "True", done.stdout + done.stderr
    with redis.Redis.from_url(worker.redis_url) as connection:
        assert connection.exists(f"celery-task-meta-{correlation_id}")


def test_every_operation_has_a_row() -> None:
    readme = DOCUMENTS[0].read_text(encoding="utf-8")
    for operation in OPERATIONS:
        assert f"| `storage.{operation}`" in readme


def test_every_setting_has_a_row_with_its_default() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \| ([^|]*) \|", (ROOT / "docs/architecture.md").read_text(), re.MULTILINE)
    documented = {name: default.strip("` ").strip("'") for name, default in rows}
    for name, field in Settings.model_fields.items():
        variable = name.upper() if name.endswith("_url") else f"{PREFIX}{name.upper()}"
        assert variable in documented
        if field.default is not None and field.default_factory is None:
            assert documented[variable] == str(field.default), variable
    assert len(documented) == len(Settings.model_fields)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8")):
        if not target.startswith(("http", "mailto:")):
            assert (document.parent / target).exists(), target


def test_every_alert_has_its_cure() -> None:
    """Each alert's link leads to a heading of the runbook, and each of these headings belongs to an alert."""
    text = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    headings = {heading.lower() for heading in re.findall(r"^### (PatternStorage\w+)$", text, re.MULTILINE)}
    links = re.findall(r"runbook_url: docs/operations\.md#(\w+)", (ROOT / "deploy/prometheus/alerts.yml").read_text())
    assert sorted(links) == sorted(headings)
    for anchor in re.findall(r"\]\(#(\w+)\)", text):
        assert anchor in headings


def test_the_tree_in_the_readme_is_the_tree() -> None:
    """Every folder that git knows at the top, and every package in the first two levels, and no other."""
    top: set[str] = set()
    below: set[str] = set()
    parent = ""
    for indent, name in re.findall(r"^    (    )?(\w+)/ +\S", DOCUMENTS[0].read_text(encoding="utf-8"), re.MULTILINE):
        parent = parent if indent else name
        (below if indent else top).add(f"{parent}/{name}" if indent else name)
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    folders = {str(Path(file).parent) for file in tracked}
    assert top == {folder.split("/")[0] for folder in folders if not folder.startswith(".")}
    packages = {path for path in folders if path.count("/") == 1 and (ROOT / path / "__init__.py").exists()}
    assert below == {
        path for path in packages if path.split("/")[0] in {"pattern_storage", "config", "storage", "tasks"}
    }


def test_examples_import_the_public_names_alone() -> None:
    """`from pattern_storage import ...`, as applications should."""
    for document in DOCUMENTS:
        for language, code in BLOCK.findall(document.read_text(encoding="utf-8")):
            if language == "python":
                assert not re.search(
                    r"^\s*(from|import) (config|storage|tasks|pattern_storage\.(?!embedded|testing))\b", code, re.M
                )


def test_the_glossary_is_short() -> None:
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    [glossary] = re.findall(r"^## Words\n(.*?)^## ", text, re.MULTILINE | re.DOTALL)
    assert 1 < len(re.findall(r"\*(\w[\w ]+)\*:", glossary)) <= 12


def test_the_extras_have_rows() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    rows = set(re.findall(r"^\| `pattern-storage\[(\w+)\]` \|", text, re.MULTILINE))
    assert rows == set(extras) - {"dev", "bench", "browser", "docs"}
