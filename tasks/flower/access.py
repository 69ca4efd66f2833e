"""Access control of every Flower page: the user who has logged in, and what the user's role may do.

It replaces Flower's own in the base of all its handlers. So a handler that a later release of Flower adds is refused to
viewers and operators, unless it only reads.
"""

from base64 import b64decode
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hmac import compare_digest
from typing import Any

from tornado import web

from pattern_storage.config.flower_roles import Role

#: Methods whose requests change nothing.
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

READ_ONLY = "Read only mode is enabled"


@dataclass(frozen=True)
class User:
    """A user who has logged in."""

    name: str
    role: Role

    def may(self, needed: Role) -> bool:
        """Whether the role is at least the needed one."""
        return self.role >= needed


def find_user(credentials: str, accepted: Iterable[str], roles: dict[str, Role]) -> User | None:
    """Return the user with these credentials, or None, in a time that does not depend on how nearly they are right.

    Args:
        credentials: `user:password` as the browser sent it.
        accepted: the logins that Flower accepts. A login without a role in the settings is from Flower's command line,
            and an admin.
        roles: see `logins`.
    """
    user = None
    for login in accepted:
        if compare_digest(login.encode(), credentials.encode()):
            user = User(login.partition(":")[0], roles.get(login, Role.ADMIN))
    return user


def current_user(handler: web.RequestHandler) -> User:
    """Return the user who sent the request. Raises HTTPError 401."""
    scheme, _, encoded = handler.request.headers.get("Authorization", "").partition(" ")
    try:
        credentials = b64decode(encoded.encode(), validate=True).decode()
    except ValueError:
        raise web.HTTPError(401) from None
    accepted = handler.application.options.basic_auth or []  # type: ignore[attr-defined]  # Flower's own attribute
    user = find_user(credentials, accepted, handler.settings["pattern_storage_roles"])
    if scheme != "Basic" or user is None:
        raise web.HTTPError(401)
    return user


def check(handler: web.RequestHandler) -> None:
    """Raise HTTPError 401 or 403 for a request that changes something and needs more than the user's role.

    It needs the handler's `needed_role`, and the role of an admin where the handler has none.
    """
    if handler.request.method not in SAFE_METHODS:
        require(handler, getattr(handler, "needed_role", Role.ADMIN))


def require(handler: web.RequestHandler, needed: Role) -> None:
    """Raise HTTPError 401 without a login, 403 if the user lacks the role or Flower is read-only."""
    if needed > Role.VIEWER:
        user = current_user(handler)
        if is_read_only(handler):
            raise web.HTTPError(403, READ_ONLY)
        if not user.may(needed):
            article = "a" if user.role is Role.VIEWER else "an"
            raise web.HTTPError(403, f"This takes the role {needed.label}; {user.name} is {article} {user.role.label}")


def is_read_only(handler: web.RequestHandler) -> bool:
    """Whether Flower is read-only by its setting."""
    return bool(handler.application.options.read_only)  # type: ignore[attr-defined]


def may(handler: web.RequestHandler, needed: Role) -> bool:
    """Whether to show a button that needs this role."""
    user = handler.current_user
    return isinstance(user, User) and user.may(needed) and not is_read_only(handler)


def hide_buttons(render: Callable[..., Any]) -> Callable[..., Any]:
    """Return Flower's `render`, changed so that its own pages show no button that the role may not press."""

    def rendered(handler: web.RequestHandler, template: str, **values: Any) -> Any:
        if "read_only" in values:
            values["read_only"] = not may(handler, getattr(handler, "button_role", Role.ADMIN))
        return render(handler, template, **values)

    return rendered


def install() -> None:
    """Replace Flower's own access control."""
    from flower.api import BaseApiHandler
    from flower.views import BaseHandler
    from flower.views.tasks import TasksDataTable, TaskView

    BaseHandler.get_current_user = current_user
    BaseHandler.prepare = BaseApiHandler.prepare = check
    BaseHandler.render = hide_buttons(BaseHandler.render)
    # The list of tasks gets its rows by a POST that changes nothing.
    TasksDataTable.needed_role = Role.VIEWER
    TaskView.button_role = Role.OPERATOR
