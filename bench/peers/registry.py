"""The peers: what each needs, how its workers start, and which settings it runs with."""

from dataclasses import dataclass

#: Of every environment that is not ours. psycopg does the job's work.
COMMON = ("psycopg[binary,pool]>=3.2",)


@dataclass(frozen=True)
class Peer:
    """One queue, set up as well as its documentation says."""

    name: str
    #: The module in `programs/`.
    program: str
    #: `python -m WORKER` in `programs/`; {processes} is how many processes it starts.
    worker: str
    #: What is said of it in docs/benchmarks.md.
    settings: str
    #: What pip installs; nothing for our own environment.
    requirements: tuple[str, ...] = ()
    #: Whether the worker is one process, to be started as often as processes are wanted.
    single: bool = False


OURS = Peer(
    "pattern-storage",
    "peer_pattern_storage",
    "celery -A pattern_storage worker -c {processes} --loglevel WARNING",
    "as installed: prefork, events, ledger, late acknowledgement",
)

PEERS = {
    peer.name: peer
    for peer in (
        OURS,
        Peer(
            "pattern-storage-threads",
            "peer_pattern_storage",
            "celery -A pattern_storage worker --pool threads -c 8 --loglevel WARNING -n {number}@bench",
            "as installed, one process with 8 threads each",
            single=True,
        ),
        Peer(
            "pattern-storage-asyncio",
            "peer_pattern_storage_asyncio",
            OURS.worker,
            "the worker as installed, the asyncio client",
        ),
        Peer(
            "celery",
            "peer_celery",
            "celery -A peer_celery worker -c {processes} --loglevel WARNING --without-gossip --without-mingle",
            "prefork, early acknowledgement, no events, no gossip or mingle, prefetch 16, hiredis",
            ("celery>=5.5", "kombu[redis]", "hiredis"),
        ),
        Peer(
            "celery-threads",
            "peer_celery",
            "celery -A peer_celery worker --pool threads -c 8 --loglevel WARNING --without-gossip --without-mingle "
            "-n {number}@bench",
            "the same with one process of 8 threads each",
            ("celery>=5.5", "kombu[redis]", "hiredis"),
            single=True,
        ),
        Peer(
            "saq",
            "peer_saq",
            "saq peer_saq.settings --workers {processes}",
            "Redis queue, 16 jobs at a time a process, hiredis",
            ("saq[redis]", "hiredis"),
        ),
        Peer(
            "dramatiq",
            "peer_dramatiq",
            "dramatiq peer_dramatiq --processes {processes} --threads 8",
            "Redis broker and results, 8 threads a process, default middleware, hiredis",
            ("dramatiq[redis]", "hiredis"),
        ),
        Peer(
            "taskiq",
            "peer_taskiq",
            "taskiq worker peer_taskiq:broker --workers {processes} --max-async-tasks 16 --log-level WARNING",
            "list queue without acknowledgement, 16 jobs at a time a process, results polled for every 2 ms, hiredis",
            ("taskiq", "taskiq-redis", "hiredis", "uvloop"),
        ),
        Peer(
            "huey",
            "peer_huey",
            "huey.bin.huey_consumer peer_huey.huey -k process -w {processes} -n",
            "worker processes, blocking pop, no periodic tasks, results announced (notify_result), hiredis",
            ("huey", "redis", "hiredis"),
        ),
        Peer(
            "arq",
            "peer_arq",
            "arq peer_arq.WorkerSettings",
            "16 jobs at a time a process, queue and results polled every 10 and 2 ms, hiredis",
            ("arq", "hiredis"),
            single=True,
        ),
        Peer(
            "procrastinate",
            "peer_procrastinate",
            "procrastinate --app peer_procrastinate.app worker --concurrency 16",
            "queue in PostgreSQL, LISTEN, 16 jobs at a time a process, results in a table in the job's transaction",
            ("procrastinate",),
            single=True,
        ),
        Peer(
            "pgqueuer",
            "peer_pgqueuer",
            "peer_pgqueuer",
            "queue in PostgreSQL, asyncpg pool, batches of 16, results in a table in the job's transaction, uvloop",
            ("pgqueuer[asyncpg]", "uvloop"),
            single=True,
        ),
    )
}
