"""Sphinx: the site of docs and API reference, `make docs`. Everything in it is local, and a warning fails the build."""

import re
import sys
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.util import logging

sys.path.insert(0, str(Path(__file__).parent.parent))

import pattern_storage

project = "pattern-storage"
author = "The authors of pattern-storage"
copyright = "2026, the authors of pattern-storage"  # noqa: A001  # Sphinx's name
version = release = pattern_storage.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "index"
html_theme = "furo"
html_title = f"pattern-storage {release}"
html_copy_source = False
html_show_sourcelink = False
# Furo's icons and scripts are in its wheel; nothing comes from other hosts.
html_theme_options = {"navigation_with_keys": True}

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "undoc-members": True}
napoleon_google_docstring = True
napoleon_use_ivar = True
#: Of pydantic's models and of enums: what all of them have is no documentation of one.
INHERITED = {"model_config", "model_fields", "model_computed_fields", "model_post_init"}
# Offline, other projects' names lead nowhere. Ours must.
nitpick_ignore_regex = [
    ("py:.*", r"(?!pattern_storage\.).*"),
    # What pydantic checks a value with, inside of an annotation.
    ("py:class", r"pattern_storage\..*\._\w+"),
    # Variables in the signatures: what an operation returns, a job or an awaitable one, and the data of its result.
    ("py:class", r"pattern_storage\.tasks\.client\.operations\.\w+"),
    ("py:class", r"pattern_storage\.storage\.model_contract_pattern_storage\.Data"),
    # Named arguments, which their methods describe, and what a job keeps for itself.
    (
        "py:class",
        r"pattern_storage\.(storage\.job_options|tasks\.client\.(call_options|query_arguments|outgoing))\.\w+",
    ),
    # What a worker hands to the effect of a job that was begun before; applications leave it out.
    ("py:class", r"pattern_storage\.storage\.attempts\.CountedAttempt"),
    # The base of all errors, which has nothing that an application uses.
    ("py:class", r"pattern_storage\.storage\.picklable_error\.PicklableError"),
    # Public as `Pattern`.
    ("py:class", r"pattern_storage\.storage\.pattern\.Pattern"),
]

#: Pages that stand in the root of the repository.
FROM_ROOT = {
    "readme": "README.md",
    "contributing": "CONTRIBUTING.md",
    "security": "SECURITY.md",
    "changelog": "CHANGELOG.md",
}

_log = logging.getLogger(__name__)


def _adapt_links(_: Sphinx, name: str, source: list[str]) -> None:
    """Put a file of the repository's root in the place of its page, and make links lead to pages of the site."""
    if name in FROM_ROOT:
        text = (Path(__file__).parent.parent / FROM_ROOT[name]).read_text(encoding="utf-8").replace("](docs/", "](")
        # Links to what is no page of this site become their text.
        source[0] = re.sub(r"\[([^]]+)\]\((?!https?:|#|[\w-]+\.md|images/)[^)]+\)", r"\1", text)
    for page, file in FROM_ROOT.items():
        source[0] = re.sub(rf"\]\((\.\./)?{re.escape(file)}", f"]({page}.md", source[0])
    # So do links to modules.
    source[0] = re.sub(r"\[([^]]+)\]\(\.\./[^)]+\)", r"\1", source[0])


def _skip(_: Sphinx, __: str, name: str, ___: Any, skip: bool, ____: Any) -> bool | None:
    return True if name in INHERITED else None


def _check(_: Sphinx, what: str, name: str, __: Any, ___: Any, lines: list[str]) -> None:
    """Warn of a public name without a docstring, which fails the build."""
    if not any(lines) and what in {"class", "exception", "function", "method", "module", "property"}:
        _log.warning("%s %s has no docstring", what, name, type="pattern_storage", subtype="undocumented")


def _compare(app: Sphinx) -> None:
    """Warn of a public name that the reference leaves out, and of one in it that is not public."""
    described = re.findall(
        r"^\.\. (?!automodule)[\w:]+:: pattern_storage\.(\w+)$",
        (Path(app.srcdir) / "api.rst").read_text(),
        re.MULTILINE,
    )
    for name in sorted({*described} ^ {*pattern_storage.__all__}):
        _log.warning("%s is in one only of docs/api.rst and pattern_storage.__all__", name)


def setup(app: Sphinx) -> None:
    """Connect to autodoc."""
    app.connect("builder-inited", _compare)
    app.connect("source-read", _adapt_links)
    app.connect("autodoc-skip-member", _skip)
    app.connect("autodoc-process-docstring", _check)
