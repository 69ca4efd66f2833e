"""Fixtures live in fix_*.py, one family a file; tests take them by name."""

pytest_plugins = [
    "tests.fix_servers",
    "tests.fix_storage",
    "tests.fix_process",
    "tests.fix_celery",
    "tests.fix_redis_fault",
    "tests.fix_faults",
    "tests.fix_loading",
    "tests.fix_rabbitmq",
    "tests.fix_pgbouncer",
    "tests.fix_sentinel",
    "tests.fix_browser",
    "tests.fix_imports",
    "tests.fix_otlp",
    "tests.fix_metrics",
    "tests.fix_install",
    "tests.fix_pages",
    "tests.fix_harvest",
    "tests.fix_outbox",
]
