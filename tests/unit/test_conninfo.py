"""A DATABASE_URL that libpq would not take is told so before anything starts, without its password."""

import pytest

from pattern_storage import PatternStorageClient
from pattern_storage.config.settings import SettingsInvalid
from pattern_storage.storage.connection import check_conninfo
from pattern_storage.storage.conninfo import RULE, UNREADABLE, refusal
from pattern_storage.storage.pool import create_pool
from pattern_storage.storage.setup_errors import ConninfoInvalid

SECRET = "pa55word"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgresql://u:{}@host/db?foo=bar", f"has the parameter 'foo', which libpq does not know; {RULE}"),
        ("postgresql://u:{}@host/db?sslmod=require", "has the parameter 'sslmod', which libpq does not know;"
         " did you mean sslmode?"),
        ("postgresql://u:{}@host/db?sslmode=bogus", f'cannot be used: invalid sslmode value: "bogus"; {RULE}'),
        ("host=h password={} sslmode=bogus", f'cannot be used: invalid sslmode value: "bogus"; {RULE}'),
        ("postgresql://u:{}@a,b/db?target_session_attrs=x", "cannot be used: invalid target_session_attrs value:"
         f' "x"; {RULE}'),
        ("postgresql://u:{}@host/db?connect_timeout=soon", "has connect_timeout='soon'; it should be a whole number"),
        ("host=host port=5432,x password={}", "has port='5432,x'; it should be a whole number"),
        ("host=h password=a {}", UNREADABLE),
        ("postgresql://u:%zz{}@host/db", UNREADABLE),
        ("postgresql://u:a]{}@host/db", UNREADABLE),
        ("postgresql://u:1?{}=x@host/db?foo=bar", UNREADABLE),
        ("postgresql://u:1?sslmode={}@host/db?sslmode=bogus", UNREADABLE),
    ],
)  # fmt: skip
def test_what_libpq_would_refuse(url: str, says: str) -> None:
    with pytest.raises(ConninfoInvalid) as caught:
        check_conninfo(url.format(SECRET))
    assert str(caught.value) == f"DATABASE_URL {says}"
    assert SECRET not in str(caught.value)


def test_clients_and_pools_refuse_it_when_they_are_made() -> None:
    url = "postgresql://host/db?sslmod=require"
    with pytest.raises(SettingsInvalid, match="DATABASE_URL has the parameter 'sslmod'"):
        PatternStorageClient(database_url=url, redis_url="redis://127.0.0.1:1")
    with pytest.raises(ConninfoInvalid, match="DATABASE_URL has the parameter 'sslmod'"):
        create_pool(url)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:p%40ss@host:5432/db?sslmode=verify-full&sslrootcert=/nonexistent",
        "postgresql://one:5432,two:5433/db?target_session_attrs=read-write&connect_timeout=-1",
        "postgres:///db",
        "postgresql://[::1]/db?ssl=true",
        "postgresql://u@%2Frun%2Fpostgresql/db?options=-csearch_path%3Dx",
        "postgresql://host/db?application_name=me@home",
        "host=localhost dbname=db hostaddr=192.0.2.1",
        "dbname=db user='a b'",
    ],
)
def test_what_libpq_takes_nobody_connects_to(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOST", "192.0.2.1")
    monkeypatch.setenv("PGPORT", "1,2")
    assert refusal(url) is None
