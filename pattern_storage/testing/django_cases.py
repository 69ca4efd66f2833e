"""Mixin for Django's `TransactionTestCase`: jobs are executed in Django's own test database."""

from functools import cache
from urllib.parse import quote, urlencode

from pattern_storage.storage import schema
from pattern_storage.testing.cases import InlineJobs


class DjangoInlineJobs(InlineJobs):
    """Executes jobs at once in the test database of Django's connection `pattern_storage_alias`.

    Mix it into `TransactionTestCase`: a job is executed on a connection of its own, which sees nothing of the
    transaction that Django's `TestCase` keeps open. For `TestCase` there is `RecordedJobs`.
    """

    #: Django's name of the database.
    pattern_storage_alias = "default"

    def create_database(self) -> str:
        """Return the URL of Django's test database, with our tables in it."""
        from django.db import connections

        settings = connections[self.pattern_storage_alias].settings_dict
        named = {name: str(settings[name] or "") for name in ("USER", "PASSWORD", "HOST", "PORT", "NAME")}
        user = f"{quote(named['USER'], safe='')}:{quote(named['PASSWORD'], safe='')}@" if named["USER"] else ""
        host = named["HOST"] if not named["HOST"].startswith("/") else ""
        options = f"?{urlencode({'host': named['HOST']})}" if named["HOST"].startswith("/") else ""
        port = f":{named['PORT']}" if named["PORT"] else ""
        url = f"postgresql://{user}{host}{port}/{quote(named['NAME'], safe='')}{options}"
        _migrate(url)
        return url


@cache
def _migrate(url: str) -> None:
    schema.upgrade(url)
