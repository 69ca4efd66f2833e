"""What every effect node has: transactions as the log sees them, metrics, and the correlation id on each record."""

import asyncio
import logging
import threading
from datetime import UTC
from uuid import UUID, uuid4

import pytest

from pattern_storage.storage import (
    LightweightTransactionManager,
    ModelContractPatternStorage,
    ModelResult,
    NodeBaseEffect,
    TransactionContext,
)
from pattern_storage.storage.logs import CorrelationFilter, correlated, get_logger
from tests.fix_storage import contract

LOGGER = "pattern_storage.storage.node_base_effect"


class Echo(NodeBaseEffect):
    """The smallest node."""

    async def execute_effect(self, contract: ModelContractPatternStorage) -> ModelResult:
        async with self.transaction_manager.begin(contract.correlation_id) as transaction:
            self.record_metric("echo_duration_ms", transaction.duration_ms)
        return ModelResult(success=True, data=contract.operation)


def test_a_transaction_runs_until_it_ends() -> None:
    transaction = TransactionContext("t")
    assert (transaction.transaction_id, transaction.end_time, transaction.success) == ("t", None, False)
    assert transaction.start_time.tzinfo is UTC
    first = transaction.duration_ms
    assert first >= 0
    while transaction.duration_ms == first:  # until the clock has moved
        pass
    transaction.end()
    ended = transaction.duration_ms
    assert ended > first
    assert transaction.duration_ms == ended
    assert transaction.end_time is not None
    assert transaction.end_time >= transaction.start_time
    assert (transaction.success, transaction.error) == (True, None)


@pytest.mark.parametrize(
    ("error", "text"),
    [(ValueError("no"), "no"), (ValueError(), "ValueError"), (asyncio.CancelledError(), "CancelledError")],
)
def test_a_transaction_that_broke_says_why(error: BaseException, text: str) -> None:
    transaction = TransactionContext("t")
    transaction.end(error)
    assert (transaction.success, transaction.error) == (False, text)


async def test_start_and_end_are_logged_with_the_id(caplog: pytest.LogCaptureFixture) -> None:
    transaction_id = uuid4()
    with caplog.at_level(logging.DEBUG, LOGGER), correlated("the job"):
        async with LightweightTransactionManager().begin(transaction_id) as transaction:
            assert transaction.transaction_id == transaction_id
            assert not transaction.success
            assert transaction.end_time is None
    assert transaction.success
    started, committed = caplog.records
    assert started.getMessage() == f"transaction {transaction_id} started"
    assert committed.getMessage() == f"transaction {transaction_id} committed in {transaction.duration_ms:.1f} ms"
    assert {record.levelname for record in caplog.records} == {"DEBUG"}
    for record in caplog.records:
        assert (record.transaction_id, record.correlation_id) == (str(transaction_id), "the job")


@pytest.mark.parametrize("error", [ValueError("it broke"), asyncio.CancelledError("stop"), KeyboardInterrupt()])
async def test_a_failure_is_logged_and_goes_on(caplog: pytest.LogCaptureFixture, error: BaseException) -> None:
    with caplog.at_level(logging.DEBUG, LOGGER), pytest.raises(type(error)) as raised:
        async with LightweightTransactionManager().begin("t7") as transaction:
            raise error
    assert raised.value is error
    assert not transaction.success
    assert transaction.error == (str(error) or "KeyboardInterrupt")
    _, failed = caplog.records
    assert failed.levelname == "WARNING"
    assert failed.getMessage().startswith("transaction t7 rolled back after ")
    assert failed.getMessage().endswith(f" ms: {transaction.error}")
    assert (failed.transaction_id, failed.correlation_id) == ("t7", "-")  # type: ignore[attr-defined]


async def test_200_transactions_at_once_do_not_mix(caplog: pytest.LogCaptureFixture) -> None:
    manager = LightweightTransactionManager()
    all_open = asyncio.Barrier(200)
    ids = [uuid4() for _ in range(200)]

    async def run(number: int, transaction_id: UUID) -> TransactionContext:
        with correlated(str(transaction_id)):
            try:
                async with manager.begin(transaction_id) as transaction:
                    await all_open.wait()
                    for _ in range(number % 7):
                        await asyncio.sleep(0)
                    if number % 3 == 0:
                        raise ValueError(f"number {number}")
            except ValueError:
                pass
        return transaction

    with caplog.at_level(logging.DEBUG, LOGGER):
        transactions = await asyncio.gather(*map(run, range(200), ids))
    assert len({id(transaction) for transaction in transactions}) == 200
    for number, (transaction_id, transaction) in enumerate(zip(ids, transactions, strict=True)):
        failed = number % 3 == 0
        assert transaction.transaction_id == transaction_id
        assert transaction.success is not failed
        assert transaction.error == (f"number {number}" if failed else None)
    assert len(caplog.records) == 400
    assert {record.levelname for record in caplog.records[:200]} == {"DEBUG"}  # all 200 were open at the same time
    assert all("started" in record.getMessage() for record in caplog.records[:200])
    for record in caplog.records:
        assert record.correlation_id == record.transaction_id  # type: ignore[attr-defined]
        assert record.transaction_id in record.getMessage()  # type: ignore[attr-defined]


def test_a_node_must_say_what_it_does() -> None:
    with pytest.raises(TypeError, match="execute_effect"):
        NodeBaseEffect()  # type: ignore[abstract]


async def test_metrics() -> None:
    node = Echo()
    assert isinstance(node.transaction_manager, LightweightTransactionManager)
    assert node.get_metrics() == {}
    assert (await node.execute_effect(contract("query"))).data == "query"
    assert node.get_metrics()["echo_duration_ms"]["value"] > 0
    node.clear_metrics()
    assert node.get_metrics() == {}
    for value in (2.0, 5.0, 1.0):
        node.record_metric("x", value)
    node.record_metric("y", 3, "rows")
    assert node.get_metrics() == {
        "x": {"value": 1.0, "unit": "ms", "count": 3, "total": 8.0, "max": 5.0},
        "y": {"value": 3, "unit": "rows", "count": 1, "total": 3, "max": 3},
    }


def test_metrics_are_copies_and_a_node_s_own() -> None:
    one, other = Echo(), Echo()
    one.record_metric("x", 1.0)
    one.get_metrics()["x"]["value"] = 99
    one.get_metrics().clear()
    assert one.get_metrics()["x"]["value"] == 1.0
    assert other.get_metrics() == {}


def test_the_correlation_id_ends_with_its_block_and_stays_in_its_thread(caplog: pytest.LogCaptureFixture) -> None:
    logger = get_logger("tests.correlation")
    with caplog.at_level(logging.INFO):
        with correlated("outer"):
            logger.info("1")
            with correlated("inner"):
                logger.info("2")
            thread = threading.Thread(target=logger.info, args=("3",))
            thread.start()
            thread.join()
            logger.info("4")
            logger.info("5", extra={"correlation_id": "given"})
        logger.info("6")
    found = [record.correlation_id for record in caplog.records]  # type: ignore[attr-defined]
    assert found == ["outer", "inner", "-", "outer", "given", "-"]


def test_a_logger_gets_the_filter_once() -> None:
    logger = get_logger("tests.once")
    assert get_logger("tests.once") is logger
    assert [type(present) for present in logger.filters] == [CorrelationFilter]
