"""Figures of jobs: how many ended in each span of time, how many failed, how long they waited and took."""

from pattern_storage.storage import NodePatternStorageEffect, figures
from tests.fix_jobs import Connection
from tests.fix_storage import contract, make_pattern


async def test_figures_of_the_last_hour(reader: Connection) -> None:
    seconds, spans = figures.HOUR
    found = await figures.rates(reader, seconds=seconds, spans=spans)
    assert len(found) == spans
    assert [(span.jobs, span.failures, span.cancelled) for span in found if span.jobs]
    assert sum(span.jobs for span in found) == 6
    assert (sum(span.failures for span in found), sum(span.cancelled for span in found)) == (1, 1)
    quantiles = await figures.quantiles(reader, seconds=3_600)
    assert quantiles.waited is not None
    assert 2_000 < quantiles.waited[0] <= quantiles.waited[1]


async def test_an_empty_ledger_has_no_figures(connection: Connection) -> None:
    assert await figures.quantiles(connection, seconds=60) == figures.Quantiles(None, None)
    (span,) = await figures.rates(connection, seconds=60, spans=1)
    assert (span.jobs, span.duration, span.waited) == (0, None, None)


async def test_a_job_without_a_time_of_sending_has_no_part_in_how_long_jobs_waited(
    node: NodePatternStorageEffect, connection: Connection
) -> None:
    assert (await node.execute_once(contract("insert", data=make_pattern()))).success
    quantiles = await figures.quantiles(connection, seconds=600)
    assert (quantiles.duration is None, quantiles.waited) == (False, None)
    (span,) = await figures.rates(connection, seconds=600, spans=1)
    assert (span.jobs, span.duration is None, span.waited) == (1, False, None)
