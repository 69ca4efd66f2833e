"""Bases of the actions of our pages: each asks for confirmation, with the number of jobs, before it acts."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from pattern_storage.config.flower_roles import Role
from pattern_storage.tasks.flower import access
from pattern_storage.tasks.flower.pages.base import PageHandler


@dataclass(frozen=True)
class Question:
    """Request for confirmation.

    Attributes:
        text: the question.
        back: the URL of the page that it came from.
        about: what it is about, by name.
        fields: what the form sends.
        count: how many it is about; with 0 there is no button.
        jobs: descriptions of the jobs, where they are few.
    """

    text: str
    back: str
    about: dict[str, str] = field(default_factory=dict)
    fields: dict[str, str] = field(default_factory=dict)
    count: int = 1
    jobs: Sequence[str] = ()


class ActionHandler(PageHandler):
    """GET asks, POST acts. Both need the role."""

    #: What the button says, and what the page says afterwards: one of `base.DONE`.
    verb = past = ""
    #: Explanation of the effect, in a sentence or two.
    consequence = ""
    dangerous = False

    async def question(self) -> Question:
        """Return the question. Raises HTTPError if the action is not possible."""
        raise NotImplementedError

    async def act(self) -> int:
        """Act, write the action into the audit, and return on how many jobs or things it acted."""
        raise NotImplementedError

    def back(self, count: int) -> str:
        """Return the URL of the page that confirms the action."""
        raise NotImplementedError

    def filters_until(self, now: datetime) -> dict[str, str]:
        """Return the filters of an action on all that match, without what comes after the question."""
        return self.filters() | {"until": min(self.moment("until") or now, now).isoformat()}

    async def get(self) -> None:
        """Ask for confirmation."""
        access.require(self, self.needed_role)
        asked = await self.question()
        self.page(
            "confirm.html", asked=asked, verb=self.verb, consequence=self.consequence, dangerous=self.dangerous,
            action=self.request.path,
        )  # fmt: skip

    async def post(self) -> None:
        """Act, and lead to the page that confirms it."""
        count = await self.act()
        self.figures.checks.invalidate()
        self.redirect(self.back(count), status=303)


class NamedAction(ActionHandler):
    """An action on one queue or import, which the form names."""

    needed_role = Role.OPERATOR
    #: What the question calls it, before its name.
    noun = ""

    async def target(self) -> str:
        """Return the name. Raises HTTPError 404."""
        return self.parameter("name")

    async def question(self) -> Question:
        """Ask about the queue or import of this name."""
        about = {"name": await self.target()}
        return Question(f"{self.verb} {self.noun} {about['name']}?", self.href(self.tab), about, about)

    def back(self, count: int) -> str:
        """Lead to the list, whose route has the name of its tab."""
        return self.href(self.tab, did=self.past, count=count)
