"""Single jobs as something grows: worker processes, patterns in the table, jobs in the queue."""

from collections.abc import Iterable
from contextlib import ExitStack
from itertools import product
from pathlib import Path

from psycopg.sql import SQL, Identifier

from bench.peers.registry import Peer
from bench.peers.results import Results
from bench.peers.servers import Servers
from bench.peers.session import session

PROCESSES = (1, 2, 3, 4)
ROWS = (1_000, 10_000, 100_000, 1_000_000)
QUEUED = (1_000, 10_000, 100_000)
#: Jobs that are looked at, where more are in the queue.
FIRST = 3_000
#: How often each is measured at each number of rows or of queued jobs.
REPEATED = 3


FILL = """
INSERT INTO pattern_templates (pattern_name, pattern_type, language, category, template_code, description,
    example_usage, source, complexity_score, tags, context, created_at, updated_at)
SELECT left(one.pattern_name, 200) || ' filled ' || turn, one.pattern_type, one.language, one.category,
    one.template_code, one.description, one.example_usage, one.source, one.complexity_score, one.tags, one.context,
    now() - interval '1 day', now() - interval '1 day'
FROM harvested, generate_series(0, %(wanted)s / (SELECT count(*) FROM harvested)) AS turn,
    jsonb_populate_record(NULL::pattern_templates, pattern) AS one
LIMIT %(wanted)s
"""

#: All but what has been filled in: the next peer finds as many rows.
REMOVE_NEW = "DELETE FROM pattern_templates WHERE created_at > now() - interval '12 hours'"


def label(peer: Peer, size: int) -> str:
    """Return a row's name."""
    return f"{peer.name}, {size:,}"


def processes(peers: Iterable[Peer], servers: Servers, folder: Path, jobs: int, results: Results) -> None:
    """Measure each peer with 1 to 4 processes."""
    for number in PROCESSES:
        for peer in peers:
            with session(peer, servers, number, folder) as warm:
                results.add(label(peer, number), warm.drain(jobs))


def queued(peers: Iterable[Peer], servers: Servers, folder: Path, results: Results, sizes: Iterable[int]) -> None:
    """Measure each peer's first jobs while few and while many wait behind them; the numbers take turns."""
    for size, peer in product([*sizes] * REPEATED, peers):
        with session(peer, servers, 2, folder) as warm:
            results.add(label(peer, size), warm.drain(size, first=min(size, FIRST)))


def rows(
    peers: Iterable[Peer], servers: Servers, folder: Path, jobs: int, results: Results, sizes: Iterable[int]
) -> None:
    """Measure each peer on tables of these sizes, which take turns: each has a database of its own."""
    servers.empty()
    with ExitStack() as stack:
        filled = []
        for size in sizes:
            database = stack.enter_context(servers.database(f"rows_{size}"))
            fill(database, size)
            filled.append((size, database))
        for (size, database), peer in product(filled * REPEATED, peers):
            with session(peer, database, 2, folder, keep=True) as warm:
                results.add(label(peer, size), {**warm.drain(jobs), "low_ms": warm.alone(1.5)})
            database.sql.execute(REMOVE_NEW)
            database.sql.execute("VACUUM ANALYZE pattern_templates")


def fill(servers: Servers, wanted: int) -> None:
    """Fill the empty table with the harvested patterns, each time under other names, as if they came yesterday.

    Indexes that are not constraints are dropped meanwhile and made again: the rows are what matters, not their coming.
    """
    sql = servers.sql
    made_again = sql.execute(
        "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'pattern_templates' "
        "AND indexname NOT IN (SELECT conname FROM pg_constraint)"
    ).fetchall()
    for name, _ in made_again:
        sql.execute(SQL("DROP INDEX {}").format(Identifier(name)))
    sql.execute("CREATE TEMPORARY TABLE harvested (pattern jsonb)")
    with sql.cursor() as cursor, cursor.copy("COPY harvested FROM STDIN") as copy:
        for line in servers.patterns.read_text().splitlines():
            copy.write_row((line,))
    sql.execute(FILL, {"wanted": wanted})
    for _, definition in made_again:
        sql.execute(definition.encode())
    sql.execute("VACUUM ANALYZE pattern_templates")
