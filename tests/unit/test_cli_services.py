"""`up` while it starts: a port that another program took after it was chosen, and Ctrl-C."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from pattern_storage.config.settings import Settings
from pattern_storage.embedded import EmbeddedError
from pattern_storage.embedded.account import Account
from pattern_storage.embedded.launcher import launch
from pattern_storage.embedded.log import ServerLog
from pattern_storage.embedded.process import ServerProcess
from pattern_storage.tasks.cli import restarts, services, up


class Process:
    """A Flower that finds its port taken, or free."""

    def __init__(self, port: str) -> None:
        self.port = port

    def wait_ready(self, *_: object, **__: object) -> None:
        if self.port == "5555":
            raise EmbeddedError("Address already in use")

    def stop(self, *_: object, **__: object) -> None:
        """Nothing to stop."""


@pytest.mark.parametrize("free", [False, True])
def test_flower_gets_another_port_if_its_own_was_taken_meanwhile(
    free: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two `up` that start at the same time both find 5555 free. A Flower that fails otherwise is not started again."""
    settings = Settings(database_url="postgresql://127.0.0.1/x", redis_url="redis://127.0.0.1/0", flower_port=5555)
    other = settings.model_copy(update={"flower_port": 20_000})

    def launch(*_: object, environment: dict[str, Any], **__: object) -> Process:
        return Process(environment["PATTERN_STORAGE_FLOWER_PORT"])

    monkeypatch.setattr(services, "launch", launch)
    monkeypatch.setattr(services, "is_free", lambda port: free)
    running = services.running_services(settings, tmp_path, {}, lambda: other, flower=[])
    if free:
        with pytest.raises(EmbeddedError, match=r"^Address already in use$"), running:
            pass
    else:
        with running as found:
            assert found.settings.flower_port == 20_000


def test_ctrl_c_before_all_is_up_is_no_success(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(up, "_servers", interrupted)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    with pytest.raises(typer.Exit) as ended:
        up.up(with_flower=False)
    assert ended.value.exit_code == 130
    assert capsys.readouterr().err.endswith("stopped\n")


#: Notes the signals that it gets, and ends with those that its arguments name.
NOTES_SIGNALS = """
import signal, sys

def note(number, frame):
    print(signal.Signals(number).name, flush=True)
    if signal.Signals(number).name in sys.argv[1:]:
        sys.exit()

for number in (signal.SIGTERM, signal.SIGQUIT):
    signal.signal(number, note)
print("ready", flush=True)
while True:
    signal.pause()
"""


@pytest.mark.parametrize(
    ("name", "ends", "seconds", "sent"),
    [
        ("worker", "SIGTERM", 60.0, ["SIGTERM"]),
        ("imports", "SIGTERM", 60.0, ["SIGTERM"]),
        # Its jobs take longer than they may.
        ("worker", "SIGQUIT", 0.1, ["SIGTERM", "SIGQUIT"]),
        ("imports", "SIGQUIT", 0.1, ["SIGTERM", "SIGQUIT"]),
        ("worker", "SIGQUIT", 0.0, ["SIGQUIT"]),
        ("beat", "SIGTERM", 60.0, ["SIGTERM"]),
    ],
)
def test_a_worker_has_its_time_and_then_hands_back(
    name: str, ends: str, seconds: float, sent: list[str], tmp_path: Path
) -> None:
    log = ServerLog(tmp_path / "log")
    account = Account(os.geteuid(), os.getegid(), switched=False)
    program = [sys.executable, "-c", NOTES_SIGNALS, ends]
    service = launch(name, program, account=account, log=log, death_signal=signal.SIGKILL)
    service.wait_ready(lambda: "ready" in log.path.read_text(), timeout=60)
    services._stop(name, service, seconds)
    assert not service.running
    assert log.path.read_text().split() == ["ready", *sent]


def test_flower_that_ends_again_and_again_is_left_out_and_another_service_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(restarts, "RESTART_INTERVAL", 0.0)
    starts: list[str] = []

    def start(name: str) -> ServerProcess:
        starts.append(name)
        # The other one lives longer, so that Flower is given up first.
        program = [sys.executable, "-c", f"import time; print('{name} is broken'); time.sleep({name == 'relay'})"]
        return launch(
            name, program,
            account=Account(os.geteuid(), os.getegid(), switched=False), log=ServerLog(tmp_path / name),
            death_signal=signal.SIGTERM,
        )  # fmt: skip

    settings = Settings(database_url="postgresql://127.0.0.1/x", redis_url="redis://127.0.0.1/0")
    running = services.Services({name: start(name) for name in ("flower", "relay")}, start, settings)
    with pytest.raises(EmbeddedError, match=r"^relay was started again 3 times, .* log:\nrelay is broken$"):
        services.supervise(running, None)
    said = capsys.readouterr().err
    assert "flower was started again 3 times" in said
    assert said.index("flower is broken\nThe others go on without flower.\n") > 0
    assert (starts.count("flower"), starts.count("relay")) == (4, 4)
