"""Sentences of a person's mistakes: Celery started with wrong settings, and a command without its servers."""

import pytest

from tests.fix_process import DEADLINE, run_python

URL = "redis://127.0.0.1:1/0"


@pytest.mark.parametrize("command", ["worker", "beat", "flower"])
@pytest.mark.parametrize(
    ("variables", "says"),
    [
        (
            {},
            "REDIS_URL is not set and no servers run in /nonexistent;"
            " set REDIS_URL, or start servers of your own with 'pattern-storage up'",
        ),
        (
            {"REDIS_URL": URL, "PATTERN_STORAGE_TASK_TIME_LIMIT": "soon"},
            "PATTERN_STORAGE_TASK_TIME_LIMIT is 'soon'; it should be a valid integer",
        ),
        (
            {"REDIS_URL": URL, "DATABASE_URL": "postgresql://u:pa55@host/db?sslmod=require"},
            "DATABASE_URL has the parameter 'sslmod', which libpq does not know; did you mean sslmode?",
        ),
    ],
    ids=["nothing set", "wrong value", "wrong parameter"],
)
def test_celery_says_in_one_line_what_is_wrong(command: str, variables: dict[str, str], says: str) -> None:
    ended = run_python("-m", "celery", "-A", "pattern_storage", command, timeout=DEADLINE, **variables)
    assert ended.stderr == f"Error: {says}\n"
    assert ended.stdout == ""
    assert ended.returncode == 2


def test_worker_without_a_database_does_not_start() -> None:
    ended = run_python("-W", "ignore", "-m", "celery", "-A", "pattern_storage", "worker", REDIS_URL=URL)
    assert ended.stderr.splitlines()[-1].startswith("Error: DATABASE_URL is not set, but REDIS_URL is: ")
    assert "Traceback" not in ended.stderr
    assert ended.returncode == 2


def test_help_needs_no_server() -> None:
    ended = run_python("-m", "celery", "-A", "pattern_storage", "--help")
    assert ended.returncode == 0
    assert "worker" in ended.stdout


def test_every_use_of_a_wrong_configuration_says_so() -> None:
    """Not only the first: Celery would go on with amqp://localhost, its own default."""
    program = """
from pattern_storage.tasks import app
for _ in range(2):
    try:
        print(app.conf.broker_url)
    except ValueError as error:
        print(type(error).__name__)
"""
    assert run_python("-c", program).stdout.split() == ["SettingsInvalid", "SettingsInvalid"]


def test_importing_the_client_needs_no_server() -> None:
    assert (
        run_python("-c", "import pattern_storage.tasks.client, pattern_storage.tasks.worker.operations").returncode == 0
    )


def test_a_command_says_once_that_its_queue_is_away() -> None:
    ended = run_python("-m", "pattern_storage", "query", timeout=DEADLINE, REDIS_URL=URL)
    assert (ended.returncode, ended.stdout) == (3, "")
    [sentence] = ended.stderr.splitlines()
    assert sentence.startswith("Error: the queue does not answer: ")
