"""Clients that cross a fork, and clients under gevent: each in a program of its own, as an application has it."""

from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.fix_process import DEADLINE, ProcessGroup, clean_environment, free_port, run_python, wait_until

#: A client at module level, used before the fork or not.
SETUP = """
import asyncio, multiprocessing, os, sys
from concurrent.futures import ProcessPoolExecutor
from pattern_storage import AsyncPatternStorageClient, JobTimeout, PatternStorageClient

PATTERN = {"pattern_type": "code", "language": "python", "template_code": "pass"}
client, async_client = PatternStorageClient(), AsyncPatternStorageClient()

def use(name):
    job = client.insert({"pattern_name": name, **PATTERN})
    try:
        job.result(timeout=0)
    except JobTimeout:
        return job.status() + " " + job.cancel().metadata["error_type"]

async def use_async(name):
    job = await async_client.insert({"pattern_name": name, **PATTERN})
    try:
        await job.result(timeout=0.05)
    except JobTimeout:
        return await job.status() + " " + (await job.cancel()).metadata["error_type"]

def both(name):
    return [use(name), asyncio.run(use_async(name + " async"))]

def say(found):
    # In one piece: children speak at the same time.
    os.write(1, f"{found}\\n".encode())

if "used" in sys.argv:
    say(both("before"))
"""
FORKS = {
    "fork": """
children = []
for number in range(4):
    if not (child := os.fork()):
        say(both(f"child {number}"))
        os._exit(0)
    children.append(child)
for child in children:
    assert os.waitpid(child, 0)[1] == 0
say(both("after"))
""",
    "multiprocessing": """
with multiprocessing.get_context("fork").Pool(3) as pool:
    for found in pool.map(both, ["a", "b", "c", "d"]):
        say(found)
say(both("after"))
""",
    "executor": """
with ProcessPoolExecutor(3, mp_context=multiprocessing.get_context("fork")) as pool:
    for found in pool.map(both, ["a", "b", "c", "d"]):
        say(found)
say(both("after"))
""",
    "inside a loop": """
async def main():
    assert await use_async("first") == "QUEUED revoked"
    if not (child := os.fork()):
        say(both("child"))
        os._exit(0)
    assert (await asyncio.to_thread(os.waitpid, child, 0))[1] == 0
    # The child has not touched what the parent's loop watches.
    for number in range(3):
        say([use(f"sync {number}"), await use_async(f"async {number}")])
    say([use("x"), await use_async("y")])

asyncio.run(main())
""",
}
EXPECTED = "['QUEUED revoked', 'QUEUED revoked']"


@pytest.mark.parametrize("used", ["used", "unused"])
@pytest.mark.parametrize("kind", FORKS)
def test_forks(kind: str, used: str, redis_url: str, database_url: str) -> None:
    done = run_python("-c", SETUP + FORKS[kind], used, REDIS_URL=redis_url, DATABASE_URL=database_url)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.splitlines()) == {EXPECTED}
    assert len(done.stdout.splitlines()) == 5 + (used == "used")
    assert done.stderr == ""


OWN_TASKS = """
from celery import Celery
from pattern_storage import PatternStorageClient

app = Celery("shop", broker="{redis_url}", backend="{redis_url}")
app.conf.task_default_queue = "shop"
client = PatternStorageClient()
client.get("01234567-89ab-4def-8123-456789abcdef").status()

@app.task
def learn(number):
    pattern = {{"pattern_name": f"p {{number}}", "pattern_type": "t", "language": "l", "template_code": "x"}}
    job = client.insert(pattern)
    return job.status()

if __name__ == "__main__":
    results = [learn.delay(number) for number in range(30)]
    print([result.get(timeout=60) for result in results].count("QUEUED"))
"""


