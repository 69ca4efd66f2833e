"""Each extra alone, none and all: what works, and the sentence of what needs another one."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from pattern_storage.extras import MODULES
from tests.fix_install import Install

EXTRAS = ["", "worker", "flower", "embedded", "up", "otel", "parquet", "s3", "gcs", "testing", "all"]
#: What each extra of more than its own modules brings.
INCLUDED = {
    "": set(), "flower": {"worker", "flower"}, "up": {"worker", "flower", "embedded"}, "all": set(MODULES),
    "testing": {"worker", "embedded", "testing"}, "parquet": {"worker", "parquet"},
    "s3": {"worker", "s3"}, "gcs": {"worker", "gcs"},
}  # fmt: skip
#: What an application that only enqueues does not pay for; the names of modules.
SERVERS_ONLY = {
    "aiohttp", "alembic", "cronsim", "flower", "fsspec", "mccabe", "opentelemetry", "prometheus_client", "psutil",
    "pyarrow", "pythonjsonlogger", "rich", "sqlalchemy", "tornado", "typer",
}  # fmt: skip
HELP = """
import typer
from click.testing import CliRunner
from pattern_storage.tasks.cli import cli

def check(command, path):
    done = CliRunner().invoke(command, ["--help"], prog_name="pattern-storage")
    assert done.exit_code == 0 and "Usage" in done.output, (path, done.output)
    print(*path)
    for name, child in getattr(command, "commands", {}).items():
        check(child, (*path, name))

check(typer.main.get_command(cli), ("pattern-storage",))
"""


def included(extra: str) -> set[str]:
    return INCLUDED.get(extra, {extra})


@pytest.mark.parametrize("extra", EXTRAS, ids=lambda extra: extra or "none")
def test_the_environment_is_consistent(install: Install, extra: str) -> None:
    environment = install(extra)
    done = environment.run("pip", "check")
    assert (done.returncode, done.stdout) == (0, "No broken requirements found.\n"), done.stdout
    # Nothing of an extra that was not asked for, but for what others bring as well.
    brought = {module for name in included(extra) for module in MODULES[name]}
    code = f"import importlib.util as u; print(*(m for m in {sorted(brought)} if u.find_spec(m) is None))"
    assert environment.python(code).split() == []


@pytest.mark.parametrize("extra", EXTRAS, ids=lambda extra: extra or "none")
def test_the_client_is_imported_and_nothing_that_only_a_server_needs(install: Install, extra: str) -> None:
    code = "import json, sys; from pattern_storage import PatternStorageClient; print(json.dumps(sorted(sys.modules)))"
    loaded = {name.partition(".")[0] for name in json.loads(install(extra).python(code))}
    # Google's libraries bring OpenTelemetry too, which loads psutil where it finds it.
    traced = {"otel", "gcs"} & included(extra)
    assert not loaded & (SERVERS_ONLY - ({"opentelemetry", "psutil"} if traced else set()))


@pytest.mark.parametrize("extra", EXTRAS, ids=lambda extra: extra or "none")
def test_every_public_name_is_imported(install: Install, extra: str) -> None:
    code = "import pattern_storage as p; print(*(name for name in p.__all__ if getattr(p, name) is None))"
    assert install(extra).python(code).split() == []


@pytest.mark.parametrize("extra", EXTRAS, ids=lambda extra: extra or "none")
def test_the_command_line_or_the_sentence(install: Install, extra: str) -> None:
    environment = install(extra)
    if "worker" in included(extra):
        lines = environment.python(HELP).splitlines()
        assert "pattern-storage demo" in lines
        assert "pattern-storage dead-letters list" in lines
        assert environment.run("pattern-storage", "--version").returncode == 0
        assert environment.run("python", "-m", "pattern_storage", "--help").returncode == 0
        # What a shell asks when somebody presses Tab.
        typed: dict[str, Any] = {
            "_PATTERN_STORAGE_COMPLETE": "complete_bash",
            "COMP_WORDS": "pattern-storage dem",
            "COMP_CWORD": "1",
        }
        assert environment.run("pattern-storage", **typed).stdout.split() == ["demo"]
        return
    for command in (("pattern-storage",), ("python", "-m", "pattern_storage")):
        for arguments, named in ((("query", "--json"), "worker"), (("demo",), "up"), (("up",), "up")):
            done = environment.run(*command, *arguments)
            said = f"Error: pattern-storage {arguments[0]} needs the extra '{named}': "
            assert (done.returncode, done.stdout) == (2, "")
            assert done.stderr == f"{said}pip install 'pattern-storage[{named}]'\n"


@pytest.mark.parametrize("extra", EXTRAS, ids=lambda extra: extra or "none")
@pytest.mark.parametrize(("command", "needed"), [("worker", "worker"), ("beat", "worker"), ("flower", "flower")])
def test_celery_or_the_sentence(install: Install, extra: str, command: str, needed: str) -> None:
    environment = install(extra)
    if needed in included(extra):
        assert environment.run("celery", "-A", "pattern_storage", command, "--help").returncode == 0
        return
    urls: dict[str, Any] = {"REDIS_URL": "redis://127.0.0.1:9/0", "DATABASE_URL": "postgresql://127.0.0.1:9/none"}
    done = environment.run("celery", "-A", "pattern_storage", command, "--loglevel", "INFO", **urls)
    assert done.returncode == 2, done.stderr
    [sentence] = done.stderr.splitlines()
    said = f"Error: celery -A pattern_storage {command} needs the extra '{needed}': "
    assert sentence == f"{said}pip install 'pattern-storage[{needed}]'"


def test_a_system_without_servers_and_without_flower(install: Install) -> None:
    environment = install("worker")
    # Without /usr/bin, where an installed PostgreSQL would do as well.
    alone: dict[str, Any] = {"PATH": str(environment.bin)}
    for arguments, extra in ((("demo",), "embedded"), (("up", "--no-flower"), "embedded"), (("up",), "flower")):
        done = environment.run("pattern-storage", *arguments, PATTERN_STORAGE_DATA_DIR=str(environment.folder), **alone)
        assert done.returncode == 2, done.stderr
        [sentence] = done.stderr.splitlines()
        assert f"pip install 'pattern-storage[{extra}]'" in sentence


@pytest.mark.parametrize(
    ("source", "extra"), [("x.parquet", "parquet"), ("s3://bucket/x.jsonl", "s3"), ("gs://bucket/x.jsonl", "gcs")]
)
def test_an_import_of_a_kind_that_is_not_installed(install: Install, source: str, extra: str) -> None:
    environment = install("worker")
    (environment.folder / "x.parquet").write_bytes(b"PAR1")
    done = environment.run("pattern-storage", "import", source, DATABASE_URL="postgresql://127.0.0.1:9/none")
    assert done.returncode == 2, done.stderr
    assert f"needs the extra '{extra}': pip install 'pattern-storage[{extra}]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_servers_alone(install: Install) -> None:
    """What an application's tests may use; no command line is needed."""
    code = """
import tempfile, pathlib, psycopg
from pattern_storage.embedded import EmbeddedPostgres
folder = pathlib.Path(tempfile.mkdtemp()); folder.chmod(0o755)
with EmbeddedPostgres(folder / "data", durable=False) as server, psycopg.connect(server.url) as connection:
    print(connection.execute("SELECT 40 + 2").fetchone()[0])
"""
    assert install("embedded").python(code) == "42\n"


