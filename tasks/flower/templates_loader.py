"""Loader of templates: ours, and Flower's with a few edits."""

import re
from pathlib import Path

from tornado.template import Loader, Template

OURS = Path(__file__).parent / "templates"

#: Edits of Flower's templates by name: a pattern, and its replacement. Where a release of Flower has no such text,
#: nothing is edited, and a test fails.
EDITS: dict[str, tuple[tuple[str, str], ...]] = {
    "base.html": ((r"</head>", '{% include "head.html" %}</head>'),),
    "task.html": (
        # Flower does not know PROGRESS, the state of an import that runs, which can be cancelled as well.
        (r'{% if task.state == "STARTED" %}', '{% if task.state in ("STARTED", "PROGRESS") %}'),
        (
            r'<div class="detail-actions">',
            '<div class="detail-actions">{% if str(task.name).startswith(("storage.", "imports.")) %}'
            '<a class="btn btn-outline-secondary" href="{{ reverse_url(\'job\', task.uuid) }}">Timeline</a>{% end %}',
        ),
        (r">Terminate</button>", ">Cancel</button>"),
        (r">Revoke</button>", ">Cancel</button>"),
    ),
    "navbar.html": (
        (r'(<ul class="app-nav navbar-nav">)', r'\1{% include "nav_items.html" %}'),
        # Our page of the queues takes the place of its page of the broker.
        (r'<li class="nav-item">(?:(?!</li>).)*reverse_url\(.broker.\)(?:(?!</li>).)*</li>', ""),
    ),
}


class PagesLoader(Loader):
    """Tornado's loader, which looks for a template in our folder first, then in Flower's."""

    def resolve_path(self, name: str, parent_path: str | None = None) -> str:
        """Return the name unchanged: each template stands at the top of its folder."""
        return name

    def _create_template(self, name: str) -> Template:
        ours = OURS / name
        path = ours if ours.is_file() else Path(self.root) / name
        return Template(edited(name, path.read_text(encoding="utf-8")), name=name, loader=self)


def edited(name: str, text: str) -> str:
    """Return a template's text with our edits."""
    for pattern, replacement in EDITS.get(name, ()):
        text = re.sub(pattern, replacement, text, count=1, flags=re.DOTALL)
    return text
