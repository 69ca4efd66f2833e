"""The compose file, the image and the project's own files agree with the code. No container engine is needed."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from config.settings import PREFIX, Settings
from tasks.cli import cli

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"] == "pattern-storage"}
#: Celery's own, see https://docs.celeryq.dev/en/stable/userguide/workers.html#worker-remap-sigterm
CELERY_VARIABLES = {"REMAP_SIGTERM"}


def test_services() -> None:
    assert set(SERVICES) == {"postgres", "redis", "migrate", "worker", "relay", "beat"}
    assert SERVICES["postgres"]["image"] == "postgres:18"
    assert SERVICES["redis"]["image"] == "redis:8"


@pytest.mark.parametrize("name", OURS)
def test_our_services_know_only_real_settings(name: str) -> None:
    known = {field.upper() if field.endswith("_url") else PREFIX + field.upper() for field in Settings.model_fields}
    assert set(OURS[name]["environment"]) <= known | CELERY_VARIABLES
    assert {"DATABASE_URL", "REDIS_URL"} <= set(OURS[name]["environment"])


@pytest.mark.parametrize("name", OURS)
def test_our_services_have_least_privilege(name: str) -> None:
    service = OURS[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("name", OURS)
def test_commands_exist(name: str) -> None:
    program, *arguments = OURS[name]["command"]
    if program == "celery":
        assert arguments[:2] == ["-A", "tasks"]
        assert arguments[2] in {"worker", "beat"}
    else:
        assert program == "pattern-storage"
        assert arguments[0] in get_command(cli).commands  # type: ignore[attr-defined]


def test_everything_that_stays_is_watched_and_restarted() -> None:
    for name, service in SERVICES.items():
        if name != "migrate":
            assert service["healthcheck"]["test"], name
            assert service["restart"] == "unless-stopped", name


def test_ports_are_on_loopback_and_passwords_required() -> None:
    for service in SERVICES.values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    for variable in re.findall(r"\$\{(\w+)(:\?[^}]*)?\}", text):
        assert variable[1], f"{variable[0]} has no message for the case that it is not set"


def test_data_is_in_named_volumes() -> None:
    named = set(COMPOSE["volumes"])
    used = {volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])}
    assert used == named


def test_order_of_start() -> None:
    assert SERVICES["migrate"]["depends_on"]["postgres"]["condition"] == "service_healthy"
    for name in ("worker", "beat"):
        assert SERVICES[name]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"


def test_a_stopping_worker_has_time_to_finish() -> None:
    grace = float(SERVICES["worker"]["stop_grace_period"].removesuffix("s"))
    assert grace > Settings.model_fields["soft_shutdown_timeout"].default


def test_the_image_runs_as_nobody_special() -> None:
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    assert any(re.fullmatch(r"USER [1-9]\d*", line) for line in lines)


def test_make_help_prints_itself() -> None:
    shown = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE):
        assert f"make {target}" in shown


def test_pre_commit_runs_the_projects_own_tools() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    assert {hook["id"] for hook in hooks} == {"ruff", "ruff-format", "mypy", "import-linter"}
    assert all(hook["entry"].startswith(".venv/bin/") and hook["language"] == "system" for hook in hooks)
