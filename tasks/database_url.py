"""Validation of DATABASE_URL by libpq, which `config` must not import."""

from pattern_storage.config.settings import Settings, SettingsInvalid
from pattern_storage.storage import connection
from pattern_storage.storage.setup_errors import ConninfoInvalid, DatabaseUnsuitable


def check_database_url(settings: Settings) -> None:
    """Raise SettingsInvalid, with libpq's reason, for a DATABASE_URL that libpq cannot parse."""
    if settings.database_url is not None:
        try:
            connection.check_conninfo(settings.database_url)
        except ConninfoInvalid as error:
            raise SettingsInvalid(str(error)) from None


def check_database(settings: Settings) -> None:
    """Raise SettingsInvalid at the start of a service without a database, or whose database cannot hold every text."""
    try:
        connection.check_database(settings.database, timeout=settings.connect_timeout)
    except (ConninfoInvalid, DatabaseUnsuitable) as error:
        raise SettingsInvalid(str(error)) from None
