"""Routes of our pages, and the tabs in Flower's navigation that lead to them."""

from pathlib import Path

from tornado.web import StaticFileHandler, url

from pattern_storage.tasks.flower.pages import (
    audit,
    dead_letters,
    import_actions,
    imports,
    job,
    job_actions,
    jobs,
    overview,
    patterns,
    queue_actions,
    queues,
)

#: Names of routes, and what the navigation calls them.
TABS = (
    ("overview", "Overview"), ("jobs", "Jobs"), ("dead-letters", "Dead letters"), ("imports", "Imports"),
    ("queues", "Queues"), ("patterns", "Patterns"), ("audit", "Audit"),
)  # fmt: skip

MODULES = (
    overview, jobs, job_actions, job, dead_letters, imports, import_actions, queues, queue_actions, patterns, audit,
)  # fmt: skip

ROUTES = [
    url(r"/pages/static/(.*)", StaticFileHandler, {"path": str(Path(__file__).parents[1] / "static")}, "pages-static"),
    *(url(pattern, handler, name=name) for module in MODULES for name, pattern, handler in module.ROUTES),
]
