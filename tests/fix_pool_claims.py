"""A worker one of whose pool processes claims jobs itself, and dies at a step of that where a test says so."""

from pathlib import Path

import psycopg

from pattern_storage.storage import ModelContractPatternStorage
from tests.fix_faults import SAFE, SOON, Launch
from tests.fix_load import Load
from tests.fix_process import DEADLINE, wait_until

#: A module for workers: the first claim of a pool process that comes to the step STEP kills it, or the worker. Each
#: claim is noted in a file.
DEADLY = """
import os, signal
from pathlib import Path
from pattern_storage.tasks.worker.pool import claim_connections, permit, pool_claims, pool_reports

folder = Path(__file__).parent

def die(step):
    if step != os.environ.get("STEP"):
        return
    try:
        (folder / "died").touch(exist_ok=False)
    except FileExistsError:
        return
    if os.environ["DIES"] == "worker":
        os.killpg(0, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)

take, run_group = pool_claims.PoolClaims._take, pool_claims.run_group
hold, release = permit.Permit.hold, permit.Permit.release
send_claim = claim_connections.ClaimConnections.send_claim
claims = False

def deadly_take(self, connections, raw):
    global claims
    if raw is not None:
        die("moved")
    claims = True
    try:
        return take(self, connections, raw)
    finally:
        claims = False

def deadly_hold(self, message):
    hold(self, message)
    with (folder / "claims").open("a") as file:
        print(os.getpid(), file=file)
    die("noted")

def deadly_send_claim(self, raw):
    send_claim(self, raw)
    die("claimed")

def deadly_run_group(*arguments):
    outcomes = run_group(*arguments)
    die("executed")
    return outcomes

def deadly_release(self):
    if claims:
        die("reported")
    release(self)

def note_moved(self, raw):
    (folder / "moved").touch()
    on_moved(self, raw)

on_moved, pool_reports.PoolReports._on_moved = pool_reports.PoolReports._on_moved, note_moved
pool_claims.PoolClaims._take, pool_claims.run_group = deadly_take, deadly_run_group
permit.Permit.hold, permit.Permit.release = deadly_hold, deadly_release
claim_connections.ClaimConnections.send_claim = deadly_send_claim
"""

#: Inserts of this name take as long as their usage_count says, in seconds.
SLOW = """
CREATE FUNCTION sleep_first() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    PERFORM pg_sleep(NEW.usage_count);
    RETURN NEW;
END $$;
CREATE TRIGGER sleep_first BEFORE INSERT ON pattern_templates
    FOR EACH ROW WHEN (NEW.pattern_name LIKE 'slow%') EXECUTE FUNCTION sleep_first();
"""


class Claims:
    """A worker whose pool process has begun to claim jobs itself."""

    def __init__(self, folder: Path, launch: Launch, load: Load) -> None:
        self.folder, self._launch, self.load = folder, launch, load
        (folder / "deadly.py").write_text(DEADLY)

    def start(self, environment: dict[str, str], *options: str, concurrency: int = 2) -> None:
        paths = {"PYTHONPATH": str(self.folder)}
        self.worker = self._launch(
            self.load.database_url, self.load.redis_url, "--include=deadly", *options,
            env=environment | SAFE | paths, concurrency=concurrency,
        )  # fmt: skip

    @property
    def processes(self) -> list[str]:
        """The process of each claim."""
        path = self.folder / "claims"
        return path.read_text().split() if path.exists() else []

    def execute(self) -> None:
        """Have one job executed, whoever claims it."""
        job = self.load.insert()
        self.load.submit([job])
        assert self.load.client.get(job.correlation_id).result(DEADLINE).success

    def begin(self) -> None:
        """Have jobs executed until a pool process claims them."""
        before = len(self.processes)

        def claimed() -> bool:
            self.execute()
            return len(self.processes) > before

        wait_until(claimed, "a pool process claims a job")

    def begin_with_slow(self, environment: dict[str, str]) -> None:
        """Start the worker on a database in which inserts take as long as SLOW says, and have it claim."""
        with self.load.connect() as connection:
            connection.execute(SLOW)
        self.start(environment)
        self.begin()


def begin_slow(
    claims: Claims, seconds: int = 1, environment: dict[str, str] | None = None
) -> ModelContractPatternStorage:
    """Start the worker and return a job that is running, for so many seconds."""
    load = claims.load
    claims.begin_with_slow(SOON | (environment or {}))
    job = load.insert("slow")
    job.data["usage_count"] = seconds
    load.submit([job])
    wait_until(lambda: sleeps(load.database_url), "it is running")
    return job


def sleeps(database_url: str, sessions: int = 1) -> bool:
    """Whether so many sessions sleep in a trigger, or more."""
    with psycopg.connect(database_url) as connection:
        asked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"
        [(number,)] = connection.execute(asked).fetchall()
        return bool(number >= sessions)
