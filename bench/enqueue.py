"""CPU microseconds of one call of the clients: `python -m bench.enqueue`, on demand.

CPU time of this process, of its kernel side too, so other load on the machine disturbs little. The last line is kombu's
own way, which Sentinel and RabbitMQ need, for comparison.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from pattern_storage import AsyncPatternStorageClient, ModelContractPatternStorage, PatternStorageClient
from pattern_storage.embedded import EmbeddedValkey
from pattern_storage.tasks.client.outgoing import prepare
from pattern_storage.tasks.client.publisher import KombuPublisher

ROUNDS, CALLS, MANY = 7, 500, 1_000
PATTERN: Any = {
    "pattern_name": "p",
    "pattern_type": "code",
    "language": "python",
    "template_code": "def f():\n    return 1\n" * 12,
}


def contracts(number: int) -> list[ModelContractPatternStorage]:
    """Return inserts of a pattern of about 300 bytes."""
    return [ModelContractPatternStorage(operation="insert", data=PATTERN) for _ in range(number)]


def measure(name: str, call: Callable[[], object], jobs: int) -> None:
    """Print the median of the rounds, and the lowest and highest, for one job each."""
    call()
    taken = []
    for _ in range(ROUNDS):
        started = time.process_time()
        call()
        taken.append((time.process_time() - started) / jobs * 1e6)
    print(f"{name:24}{statistics.median(taken):8.0f} us   ({min(taken):.0f} to {max(taken):.0f})")


async def measure_async(name: str, call: Callable[[], Awaitable[object]], jobs: int) -> None:
    """The same for a coroutine function."""
    await call()
    taken = []
    for _ in range(ROUNDS):
        started = time.process_time()
        await call()
        taken.append((time.process_time() - started) / jobs * 1e6)
    print(f"{name:24}{statistics.median(taken):8.0f} us   ({min(taken):.0f} to {max(taken):.0f})")


async def asynchronous(url: str) -> None:
    """Measure the asyncio client."""
    async with AsyncPatternStorageClient(redis_url=url) as client:

        async def one_by_one() -> None:
            for _ in range(CALLS):
                await client.insert(PATTERN)

        await measure_async("async insert", one_by_one, CALLS)
        await measure_async("async submit_many", lambda: client.submit_many(contracts(MANY)), MANY)


def main() -> None:
    """Measure both clients on a Valkey of their own."""
    with tempfile.TemporaryDirectory(prefix="pattern-storage-bench-") as folder:
        Path(folder).chmod(0o755)
        with (
            EmbeddedValkey(Path(folder) / "valkey", durable=False) as valkey,
            PatternStorageClient(redis_url=valkey.url) as client,
            closing(KombuPublisher(client.settings, client._redis)) as kombu,
        ):

            def one_by_one_through_kombu() -> None:
                for _ in range(CALLS):
                    kombu.publish([prepare(contracts(1)[0])], 5.0)

            measure("insert", lambda: [client.insert(PATTERN) for _ in range(CALLS)], CALLS)
            measure("submit_many", lambda: client.submit_many(contracts(MANY)), MANY)
            asyncio.run(asynchronous(valkey.url))
            measure("kombu, one by one", one_by_one_through_kombu, CALLS)


if __name__ == "__main__":
    main()
