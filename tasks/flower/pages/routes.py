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
from pattern_storage.tasks.flower.pages.base import PageHandler

#: Names of routes, and what the navigation calls them.
TABS = (
    ("overview", "Overview"), ("jobs", "Jobs"), ("dead-letters", "Dead letters"), ("imports", "Imports"),
    ("queues", "Queues"), ("patterns", "Patterns"), ("audit", "Audit"),
)  # fmt: skip

#: Path of each page, the page, and the name of its route.
PAGES: tuple[tuple[str, type[PageHandler], str], ...] = (
    (r"/", overview.FrontPage, "front"),
    (r"/overview", overview.OverviewPage, "overview"),
    (r"/jobs", jobs.JobsPage, "jobs"),
    (r"/jobs/cancel", job_actions.CancelJobs, "cancel-jobs"),
    (r"/jobs/retry", job_actions.RetryJobs, "retry-jobs"),
    (r"/jobs/([0-9a-fA-F-]{32,36})", job.JobPage, "job"),
    (r"/dead-letters", dead_letters.DeadLettersPage, "dead-letters"),
    (r"/dead-letters/replay", dead_letters.ReplayLetters, "replay-letters"),
    (r"/dead-letters/discard", dead_letters.DiscardLetters, "discard-letters"),
    (r"/imports", imports.ImportsPage, "imports"),
    (r"/imports/history", imports.HistoryPage, "import-history"),
    (r"/imports/runs/([^/]+)", imports.RunPage, "import-run"),
    (r"/imports/run", import_actions.RunNow, "run-import"),
    (r"/imports/pause", import_actions.PauseImport, "pause-import"),
    (r"/imports/resume", import_actions.ResumeImport, "resume-import"),
    (r"/imports/stop", import_actions.StopRun, "stop-run"),
    (r"/queues", queues.QueuesPage, "queues"),
    (r"/queues/of/([^/]+)", queues.QueuePage, "queue"),
    (r"/queues/pause", queue_actions.PauseQueue, "pause-queue"),
    (r"/queues/resume", queue_actions.ResumeQueue, "resume-queue"),
    (r"/queues/purge", queue_actions.PurgeQueue, "purge-queue"),
    (r"/broker", queues.BrokerPage, "broker-page"),
    (r"/patterns", patterns.PatternsPage, "patterns"),
    (r"/patterns/([0-9a-fA-F-]{32,36})", patterns.PatternPage, "pattern"),
    (r"/audit", audit.AuditPage, "audit"),
)

ROUTES = [
    url(r"/pages/static/(.*)", StaticFileHandler, {"path": str(Path(__file__).parents[1] / "static")}, "pages-static"),
    *(url(path, page, name=name) for path, page, name in PAGES),
]
