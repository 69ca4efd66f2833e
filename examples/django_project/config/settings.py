"""Settings of Django. The database is the one of DATABASE_URL, where pattern-storage has its outbox as well."""

import os
from urllib.parse import unquote, urlsplit

_url = urlsplit(os.environ["DATABASE_URL"])
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": _url.hostname,
        "PORT": _url.port,
        "NAME": _url.path.removeprefix("/"),
        "USER": unquote(_url.username or ""),
        "PASSWORD": unquote(_url.password or ""),
    }
}
INSTALLED_APPS = ["tasks"]
SECRET_KEY = os.environ.get("SECRET_KEY", "of an example")
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
