"""Cost of the outbox to the application that writes into it: commits a second, with and without a notification.

Sixteen clients of pgbench each commit one job a transaction, into the table as it is and then with the trigger that
sent NOTIFY before; in turn, some rounds, on a PostgreSQL that syncs every commit. Then a relay: how long a job takes
from commit to the queue, one at a time with pauses and in a stream, and what an idle relay costs.

    python -m bench.outbox [SECONDS]      each round lasts 10 seconds if left out
"""

import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from random import uniform

import psutil
import psycopg
import redis

from pattern_storage.config.settings import load_settings
from pattern_storage.embedded import EmbeddedPostgres, EmbeddedValkey
from pattern_storage.embedded.account import Account
from pattern_storage.embedded.binaries import find_postgres
from pattern_storage.storage import ModelContractPatternStorage, outbox, schema
from pattern_storage.tasks.relay import Relay

CLIENTS = 16
ROUNDS = 3
#: Jobs whose way to the queue is timed.
TIMED = 200

WRITE = """
INSERT INTO outbox (correlation_id, contract, publish_after)
VALUES (gen_random_uuid(), '{"operation": "delete"}', clock_timestamp() + interval '1 day');
"""
ENQUEUE = """SELECT enqueue_pattern_job('{"operation": "delete"}');"""

NOTIFY = """
CREATE FUNCTION notify_outbox() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('pattern_storage_outbox', '');
    RETURN NULL;
END
$$;
CREATE TRIGGER outbox_notify AFTER INSERT ON outbox FOR EACH STATEMENT EXECUTE FUNCTION notify_outbox();
"""
QUIET = "DROP TRIGGER IF EXISTS outbox_notify ON outbox; DROP FUNCTION IF EXISTS notify_outbox"


def transactions(pgbench: Path, url: str, statement: str, folder: Path, seconds: int) -> float:
    """Return the transactions a second of pgbench's clients."""
    script = folder / "script.sql"
    script.write_text(statement)
    options = ["-n", "-c", str(CLIENTS), "-j", "2", "-T", str(seconds), "-f", str(script)]
    done = subprocess.run([pgbench, *options, url], capture_output=True, text=True, check=True)
    return next(float(line.split()[2]) for line in done.stdout.splitlines() if line.startswith("tps"))


def commits(pgbench: Path, url: str, folder: Path, seconds: int) -> None:
    """Print the transactions a second, with NOTIFY and without."""
    print(f"{CLIENTS} clients, one job a transaction, transactions a second: median of {ROUNDS} rounds (least to most)")
    for name, statement in (("INSERT", WRITE), ("enqueue_pattern_job", ENQUEUE)):
        found: dict[str, list[float]] = {"with NOTIFY": [], "as it is": []}
        for _ in range(ROUNDS):
            for kind, change in (("with NOTIFY", NOTIFY), ("as it is", QUIET)):
                with psycopg.connect(url, autocommit=True) as connection:
                    connection.execute(QUIET.encode())
                    connection.execute("TRUNCATE outbox")
                    connection.execute(change.encode())
                found[kind].append(transactions(pgbench, url, statement, folder, seconds))
        medians = {kind: statistics.median(rates) for kind, rates in found.items()}
        for kind, rates in found.items():
            print(f"  {name:>20} {kind:>12} {medians[kind]:>8,.0f} ({min(rates):,.0f} to {max(rates):,.0f})")
        print(f"  {name:>20} {'ratio':>12} {medians['as it is'] / medians['with NOTIFY']:>8.2f}")


def publication(url: str, server: "redis.Redis", pause: float) -> list[float]:
    """Return the milliseconds from commit to queue of some jobs, each after a pause of about so many seconds."""
    times = []
    with psycopg.connect(url) as application:
        for number in range(TIMED):
            time.sleep(uniform(0.5, 1.5) * pause)
            data = {"pattern_name": f"p{number}", "pattern_type": "t", "language": "l", "template_code": "c"}
            outbox.add_sync(application, ModelContractPatternStorage(operation="insert", data=data))
            application.commit()
            started = time.perf_counter()
            server.brpop(["storage"], timeout=30)
            times.append((time.perf_counter() - started) * 1000)
    return times


def used(process: psutil.Process) -> float:
    """Return the CPU seconds that a process has used."""
    times = process.cpu_times()
    return float(times.user + times.system)


def relaying(url: str, valkey: str, seconds: int) -> None:
    """Print how fast a relay publishes, and what it costs while there is nothing to do."""
    settings = load_settings(database_url=url, redis_url=valkey)
    relay = Relay(settings)
    thread = threading.Thread(target=relay.run)
    with redis.Redis.from_url(valkey) as server:
        thread.start()
        try:
            for name, pause in (("now and then", 0.3), ("in a stream", 0.0)):
                cuts = statistics.quantiles(publication(url, server, pause), n=100)
                print(f"commit to queue, {name:>12}: p50 {cuts[49]:5.1f} ms, p95 {cuts[94]:5.1f} ms")
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute("TRUNCATE outbox")
                (backend,) = connection.execute(
                    "SELECT pid FROM pg_stat_activity WHERE application_name = 'pattern-storage relay'"
                ).fetchone() or (0,)
            processes = [psutil.Process(), psutil.Process(backend)]
            before = list(map(used, processes))
            time.sleep(3 * seconds)
            relay_cpu, server_cpu = (used(process) - at for process, at in zip(processes, before, strict=True))
            print(
                f"idle, looking every {settings.relay_poll_interval} s: {100 * relay_cpu / (3 * seconds):.2f} % of a"
                f" core in the relay, {100 * server_cpu / (3 * seconds):.2f} % in PostgreSQL"
            )
        finally:
            relay.stop()
            thread.join()


def main() -> None:
    """Run on servers of our own."""
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        with EmbeddedPostgres(folder / "postgres") as postgres, EmbeddedValkey(folder / "valkey") as valkey:
            schema.upgrade(postgres.url)
            account = Account(os.geteuid(), os.getegid(), switched=False)
            commits(find_postgres(folder, account).postgres.parent / "pgbench", postgres.url, folder, seconds)
            with psycopg.connect(postgres.url, autocommit=True) as connection:
                connection.execute(QUIET.encode())
                connection.execute("TRUNCATE outbox")
            relaying(postgres.url, valkey.url, seconds)


if __name__ == "__main__":
    main()
