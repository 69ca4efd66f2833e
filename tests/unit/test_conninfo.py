"""A DATABASE_URL that libpq would not take is told so before anything starts, without its password."""

import pytest

from pattern_storage import app
from pattern_storage.config.settings import SettingsInvalid, load_settings
from pattern_storage.storage.conninfo import RULE, UNREADABLE, complaint

SECRET = "pa55word"
assert app  # importing it is what makes settings ask libpq


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
        ("postgresql://u:1?{}=x@host/db?foo=bar", UNREADABLE),
        ("postgresql://u:1?sslmode={}@host/db?sslmode=bogus", UNREADABLE),
    ],
)  # fmt: skip
def test_what_libpq_would_refuse(url: str, says: str) -> None:
    with pytest.raises(SettingsInvalid) as caught:
        load_settings(database_url=url.format(SECRET))
    assert str(caught.value) == f"DATABASE_URL {says}"
    assert SECRET not in str(caught.value)


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
    assert complaint(url) is None
