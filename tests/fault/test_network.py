"""Connections stall, break and are refused between a worker and its servers; answers are lost."""

from collections.abc import Callable
from itertools import chain

from tests.fix_faults import GROUPS, SAFE, SOON, Launch
from tests.fix_invariant import VERBS
from tests.fix_load import Load
from tests.fix_process import DEADLINE, wait_until
from tests.fix_proxy import Proxy, ProxyTo, through

#: Enough that no job runs out of attempts: these tests are about coming back.
#: kombu's own transport loses the message whose answer is lost, too.
PATIENT = SOON | SAFE | {"PATTERN_STORAGE_MAX_ATTEMPTS": "20", "PATTERN_STORAGE_POOL_TIMEOUT": "0.5"}


def fail_in_turn(load: Load, proxy: Proxy, noticed: Callable[[], object]) -> None:
    """Resets, refusals and stalls, twice each, each in the middle of a hundred jobs."""
    for fault in ("reset", "refuse", "stall") * 2:
        done = load.count("job_ledger")
        load.submit(load.mixed(100))
        load.wait_done(done + load.chance.randint(5, 60))
        if fault == "reset":
            assert proxy.reset() > 0
        elif fault == "refuse":
            proxy.refuse()
            wait_until(noticed, "the worker has noticed")
            proxy.listen()
        else:
            proxy.stall()
            load.submit(load.inserts(5))
            proxy.flow()


def test_between_worker_and_postgresql(launch: Launch, load: Load, proxy_to: ProxyTo) -> None:
    proxy = proxy_to(load.database_url)
    worker = launch(through(load.database_url, proxy), load.redis_url, env=PATIENT)
    retries = [0]

    def noticed() -> bool:
        before, retries[0] = retries[0], worker.logs().count("retry: Retry in")
        return 0 < before < retries[0]

    fail_in_turn(load, proxy, noticed)
    outcomes = load.settle()
    assert outcomes.counts["done"] == 610


def test_between_worker_and_redis(launch: Launch, load: Load, proxy_to: ProxyTo) -> None:
    proxy = proxy_to(load.redis_url)
    worker = launch(load.database_url, through(load.redis_url, proxy), env=PATIENT)
    losses = [0]

    def noticed() -> bool:
        before, losses[0] = losses[0], worker.logs().count("Connection to broker lost")
        return before < losses[0]

    fail_in_turn(load, proxy, noticed)
    outcomes = load.settle()
    assert outcomes.counts["done"] == 610


#: Every COMMIT is said in words, and seen by the proxy, where statements are not prepared.
IN_WORDS = PATIENT | {"PATTERN_STORAGE_PREPARE_THRESHOLD": "-1"}


def test_commit_whose_answer_is_lost(launch: Launch, load: Load, proxy_to: ProxyTo) -> None:
    """The effect is there and the worker does not know: the next attempt answers from the ledger."""
    proxy = proxy_to(load.database_url)
    worker = launch(
        through(load.database_url, proxy), load.redis_url, env=IN_WORDS | {"PATTERN_STORAGE_RETRY_BACKOFF": "0"}
    )
    mixed = load.mixed(200)
    jobs = [[one for one in mixed if one.operation == operation][:10] for operation in VERBS]

    for number, one in enumerate(chain.from_iterable(jobs), start=1):
        # A group's transaction is one request with its COMMIT in it. A job that goes alone says COMMIT by itself.
        alone = one.operation == "batch_insert" or not GROUPS
        proxy.lose_answer_to(b"COMMIT" if alone else str(one.correlation_id).encode())
        load.submit([one])
        result = load.client.get(one.correlation_id).result(DEADLINE)
        assert (result.success, result.metadata["replayed"], proxy.lost) == (True, True, number)
        # What it does after its result is stored says COMMIT as well.
        worker.wait_for_log(f"[{one.correlation_id}] succeeded")
    outcomes = load.settle()
    assert (outcomes.counts, outcomes.replayed) == ({"done": 40}, 40)


def test_commit_whose_answer_comes_after_the_time_limit(launch: Launch, load: Load, proxy_to: ProxyTo) -> None:
    """The job is done, and its time is over before anybody hears of it: it is a success all the same."""
    proxy = proxy_to(load.database_url)
    limits = {"PATTERN_STORAGE_TASK_SOFT_TIME_LIMIT": "1"}
    launch(through(load.database_url, proxy), load.redis_url, env=IN_WORDS | limits)
    proxy.keep_answer_to(b"COMMIT", times=2)
    load.submit(load.inserts(2))
    outcomes = load.settle()
    assert outcomes.counts == {"done": 2}
    assert proxy.lost >= 2
