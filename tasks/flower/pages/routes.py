"""Routes of our pages, and the tabs in Flower's navigation that lead to them."""

from pathlib import Path

from tornado.web import StaticFileHandler, url

from pattern_storage.tasks.flower.pages import dead_letters, imports

#: Names of routes, and what the navigation calls them.
TABS = (("dead-letters", "Dead letters"), ("imports", "Imports"))

ROUTES = [
    url(r"/pages/static/(.*)", StaticFileHandler, {"path": str(Path(__file__).parents[1] / "static")}, "pages-static"),
    *(
        url(pattern, handler, name=name)
        for module in (dead_letters, imports)
        for name, pattern, handler in module.ROUTES
    ),
]  # fmt: skip