@pytest.fixture
def refusing() -> Iterator[str]:
    """The address of a server that answers every request with 401."""

    class Unauthorized(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(401)

        def do_HEAD(self) -> None:
            self.send_error(401)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Unauthorized) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


#: Of each kind of bucket: where the server is said, and with what.
S3 = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_EC2_METADATA_DISABLED": "true"}
LIST_SOURCE = """
from pattern_storage.tasks.errors import ImportFailed
from pattern_storage.tasks.imports.plan.model import ImportPlan
from pattern_storage.tasks.imports.sources.files import Source
try:
    Source(ImportPlan.model_validate({"name": "x", "source": SOURCE}))
except ImportFailed as error:
    print(type(error).__name__, error.error_type, error)
"""


@pytest.mark.parametrize(
    ("extra", "source", "variables", "says"),
    [
        ("s3", "s3://bucket/x.jsonl", S3 | {"AWS_ENDPOINT_URL": "{refusing}"}, "ImportBroken source_unreadable"),
        ("s3", "s3://bucket/x.jsonl", S3 | {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "ImportDelayed"),
        ("s3", "s3://bucket/x.jsonl", {"AWS_EC2_METADATA_DISABLED": "true"}, "Unable to locate credentials"),
        ("s3", "s3://B!/x.jsonl", S3, "Invalid bucket name"),
        ("gcs", "gs://bucket/x.jsonl", {"STORAGE_EMULATOR_HOST": "{refusing}"}, "ImportBroken source_unreadable"),
    ],
    ids=["s3 unauthorized", "s3 unreachable", "s3 without credentials", "s3 bad name", "gcs unauthorized"],
)
def test_what_a_bucket_says(
    install: Install, refusing: str, extra: str, source: str, variables: dict[str, str], says: str
) -> None:
    """Errors of the libraries' own become one sentence, and what may pass is told from what will not."""
    code = LIST_SOURCE.replace("SOURCE", repr(source))
    filled: dict[str, Any] = {name: value.format(refusing=refusing) for name, value in variables.items()}
    said = install(extra).python(code, **filled)
    assert says in said
    assert f"{source} cannot be read" in said
