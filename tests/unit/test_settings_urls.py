"""URLs in settings: which are right, in which spelling all programs get them, and that no password is shown."""

import pytest

from pattern_storage.config.settings import SettingsInvalid, load_settings

pytestmark = pytest.mark.usefixtures("clean_variables")


SECRET = "pa55word"


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
    if not url:
        assert said == f"{variable} is empty; it should be a URL, or not be set"


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
        ("unix:run/redis.sock", "names no socket; it should be like unix:///run/redis/redis.sock"),
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


def test_a_semicolon_at_the_end_names_no_other_server() -> None:
    settings = load_settings(redis_url="sentinel://one:26379/0;sentinel://two;", broker_url="amqp://host;")
    assert (settings.result_backend, settings.broker) == ("sentinel://one:26379/0;sentinel://two", "amqp://host")
