"""Base of the handlers of our pages: login, roles, headers, parameters of the URL, and errors as sentences."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from click import ClickException
from flower.views import BaseHandler
from tornado import web
from tornado.log import app_log

from pattern_storage.config.flower_roles import Role
from pattern_storage.storage import job_labels
from pattern_storage.storage.errors import PermanentError, StorageError
from pattern_storage.storage.job_filter import read_time
from pattern_storage.tasks.errors import ServiceUnavailable
from pattern_storage.tasks.flower import access
from pattern_storage.tasks.flower.access import User
from pattern_storage.tasks.flower.backend import Backend
from pattern_storage.tasks.flower.pages import formatting
from pattern_storage.tasks.flower.pages.figures import Figures
from pattern_storage.tasks.operate.operator import Operator
from pattern_storage.tasks.operate.waiting_message import WaitingMessage

#: Nothing of a page is loaded from elsewhere, and no script is part of a page: text that was not escaped would not run.
POLICY = "; ".join((
    "default-src 'none'", "script-src 'self'", "style-src 'self' 'unsafe-inline'", "img-src 'self' data:",
    "connect-src 'self'", "form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'",
))  # fmt: skip

#: Characters of a parameter at most: a longer filter matches nothing.
LONGEST = 255

#: Errors whose text is a sentence for the person who reads the page.
EXPLAINED = (StorageError, ServiceUnavailable, ClickException)


class PageHandler(BaseHandler):  # type: ignore[misc]  # Flower has no types
    """Base of a page. Every login may see it; posting to it needs `needed_role`."""

    needed_role = Role.ADMIN
    #: Name of its tab in the navigation, see `routes.TABS`.
    tab = ""
    #: Parameters of its URL that are filters.
    filter_names: Iterable[str] = ()

    def set_default_headers(self) -> None:
        """Add the headers that keep a page to itself."""
        super().set_default_headers()
        self.set_header("Content-Security-Policy", POLICY)
        self.set_header("Referrer-Policy", "same-origin")
        self.set_header("Cache-Control", "no-store")

    def check_xsrf_cookie(self) -> None:
        """Check Flower's rules and Tornado's token: a form of another site has no token."""
        super().check_xsrf_cookie()
        web.RequestHandler.check_xsrf_cookie(self)

    def prepare(self) -> None:
        """Refuse a request without a login, and one that the role does not allow."""
        _ = self.user
        access.check(self)

    @property
    def user(self) -> User:
        """The user who sent the request. Raises HTTPError 401."""
        user = self.current_user
        if not isinstance(user, User):
            raise web.HTTPError(401)
        return user

    @property
    def backend(self) -> Backend:
        """Access to PostgreSQL, queues and results."""
        backend: Backend = self.settings["pattern_storage_backend"]
        return backend

    @property
    def figures(self) -> Figures:
        """The cached figures."""
        figures: Figures = self.settings["pattern_storage_figures"]
        return figures

    def may(self, needed: Role) -> bool:
        """Whether to show a button that needs this role."""
        return access.may(self, needed)

    # --- parameters of the URL or the form ---

    def parameter(self, name: str) -> str:
        """Return a parameter without control characters, "" if it is not given. Raises HTTPError 400 if it is long."""
        # Not Flower's own, which escapes HTML: templates do that.
        value = web.RequestHandler.get_argument(self, name, "")
        if len(value) > LONGEST:
            raise web.HTTPError(400, f"{name} should be at most {LONGEST} characters")
        return value

    def filters(self) -> dict[str, str]:
        """Return the filters that have a value."""
        return {name: value for name in self.filter_names if (value := self.parameter(name))}

    def choice(self, name: str, known: Any, default: str = "") -> str:
        """Return a parameter that has to be one of the known words. Raises HTTPError 400."""
        value = self.parameter(name)
        if value and value not in known:
            raise web.HTTPError(400, f"{name} should be one of {', '.join(known)}")
        return value or default

    def identifier(self, name: str) -> UUID | None:
        """Return a parameter that has to be a correlation id. Raises HTTPError 400."""
        value = self.parameter(name)
        try:
            return UUID(value) if value else None
        except ValueError:
            raise web.HTTPError(400, f"{name} should be a correlation id: a UUID, 36 characters") from None

    def moment(self, name: str) -> datetime | None:
        """Return a parameter that has to be a time, in UTC where it has no zone. Raises FilterInvalid."""
        value = self.parameter(name)
        return read_time(name, value) if value else None

    def href(self, route: str, /, *arguments: Any, **query: Any) -> str:
        """Return the URL of a page by the name of its route, with the parameters that have a value."""
        parameters = {key: value for key, value in query.items() if value is not None and value != ""}
        path = self.reverse_url(route, *arguments)
        return f"{path}?{urlencode(parameters, errors='replace')}" if parameters else path

    # --- answers ---

    def page(self, template: str, **values: Any) -> None:
        """Answer with a page."""
        self.render(
            template, fmt=formatting, href=self.href, may=self.may, Role=Role, user=self.user, tab=self.tab,
            now=datetime.now(UTC), did=self._did(), **values,
        )  # fmt: skip

    async def names_of(self, messages: Iterable[WaitingMessage]) -> dict[UUID, str]:
        """Return the names of the patterns that messages name by their ids."""
        ids = {
            message.contract.pattern_id
            for message in messages
            if message.contract is not None and message.contract.pattern_id is not None
        }
        return await self.backend.run(job_labels.pattern_names, ids=ids) if ids else {}

    @property
    def operator(self) -> Operator:
        """The actions of operators, in the name of this user."""
        return self.backend.operator(self.user.name)

    def _did(self) -> str:
        """Return a sentence about the action that led here, "" if none did."""
        action, count = self.parameter("did").replace("-", " "), self.parameter("count")
        if action not in DONE or not count.isdecimal():
            return ""
        return f"Done: {int(count):,} {action}." if int(count) else f"Nothing was left to be {action}."

    def log_exception(self, kind: Any, error: Any, trace: Any) -> None:
        """Log an error that is explained in one line, without a traceback."""
        if isinstance(error, EXPLAINED):
            app_log.warning("%s: %s", self.request.path, error)
        else:
            super().log_exception(kind, error, trace)

    def write_error(self, status_code: int, **more: Any) -> None:
        """Answer with the reason, for a user who has logged in as a page with the navigation."""
        error = (more.get("exc_info") or (None, None))[1]
        if isinstance(error, EXPLAINED):
            status_code = 400 if isinstance(error, PermanentError) else 503
            reason = error.format_message() if isinstance(error, ClickException) else str(error)
        elif isinstance(error, web.HTTPError) and status_code != 500:
            reason = error.get_message() or str(error)
        else:
            reason = "Flower's log says more"
        self.set_status(status_code)
        if not isinstance(getattr(self, "_current_user", None), User):
            super().write_error(status_code, **more)
            return
        self.render("message.html", fmt=formatting, tab=self.tab, status=status_code, reason=reason)


#: Words by which a page confirms an action, see `PageHandler._did`: no other word of a URL is shown.
DONE = frozenset({
    "cancelled", "purged", "sent again", "replayed", "discarded", "removed", "paused", "resumed", "started", "stopped",
})  # fmt: skip
