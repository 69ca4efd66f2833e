"""Flower's options: what they are, and that Flower knows them."""

import asyncio
import os
import signal
from pathlib import Path

import pytest
from flower import command
from flower.options import options
from flower.views.tasks import visible_task_columns
from tornado.ioloop import IOLoop

from pattern_storage.config.flowerconfig import COLUMNS, flower_options
from pattern_storage.config.settings import Settings, SettingsInvalid, load_settings
from pattern_storage.tasks.flower.start import _install, make_folder, set_options

pytestmark = pytest.mark.usefixtures("clean_variables")

PASSWORD = "pa55-word"


def with_password(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Settings:
    for name, value in ({"PASSWORD": PASSWORD} | variables).items():
        monkeypatch.setenv(f"PATTERN_STORAGE_FLOWER_{name}", value)
    return load_settings()


def test_defaults(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = flower_options(with_password(monkeypatch))
    assert found["basic_auth"] == [f"admin:{PASSWORD}"]
    assert (found["address"], found["port"], found["read_only"]) == ("127.0.0.1", 5555, False)
    assert (found["persistent"], found["db"]) == (True, str(tmp_path / "celery" / "flower"))
    assert found["state_save_interval"] == 30_000


def test_settings_decide(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given = {"USER": "ops", "ADDRESS": "::1", "PORT": "6000", "READ_ONLY": "true", "SAVE_INTERVAL": "1.5",
             "URL_PREFIX": "/tools/flower/"}  # fmt: skip
    found = flower_options(with_password(monkeypatch, **given, DB=str(tmp_path / "f")))
    assert found["basic_auth"] == [f"ops:{PASSWORD}"]
    assert (found["address"], found["port"], found["read_only"]) == ("::1", 6000, True)
    assert found["url_prefix"] == "tools/flower"
    assert (found["state_save_interval"], found["db"]) == (1_500, str(tmp_path / "f"))


def test_flower_knows_every_option_and_column(monkeypatch: pytest.MonkeyPatch) -> None:
    found = flower_options(with_password(monkeypatch))
    assert found.keys() <= set(options.as_dict())
    assert [name for name, _ in visible_task_columns(found["tasks_columns"])] == list(COLUMNS)


def test_no_password_no_flower() -> None:
    with pytest.raises(SettingsInvalid, match=r"FLOWER_PASSWORD is not set; .*as 'admin' with this password"):
        flower_options(load_settings())


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("PASSWORD", "", "FLOWER_PASSWORD has 0 characters; it should have at least 8"),
        ("PASSWORD", "seven77", "FLOWER_PASSWORD has 7 characters; it should have at least 8"),
        ("PASSWORD", "pässwörter", "FLOWER_PASSWORD has 10 characters; .*printable ASCII"),
        ("USER", "a:b", "FLOWER_USER is 'a:b'; it "),
        ("USER", "", "FLOWER_USER is ''; it "),
        ("ADDRESS", "", "FLOWER_ADDRESS is ''; it "),
        ("PORT", "0", "FLOWER_PORT is '0'; it should be greater than or equal to 1"),
        ("PORT", "65536", "FLOWER_PORT is '65536'; it should be less than or equal to 65535"),
        ("READ_ONLY", "maybe", "FLOWER_READ_ONLY is 'maybe'; it should be a valid boolean"),
        ("SAVE_INTERVAL", "0", "FLOWER_SAVE_INTERVAL is '0'; it should be greater than or equal to 1"),
    ],
)
def test_bad_settings(monkeypatch: pytest.MonkeyPatch, name: str, value: str, says: str) -> None:
    with pytest.raises(SettingsInvalid, match=says) as caught:
        with_password(monkeypatch, **{name: value})
    if name == "PASSWORD":
        assert not value or value not in str(caught.value)


def test_secrets_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("DATABASE_URL", "REDIS_URL", "BROKER_URL", "RESULT_BACKEND_URL"):
        scheme = "postgresql" if variable == "DATABASE_URL" else "redis"
        monkeypatch.setenv(variable, f"{scheme}://user:{PASSWORD}@127.0.0.1/0")
    settings = with_password(monkeypatch)
    assert PASSWORD not in f"{settings!r} {settings} {settings.model_dump()['flower_password']}"


def test_a_file_that_cannot_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    settings = with_password(monkeypatch, DB=str(tmp_path / "file" / "flower"))
    with pytest.raises(SettingsInvalid, match=r"FLOWER_DB is .*/file/flower; its folder should be one that Flower can"):
        make_folder(settings)


def test_what_kubernetes_or_a_stray_file_say_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWER_PORT", "tcp://10.0.0.1:5555")
    monkeypatch.setenv("FLOWER_BASIC_AUTH", "guest:guest")
    monkeypatch.setenv("FLOWER_URL_PREFIX", "jobs")
    before = options.as_dict()
    try:
        set_options(flower_options(with_password(monkeypatch)))
        assert (options.port, options.basic_auth, options.conf) == (5555, [f"admin:{PASSWORD}"], os.devnull)
    finally:
        for name, value in before.items():
            setattr(options, name, value)
    assert [name for name in os.environ if name.startswith("FLOWER_")] == ["FLOWER_URL_PREFIX"]


@pytest.mark.usefixtures("unpatched_flower")
def test_a_signal_never_raises_where_it_finds_flower(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raised in the middle of starting a thread, SystemExit left a process that waited for that thread for good."""
    _install(with_password(monkeypatch))
    loop = IOLoop(make_current=False)
    asyncio.set_event_loop(loop.asyncio_loop)  # as in Flower's process
    before = signal.signal(signal.SIGTERM, command.sigterm_handler)
    try:
        os.kill(os.getpid(), signal.SIGTERM)  # the loop has not begun yet
        loop.start()  # returns
    finally:
        signal.signal(signal.SIGTERM, before)
        asyncio.set_event_loop(None)
        loop.close(all_fds=True)


@pytest.fixture
def unpatched_flower(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what `_install` changes in Flower's modules be undone."""
    from flower import events, urls
    from flower.api import BaseApiHandler
    from flower.views import BaseHandler, tasks
    from flower.views.tasks import TasksDataTable, TaskView

    for handler in (BaseHandler, BaseApiHandler):
        for name in ("get_current_user", "prepare", "render"):
            monkeypatch.setattr(handler, name, getattr(handler, name))
    monkeypatch.setattr(TasksDataTable, "needed_role", None, raising=False)
    monkeypatch.setattr(TaskView, "button_role", None, raising=False)
    monkeypatch.setattr(tasks, "search_tasks", tasks.search_tasks)
    monkeypatch.setattr(urls, "settings", dict(urls.settings))
    monkeypatch.setattr(command, "sigterm_handler", command.sigterm_handler)
    monkeypatch.setattr(events, "EventReceiver", events.EventReceiver)
    monkeypatch.setattr(events.EventsState, "Task", events.EventsState.Task)
    monkeypatch.setattr(urls, "handlers", list(urls.handlers))
