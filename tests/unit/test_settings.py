"""Settings: where they come from, what they are without being said, and what a wrong one says."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from pattern_storage.config.settings import SettingsInvalid, environment_settings, load_settings
from pattern_storage.embedded import default_data_dir
from pattern_storage.embedded.lock import DirectoryLock
from pattern_storage.embedded.state import LOCK_FILE, STATE_FILE, StackState, write_state

pytestmark = pytest.mark.usefixtures("clean_variables")


def test_defaults() -> None:
    settings = load_settings()
    assert (settings.database_url, settings.redis_url, settings.broker_url, settings.result_backend_url) == (None,) * 4
    assert (settings.pool_min_size, settings.pool_max_size, settings.pool_timeout) == (2, 10, 10.0)
    assert (settings.task_soft_time_limit, settings.task_time_limit, settings.visibility_timeout) == (240, 300, 60)
    assert (settings.prefetch_multiplier, settings.soft_shutdown_timeout, settings.track_started) == (4, 20.0, True)
    assert (settings.result_expires, settings.connect_timeout, settings.log_level) == (86_400, 5.0, "INFO")
    assert settings.prepare_threshold == 5


def test_default_data_dir(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PATTERN_STORAGE_DATA_DIR")
    assert load_settings().data_dir == default_data_dir()


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("POOL_MIN_SIZE", "-1", "should be greater than or equal to 0"),
        ("POOL_MIN_SIZE", "two", "should be a valid integer"),
        ("POOL_MAX_SIZE", "0", "should be greater than or equal to 1"),
        ("POOL_MAX_SIZE", "1001", "should be less than or equal to 1000"),
        ("POOL_TIMEOUT", "0", "should be greater than 0"),
        ("POOL_TIMEOUT", "nan", "should be"),
        ("POOL_TIMEOUT", "inf", "should be"),
        ("PREPARE_THRESHOLD", "-2", "should be greater than or equal to -1"),
        ("TASK_SOFT_TIME_LIMIT", "0", "should be greater than or equal to 1"),
        ("TASK_TIME_LIMIT", "1.5", "should be a valid integer"),
        ("VISIBILITY_TIMEOUT", "", "should be a valid integer"),
        ("PREFETCH_MULTIPLIER", "0", "should be greater than or equal to 1"),
        ("SOFT_SHUTDOWN_TIMEOUT", "-1", "should be greater than or equal to 0"),
        ("SOFT_SHUTDOWN_TIMEOUT", "inf", "should be"),
        ("TRACK_STARTED", "maybe", "should be a valid boolean"),
        ("IMPORT_TIME_LIMIT", "0", "should be greater than or equal to 1"),
        ("IMPORT_HISTORY_DAYS", "0", "should be greater than or equal to 1"),
        ("RESULT_EXPIRES", "0", "should be greater than or equal to 1"),
        ("RESULT_EXPIRES", "10000000000000000", "should be less than or equal to 3153600000"),
        ("KEY_PREFIX", "team", "should be letters, digits and .:_- and end in one of these four, as in 'team-a:'"),
        ("KEY_PREFIX", "a*:", "should be letters, digits and .:_- and end in one of these four, as in 'team-a:'"),
        ("CONNECT_TIMEOUT", "601", "should be less than or equal to 600"),
        ("LOG_LEVEL", "LOUD", "should be 'DEBUG', 'INFO', 'WARNING' or 'ERROR'"),
    ],
)
def test_wrong_value(monkeypatch: pytest.MonkeyPatch, variable: str, value: str, says: str) -> None:
    monkeypatch.setenv(f"PATTERN_STORAGE_{variable}", value)
    with pytest.raises(SettingsInvalid) as caught:
        load_settings()
    assert str(caught.value).startswith(f"PATTERN_STORAGE_{variable} is {value!r}; it {says}")
    assert isinstance(caught.value, ValueError)


def test_several_wrong_values_are_all_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATTERN_STORAGE_POOL_MAX_SIZE", "many")
    monkeypatch.setenv("PATTERN_STORAGE_LOG_LEVEL", "LOUD")
    with pytest.raises(
        SettingsInvalid, match=r"(?=.*POOL_MAX_SIZE is 'many')(?=.*PATTERN_STORAGE_LOG_LEVEL is 'LOUD')"
    ):
        load_settings()


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (
            {"POOL_MIN_SIZE": "5", "POOL_MAX_SIZE": "4"},
            "PATTERN_STORAGE_POOL_MIN_SIZE is 5; it should be at most PATTERN_STORAGE_POOL_MAX_SIZE, which is 4",
        ),
        (
            {"TASK_SOFT_TIME_LIMIT": "300"},
            "PATTERN_STORAGE_TASK_SOFT_TIME_LIMIT is 300; it should be less than PATTERN_STORAGE_TASK_TIME_LIMIT,"
            " which is 300",
        ),
    ],
)
def test_values_that_do_not_agree(monkeypatch: pytest.MonkeyPatch, values: dict[str, str], says: str) -> None:
    for name, value in values.items():
        monkeypatch.setenv(f"PATTERN_STORAGE_{name}", value)
    with pytest.raises(SettingsInvalid) as caught:
        load_settings()
    assert str(caught.value) == says


def test_argument_beats_environment_and_none_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://environment")
    assert load_settings(redis_url="redis://argument").broker == "redis://argument"
    assert load_settings(redis_url=None).broker == "redis://environment"


@pytest.mark.parametrize(
    ("name", "variable"), [("database", "DATABASE_URL"), ("broker", "REDIS_URL"), ("result_backend", "REDIS_URL")]
)
def test_nothing_set_says_what_to_do(tmp_path: Path, name: str, variable: str) -> None:
    with pytest.raises(SettingsInvalid) as caught:
        getattr(load_settings(), name)
    assert str(caught.value) == (
        f"{variable} is not set and no servers run in {tmp_path};"
        f" set {variable}, or start servers of your own with 'pattern-storage up'"
    )


@pytest.mark.parametrize(
    ("given", "missing", "name"),
    [
        ("DATABASE_URL", "REDIS_URL", "broker"),
        ("REDIS_URL", "DATABASE_URL", "database"),
        ("BROKER_URL", "REDIS_URL", "result_backend"),
    ],
)
def test_half_of_the_urls_says_what_to_do(monkeypatch: pytest.MonkeyPatch, given: str, missing: str, name: str) -> None:
    monkeypatch.setenv(given, "postgresql://mine" if given == "DATABASE_URL" else "redis://mine")
    with pytest.raises(SettingsInvalid) as caught:
        getattr(load_settings(), name)
    assert str(caught.value) == (
        f"{missing} is not set, but {given} is: set {missing} too,"
        f" or unset {given} for the servers of 'pattern-storage up'"
    )


@pytest.fixture
def stack(tmp_path: Path) -> StackState:
    """The state file of a stack that has stopped without removing it."""
    state = StackState(1, "postgresql://stack/db", "redis://stack", datetime.now(UTC))
    write_state(tmp_path, state)
    return state


def test_running_stack_is_found(stack: StackState, tmp_path: Path) -> None:
    assert load_settings().database_url is None
    lock = DirectoryLock(tmp_path / LOCK_FILE)
    lock.acquire()
    try:
        settings = load_settings()
        assert (settings.database, settings.broker) == (stack.database_url, stack.redis_url)
        assert load_settings(redis_url="redis://mine").broker == "redis://mine"
        complete = load_settings(database_url="postgresql://mine", broker_url="amqp://mine")
        assert (complete.database, complete.redis_url) == ("postgresql://mine", None)
        (tmp_path / STATE_FILE).write_text("{}")
        with pytest.raises(SettingsInvalid, match="is not a state file of this version"):
            load_settings()
    finally:
        lock.release()


def test_environment_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    environment_settings.cache_clear()
    try:
        first = environment_settings()
        monkeypatch.setenv("REDIS_URL", "redis://later")
        assert environment_settings() is first
    finally:
        environment_settings.cache_clear()