def test_in_an_application_s_own_prefork_tasks(redis_url: str, tmp_path: Path) -> None:
    """Made at module level and used in Celery's children, which prefork forks."""
    (tmp_path / "shop.py").write_text(OWN_TASKS.format(redis_url=redis_url))
    environment = clean_environment(REDIS_URL=redis_url, PYTHONPATH=str(tmp_path))
    worker = ProcessGroup(
        "shop", ["celery", "-A", "shop", "worker", "-c", "2", "-l", "INFO", "--without-mingle", "--without-gossip"],
        environment, tmp_path / "shop.log",
    )  # fmt: skip
    try:
        worker.wait_for(" ready.")
        done = run_python(str(tmp_path / "shop.py"), REDIS_URL=redis_url, PYTHONPATH=str(tmp_path))
        assert (done.stdout.strip(), done.returncode) == ("30", 0), done.stderr + worker.text()
    finally:
        worker.kill()


SERVED = """
import os
from pattern_storage import PatternStorageClient

client = PatternStorageClient()
pattern = {"pattern_type": "code", "language": "python", "template_code": "pass"}
first = client.insert({"pattern_name": "preloaded", **pattern}).status()

def application(environ, start_response):
    job = client.insert({"pattern_name": environ["PATH_INFO"], **pattern})
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{first} {job.status()} {job.cancel().metadata['error_type']} {os.getpid()}".encode()]
"""


@pytest.mark.parametrize("workers", ["sync", "gthread"])
def test_gunicorn_preload(workers: str, redis_url: str, database_url: str, tmp_path: Path) -> None:
    """The application, with a client that was used, is loaded before gunicorn forks its workers."""
    (tmp_path / "served.py").write_text(SERVED)
    address = f"127.0.0.1:{free_port()}"
    server = ProcessGroup(
        "gunicorn",
        ["gunicorn", "--preload", "--workers", "2", "--worker-class", workers, "--bind", address, "served:application"],
        clean_environment(REDIS_URL=redis_url, DATABASE_URL=database_url, PYTHONPATH=str(tmp_path)),
        tmp_path / "gunicorn.log",
    )
    answers: list[list[str]] = []

    def both_answered() -> bool:
        with urlopen(f"http://{address}/p{len(answers)}", timeout=DEADLINE) as answer:
            answers.append(answer.read().decode().split())
        return len({pid for *_, pid in answers}) == 2

    try:
        server.wait_for("Listening at")
        wait_until(both_answered, "both workers have answered")
    finally:
        server.kill()
    assert {tuple(said) for *said, _ in answers} == {("QUEUED", "QUEUED", "revoked")}, server.text()


def test_two_loops_at_once_are_refused_in_one_sentence(redis_url: str) -> None:
    program = """
import asyncio, threading
from uuid import uuid4
from pattern_storage import AsyncPatternStorageClient

async def main():
    client = AsyncPatternStorageClient()
    print(await client.get(uuid4()).status())
    def other():
        try:
            asyncio.run(client.get(uuid4()).status())
        except RuntimeError as error:
            print(error)
    await asyncio.to_thread(other)
    await client.close()
    return client

client = asyncio.run(main())
print(asyncio.run(client.get(uuid4()).status()))
"""
    done = run_python("-c", program, REDIS_URL=redis_url)
    assert done.stdout.splitlines() == [
        "UNKNOWN",
        "this AsyncPatternStorageClient is open on another event loop; open one client for each loop",
        "UNKNOWN",
    ], done.stderr


GEVENT = """
from gevent import monkey
monkey.patch_all()
import gevent
from uuid import uuid4
from pattern_storage import PatternStorageClient

client = PatternStorageClient()
PATTERN = {"pattern_type": "code", "language": "python", "template_code": "pass"}

def use(number):
    job = client.insert({"pattern_name": f"p {number}", **PATTERN})
    return str(client.get(uuid4()).status()), job.status(), job.cancel().metadata["error_type"], job.status()

greenlets = [gevent.spawn(use, number) for number in range(20)]
gevent.joinall(greenlets, raise_error=True)
print({greenlet.value for greenlet in greenlets})
"""


def test_gevent(redis_url: str, database_url: str) -> None:
    """Threads are greenlets then, of one thread, which runs one event loop at a time."""
    pytest.importorskip("gevent")
    done = run_python("-c", GEVENT, REDIS_URL=redis_url, DATABASE_URL=database_url, timeout=DEADLINE)
    assert done.stdout.strip() == "{('UNKNOWN', 'QUEUED', 'revoked', 'REVOKED')}", done.stderr
