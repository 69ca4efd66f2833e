"""A worker of another application on the same broker, under the node name of ours: Celery's default is the same."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from celery import Celery

from tests.fix_celery import StorageWorker
from tests.fix_cli import Cli, Said
from tests.fix_process import wait_until


@contextmanager
def answering(app: Celery, name: str) -> Iterator[None]:
    """Answer remote control as a worker of this application, under this node name."""
    answers = {"ping": {"ok": "pong"}, "registered": ["theirs.after"], "active_queues": [{"name": "celery"}]}
    handlers = {command: lambda _, answer=answer, **__: answer for command, answer in answers.items()}
    ended = threading.Event()
    with app.connection_for_read() as connection:
        control: Any = app.control
        channel = connection.channel()
        node = control.mailbox(connection).Node(name, state=object(), handlers=handlers, channel=channel)

        def answer() -> None:
            while not ended.is_set():
                with suppress(TimeoutError):
                    connection.drain_events(timeout=0.1)

        with node.listen(callback=lambda body, message: node.handle_message(body, message)):
            thread = threading.Thread(target=answer)
            thread.start()
            try:
                yield
            finally:
                ended.set()
                thread.join()


def test_doctor_and_health_tell_them_apart(
    served_cli: Cli, doctor: Callable[..., Said], worker: StorageWorker, plain_app: Celery
) -> None:
    urls = {"DATABASE_URL": worker.database_url, "REDIS_URL": worker.redis_url}
    name = worker.hostname()

    def both_answer() -> dict[str, Any] | None:
        # A busy worker may take longer to answer than the doctor waits.
        [row] = [row for row in doctor("--json", **urls).json if row["subject"] == "workers"]
        return row if row["ok"] and row["advice"] else None

    with answering(plain_app, name), answering(plain_app, "celery@theirs"):
        row = wait_until(both_answer, "both answer")
        assert row["found"] == name
        assert row["advice"] == f"several workers are called {name}; give each a name of its own: '-n own@%h'"
        assert served_cli("health", "worker", "--name", name).code == 0
        said = served_cli("health", "worker", "--name", "celery@theirs", PATTERN_STORAGE_CONNECT_TIMEOUT="0.5")
    assert (said.code, said.out) == (1, "")
    assert said.error == "celery@theirs does not answer; a worker of another application that has this name does"
