"""Base of what a page does: it asks first, saying to how many, and notes afterwards who did it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from pattern_storage.tasks.flower import access
from pattern_storage.tasks.flower.pages.base import PageHandler


@dataclass(frozen=True)
class Question:
    """What somebody is asked before something is done.

    Attributes:
        text: the question.
        back: the URL of the page that it came from.
        about: what it is about, by name: shown here, and kept in the audit.
        fields: what the form sends.
        count: how many it is about; none is nothing to be done.
        jobs: of one or a few, what each is.
    """

    text: str
    back: str
    about: dict[str, str] = field(default_factory=dict)
    fields: dict[str, str] = field(default_factory=dict)
    count: int = 1
    jobs: Sequence[str] = ()


class ActionHandler(PageHandler):
    """GET asks, POST does it. Both take the role."""

    #: What the button says, and what the page says afterwards: one of `base.DONE`.
    verb = past = ""
    #: What becomes of it, in a sentence or two.
    consequence = ""
    dangerous = False
    #: What the audit calls it; "" where it says so itself.
    action = ""

    async def question(self) -> Question:
        """Return the question. Raises HTTPError for what cannot be."""
        raise NotImplementedError

    async def act(self) -> int:
        """Do it, and return to how many."""
        raise NotImplementedError

    def about(self) -> dict[str, str]:
        """Return what it is about, as URL and form have it."""
        raise NotImplementedError

    def back(self, count: int) -> str:
        """Return the URL of the page on which it shows that it was done."""
        raise NotImplementedError

    async def get(self) -> None:
        """Ask for confirmation."""
        access.require(self, self.needed_role)
        asked = await self.question()
        self.page(
            "confirm.html", asked=asked, verb=self.verb, consequence=self.consequence, dangerous=self.dangerous,
            action=self.request.path,
        )  # fmt: skip

    async def post(self) -> None:
        """Do it."""
        count = await self.act()
        if figures := self.settings.get("pattern_storage_figures"):
            figures.checks.forget()
        if self.action and count:
            await self.operator.record(self.action, self.about(), count)
        self.redirect(self.back(count), status=303)
