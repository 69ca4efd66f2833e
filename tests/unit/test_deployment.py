"""The compose file, the image and the project's own files agree with the code. No container engine is needed."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from typer.main import get_command

from pattern_storage.config.celeryconfig import QUEUES
from pattern_storage.config.settings import Settings
from pattern_storage.config.variables import PREFIX
from pattern_storage.tasks.cli import cli

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"] == "pattern-storage"}
#: Celery's own, see https://docs.celeryq.dev/en/stable/userguide/workers.html#worker-remap-sigterm
CELERY_VARIABLES = {"REMAP_SIGTERM"}
#: Where Python makes temporary files.
PYTHON_VARIABLES = {"TMPDIR"}


def test_services() -> None:
    assert set(OURS) == {"migrate", "worker", "imports", "relay", "beat", "flower"}
    assert set(SERVICES) - set(OURS) == {"postgres", "redis", "prometheus", "grafana"}
    assert SERVICES["postgres"]["image"] == "postgres:18"
    assert SERVICES["redis"]["image"] == "redis:8"
    assert {name for name in SERVICES if "profiles" in SERVICES[name]} == {"prometheus", "grafana"}


@pytest.mark.parametrize("name", OURS)
def test_our_services_know_only_real_settings(name: str) -> None:
    known = {field.upper() if field.endswith("_url") else PREFIX + field.upper() for field in Settings.model_fields}
    assert set(OURS[name]["environment"]) <= known | CELERY_VARIABLES | PYTHON_VARIABLES
    files = {secret["target"] for secret in OURS[name]["secrets"]}
    assert files <= set(Settings.model_fields)
    assert files >= ({"database_url"} if name == "migrate" else {"redis_url"})


@pytest.mark.parametrize("name", SERVICES)
def test_services_have_least_privilege(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    # Ours is said in the image, see below.
    assert name in OURS or service["user"] not in ("root", "0")
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}


@pytest.mark.parametrize("name", OURS)
def test_commands_exist(name: str) -> None:
    program, *arguments = OURS[name]["command"]
    if program == "celery":
        assert arguments[:2] == ["-A", "pattern_storage"]
        assert arguments[2] in {"worker", "beat", "flower"}
    else:
        assert program == "pattern-storage"
        assert arguments[0] in get_command(cli).commands  # type: ignore[attr-defined]


def test_every_queue_has_a_worker() -> None:
    consumed = [OURS[name]["command"][5] for name in ("worker", "imports")]
    assert sorted(",".join(consumed).split(",")) == sorted(QUEUES)


def test_everything_that_stays_is_watched_and_restarted() -> None:
    for name, service in SERVICES.items():
        if name != "migrate":
            assert service["healthcheck"]["test"], name
            assert service["restart"] == "unless-stopped", name


def test_ports_are_on_loopback_and_no_secret_is_in_the_file() -> None:
    for service in SERVICES.values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    given = {secret["source"] if isinstance(secret, dict) else secret
             for service in SERVICES.values() for secret in service.get("secrets", [])}  # fmt: skip
    assert {name: secret["file"] for name, secret in COMPOSE["secrets"].items()} == {
        name: f"./secrets/{name}" for name in given
    }


def test_make_secrets(tmp_path: Path) -> None:
    """Each file that Compose mounts, random, the same again when it is run again."""

    def make() -> dict[str, str]:
        subprocess.run([ROOT / "deploy/make-secrets", tmp_path / "secrets"], check=True, capture_output=True)
        return {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}

    made = make()
    assert set(made) == set(COMPOSE["secrets"])
    assert len(set(made.values())) == len(made)
    assert all(len(text.strip()) == 48 for name, text in made.items() if name.endswith("password"))
    assert made["service_password"].strip() in made["service_database_url"]
    assert make() == made
    # A password that is changed is in its URL the next time, and in the very file that containers have mounted.
    mounted = (tmp_path / "secrets/redis_password").open()
    (tmp_path / "secrets/redis_password").chmod(0o644)
    (tmp_path / "secrets/redis_password").write_text("")
    changed = make()
    with mounted:
        assert mounted.read() == changed["redis_password"]
    assert {name for name in made if made[name] != changed[name]} == {"redis_password", "redis_url"}
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "secrets").iterdir()} == {0o444}


def test_data_is_in_named_volumes_and_files_of_ours_are_read_only() -> None:
    used = {volume for service in SERVICES.values() for volume in service.get("volumes", [])}
    assert {volume.split(":")[0] for volume in used if volume[0] != "."} == set(COMPOSE["volumes"])
    for volume in used:
        if volume.startswith("."):
            path, _, mode = volume.split(":")
            assert (ROOT / path).exists(), path
            assert mode == "ro"


def test_imports_write_to_their_volume() -> None:
    """Reject files and copies: nothing else in their container can be written, but /tmp, which is memory."""
    [volume] = SERVICES["imports"]["volumes"]
    for variable in ("PATTERN_STORAGE_DATA_DIR", "TMPDIR"):
        assert SERVICES["imports"]["environment"][variable] == volume.split(":")[1]


def test_order_of_start() -> None:
    assert SERVICES["migrate"]["depends_on"]["postgres"]["condition"] == "service_healthy"
    for name in set(OURS) - {"migrate"}:
        assert SERVICES[name]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"
        assert SERVICES[name]["depends_on"]["redis"]["condition"] == "service_healthy"


@pytest.mark.parametrize("name", ["worker", "imports"])
def test_a_stopping_worker_has_time_to_finish(name: str) -> None:
    grace = float(SERVICES[name]["stop_grace_period"].removesuffix("s"))
    assert grace > Settings.model_fields["soft_shutdown_timeout"].default
    assert SERVICES[name]["environment"]["REMAP_SIGTERM"] == "SIGQUIT"


def test_the_image_runs_as_nobody_special() -> None:
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    assert any(re.fullmatch(r"USER [1-9]\d*", line) for line in lines)


def test_the_image_is_linted() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, "Dockerfile"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout


def test_the_wheel_has_all_that_the_image_needs() -> None:
    """What the Dockerfile copies is what the wheel is built from, and no more."""
    copied = re.findall(r"^COPY (\w+) \1$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]
    [package] = build["wheel"]["only-include"]
    rooms = sorted(link.name for link in (ROOT / package).iterdir() if link.is_symlink())
    assert copied == [package, *rooms]
    allowed = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert {f"!{name}" for name in (*copied, "pyproject.toml", "README.md", "LICENSE")} <= set(allowed)


def test_the_image_has_every_extra_that_is_used_at_run_time() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    [chosen] = re.findall(r"^ARG EXTRAS=(\S+)$", dockerfile, re.MULTILINE)
    [always] = re.findall(r'"\$1\[([\w,]+)\$\{EXTRAS:\+,\$EXTRAS\}\]"', dockerfile)
    there_are = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    # Of a deployment, the servers are elsewhere.
    unused = {"dev", "bench", "browser", "docs", "embedded", "testing", "up", "all"}
    assert {*chosen.split(","), *always.split(",")} == set(there_are) - unused


def test_grafana_finds_its_files() -> None:
    """Grafana is in no package: what it reads is parsed, and leads to where docker-compose.yml puts it."""
    folder = ROOT / "deploy/grafana"
    mounted = {there: ROOT / here for here, there, _ in (volume.split(":") for volume in SERVICES["grafana"]["volumes"]
                                                         if volume.startswith("."))}  # fmt: skip
    assert mounted["/etc/grafana/provisioning"] == folder / "provisioning"
    [provider] = yaml.safe_load((folder / "provisioning/dashboards/pattern-storage.yml").read_text())["providers"]
    dashboards = [json.loads(path.read_text()) for path in mounted[provider["options"]["path"]].glob("*.json")]
    [source] = yaml.safe_load((folder / "provisioning/datasources/prometheus.yml").read_text())["datasources"]
    address = urlsplit(source["url"])
    assert SERVICES[address.hostname]["ports"] == [f"127.0.0.1:{address.port}:{address.port}"]
    for dashboard in dashboards:
        [chosen] = [one for one in dashboard["templating"]["list"] if one["type"] == "datasource"]
        assert (chosen["query"], chosen["current"]["value"]) == (source["type"], source["uid"])
        used = {panel["datasource"]["uid"] for panel in dashboard["panels"] if "datasource" in panel}
        assert used == {f"${{{chosen['name']}}}"}
    assert dashboards
    # Grafana's own form of a setting: https://grafana.com/docs/grafana/latest/setup-grafana/configure-grafana/
    assert all(re.fullmatch(r"GF_[A-Z]+(_[A-Z]+)+(__FILE)?", name) for name in SERVICES["grafana"]["environment"])


def test_make_help_prints_itself() -> None:
    shown = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE):
        assert f"make {target}" in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_pre_commit_runs_the_projects_own_tools() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    assert {hook["id"] for hook in hooks} == {"ruff", "ruff-format", "mypy", "import-linter"}
    assert all(hook["entry"].startswith(".venv/bin/") and hook["language"] == "system" for hook in hooks)
