"""Settings: where they come from, what they are without being said, and what a wrong one says."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pattern_storage.config.celeryconfig import celery_settings
from pattern_storage.config.settings import SettingsInvalid, environment_settings, load_settings
from pattern_storage.embedded import default_data_dir
from pattern_storage.embedded.lock import DirectoryLock
from pattern_storage.embedded.state import LOCK_FILE, STATE_FILE, StackState, write_state
from pattern_storage.storage import operations
from pattern_storage.vocabulary import OperationName
from tests.fix_process import OURS

SECRET = "pa55word"
NOWHERE = "redis://127.0.0.1:1/0"


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith(OURS)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PATTERN_STORAGE_DATA_DIR", str(tmp_path))


def test_defaults() -> None:
    settings = load_settings()
    assert (settings.database_url, settings.redis_url, settings.broker_url, settings.result_backend_url) == (None,) * 4
    assert (settings.pool_min_size, settings.pool_max_size, settings.pool_timeout) == (2, 10, 10.0)
    assert (settings.task_soft_time_limit, settings.task_time_limit, settings.visibility_timeout) == (240, 300, 600)
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
        (
            {"VISIBILITY_TIMEOUT": "300"},
            "PATTERN_STORAGE_VISIBILITY_TIMEOUT is 300; it should be more than PATTERN_STORAGE_TASK_TIME_LIMIT,"
            " which is 300: a job still running would run twice",
        ),
        (
            {"RETRY_BACKOFF_MAX": "600"},
            "PATTERN_STORAGE_RETRY_BACKOFF_MAX is 600; it should be less than PATTERN_STORAGE_VISIBILITY_TIMEOUT,"
            " which is 600: a waiting job would come twice",
        ),
    ],
)
def test_values_that_do_not_agree(monkeypatch: pytest.MonkeyPatch, values: dict[str, str], says: str) -> None:
    for name, value in values.items():
        monkeypatch.setenv(f"PATTERN_STORAGE_{name}", value)
    with pytest.raises(SettingsInvalid) as caught:
        load_settings()
    assert str(caught.value) == says


@pytest.mark.parametrize("variable", ["DATABASE_URL", "REDIS_URL", "BROKER_URL", "RESULT_BACKEND_URL"])
@pytest.mark.parametrize(
    "url",
    [
        f"http://user:{SECRET}@host/0",
        f"://user:{SECRET}@host",
        f"user:{SECRET}@host:6379",
        f"redis://user:{SECRET}@[::1/0",
        f"redis://user:{SECRET}/x@host:6379/0",
        f"redis://user:{SECRET},x@host:65536/0",
        f"postgresql://user:{SECRET}/x@host:5432/db",
        "",
        "localhost",
    ],
)
def test_wrong_url_names_the_variable_and_keeps_the_password(
    monkeypatch: pytest.MonkeyPatch, variable: str, url: str
) -> None:
    monkeypatch.setenv(variable, url)
    with pytest.raises(SettingsInvalid) as caught:
        load_settings()
    said = str(caught.value)
    assert said.startswith(variable)
    assert "should" in said
    assert SECRET not in said


@pytest.mark.parametrize(
    ("variable", "url"),
    [
        ("DATABASE_URL", "postgresql://user:p%40ss@host:5432/db?sslmode=require"),
        ("DATABASE_URL", "postgres:///db"),
        ("DATABASE_URL", "postgresql://one:5432,two:5433/db"),
        ("DATABASE_URL", "host=localhost dbname=db"),
        ("REDIS_URL", "redis://:secret@[::1]:6379/0"),
        ("BROKER_URL", "sentinel://one:26379;sentinel://two:26379"),
        ("BROKER_URL", "amqp://guest:guest@host//"),
        ("RESULT_BACKEND_URL", "rediss://host"),
        ("REDIS_URL", "redis://host:6379/15/"),
        ("REDIS_URL", "redis+socket:///run/redis.sock?virtual_host=3"),
        ("REDIS_URL", "unix://user:secret@/run/redis.sock?db=3"),
        ("REDIS_URL", "rediss://host:6379/0?ssl_cert_reqs=CERT_NONE&ssl_ca_certs=/etc/me@home.pem"),
        ("DATABASE_URL", "postgresql://host/db?application_name=me@home"),
    ],
)
def test_url_that_is_right(monkeypatch: pytest.MonkeyPatch, variable: str, url: str) -> None:
    monkeypatch.setenv(variable, url)
    assert getattr(load_settings(), variable.lower()) == url


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("unix:///", "names no socket; it should be like unix:///run/redis/redis.sock"),
        ("redis+socket://:{}@host/x", "names no socket; it should be like redis+socket:///run/redis/redis.sock"),
        ("unix:///x?virtual_host=a", "has virtual_host='a'; it should be a number"),
        ("unix:///x?timeout=1", "has the parameter 'timeout'; a socket's database is given as virtual_host or db"),
        ("redis://:{}@host/abc", "has the database 'abc'; it should be a number, as in redis://host/0"),
        ("redis://:{}@host/0/1", "has the database '0/1'; it should be a number, as in redis://host/0"),
        ("redis://:{}@host/0?foo=bar", "has the parameter 'foo'; a URL of redis:// should have none"),
        ("redis://host?ssl_cert_reqs=none", "has the parameter 'ssl_cert_reqs'; a URL of redis:// should have none"),
        (
            "sentinel://:{}@host/0;sentinel://two/x",
            "has the database 'x'; it should be a number, as in sentinel://host/0",
        ),
        (
            "sentinel://:{}@host:26379/0;two:26379",
            "has the scheme 'two'; it should start with one of redis://, rediss://,",
        ),
        (
            "rediss://:{}@host?foo=bar",
            "has the parameter 'foo'; it should be one of ssl_cert_reqs, ssl_check_hostname, ssl_ca_certs,",
        ),
        (
            "rediss://host?ssl_cert_reqs=maybe",
            "has ssl_cert_reqs='maybe'; it should be one of required, optional, none",
        ),
        ("rediss://host?ssl_check_hostname=0", "has ssl_check_hostname='0'; it should be one of true, false"),
        ("redis://user:1/{}@host:6379/0", "cannot be read; its port should be a number"),
        ("redis://user:1?{}@host:6379/0", "cannot be read; its port should be a number"),
        ("redis://user:1?a={}@host:6379/0", "cannot be read; its port should be a number"),
        ("redis://user:1#{}@host:6379/0", "cannot be read; its port should be a number"),
    ],
)
def test_what_only_some_programs_would_read_in_a_url_of_redis(url: str, says: str) -> None:
    with pytest.raises(SettingsInvalid) as caught:
        load_settings(redis_url=url.format(SECRET))
    assert str(caught.value).startswith(f"REDIS_URL {says}")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("rediss://host", "rediss://host?ssl_cert_reqs=required"),
        ("rediss://:p%40ss@host:1/2?ssl_cert_reqs=CERT_REQUIRED", "rediss://:p%40ss@host:1/2?ssl_cert_reqs=required"),
        ("rediss://host?ssl_cert_reqs=CERT_NONE", "rediss://host?ssl_cert_reqs=none"),
        ("rediss://host?ssl_check_hostname=False", "rediss://host?ssl_cert_reqs=required&ssl_check_hostname=false"),
        ("rediss://host?ssl_ca_certs=/CERT_/A", "rediss://host?ssl_cert_reqs=required&ssl_ca_certs=%2FCERT_%2FA"),
        ("redis://host/1", "redis://host/1"),
        ("redis://", "redis://localhost"),
        ("redis:///1", "redis://localhost/1"),
        ("sentinel://:x@one/0;sentinel://two", "sentinel://:x@one/0;sentinel://two"),
    ],
)
def test_url_of_redis_is_given_to_all_programs_in_one_spelling(given: str, used: str) -> None:
    settings = load_settings(redis_url=given)
    assert (settings.broker, settings.result_backend) == (used, used)
    assert load_settings(broker_url=used, redis_url="redis://x").broker == used


def test_queue_and_results_are_redis_url_unless_said_otherwise() -> None:
    one = load_settings(redis_url="redis://one")
    assert (one.broker, one.result_backend) == ("redis://one", "redis://one")
    three = load_settings(redis_url="redis://one", broker_url="amqp://two", result_backend_url="redis://three")
    assert (three.broker, three.result_backend) == ("amqp://two", "redis://three")


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
        f"{variable} is not set and no stack runs in {tmp_path};"
        f" set {variable}, or start servers of your own with 'pattern-storage up'"
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


@pytest.mark.parametrize("name", [f"{kind}STATEMENT_TIMEOUT" for kind in ("", "QUERY_", "BATCH_")] + ["LOCK_TIMEOUT"])
def test_a_statement_may_not_outlast_its_job(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"PATTERN_STORAGE_{name}", "241")
    with pytest.raises(SettingsInvalid, match=f"PATTERN_STORAGE_{name} is 241; it should be at most .*, which is 240"):
        load_settings()


def test_a_job_may_not_wait_for_a_connection_until_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATTERN_STORAGE_POOL_TIMEOUT", "240")
    with pytest.raises(SettingsInvalid) as caught:
        load_settings()
    assert str(caught.value) == (
        "PATTERN_STORAGE_POOL_TIMEOUT is 240; it should be less than PATTERN_STORAGE_TASK_SOFT_TIME_LIMIT, which is 240"
    )
    monkeypatch.delenv("PATTERN_STORAGE_POOL_TIMEOUT")
    assert load_settings(task_soft_time_limit=5, task_time_limit=8).pool_timeout == 10


def test_time_limits_of_each_operation_agree() -> None:
    settings = load_settings()
    assert settings.time_limits("insert") == (90.0, 150.0)
    assert settings.time_limits("batch_insert") == (210.0, 270.0)
    for operation in OperationName:
        soft, hard = settings.time_limits(operation)
        assert soft < hard < settings.visibility_timeout
        annotation = celery_settings(load_settings(redis_url=NOWHERE))["task_annotations"][f"storage.{operation}"]
        assert annotation == {"soft_time_limit": soft, "time_limit": hard}
    assert load_settings(query_statement_timeout=5).time_limits("query") == (35.0, 95.0)
    # A run that lives keeps its message, so its limit may exceed the visibility timeout.
    assert settings.time_limits("import") == (14_400.0, 14_460.0)
    annotations = celery_settings(load_settings(redis_url=NOWHERE))["task_annotations"]
    assert annotations["imports.run"] == {"soft_time_limit": 14_400.0, "time_limit": 14_460.0}
    short = load_settings(task_soft_time_limit=7, task_time_limit=8)
    assert short.time_limits("insert") == short.time_limits("batch_insert") == (7.0, 8.0)


def test_every_operation_has_a_task_and_limits() -> None:
    assert set(OperationName) == set(operations.OPERATIONS)
