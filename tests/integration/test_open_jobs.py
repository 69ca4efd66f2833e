"""Jobs that have not ended: a page reads what it shows and what it may search, whatever the tables have."""

import pytest

from pattern_storage.storage import dead_letter_pages, jobs
from pattern_storage.storage.dead_letters import LetterFilter
from pattern_storage.storage.job_filter import Cursor, JobFilter
from pattern_storage.storage.open_jobs import SEARCHED
from pattern_storage.vocabulary import ListedState
from tests.fix_open_jobs import LAST, MIDDLE, ROWS, CountingConnection, all_jobs

OPEN = (ListedState.QUEUED, ListedState.RETRY, ListedState.DEAD)
LIMIT = 50
#: Rows of a full page: of each job, and of those that another table hides, up to three tables are asked.
SHOWN = 6 * (LIMIT + 1)
#: Rows of a search that finds nothing: its end is looked for, then they are read, and a few at either end twice.
LOOKED_AT = 2 * SEARCHED + 10


@pytest.mark.parametrize("descending", [True, False])
@pytest.mark.parametrize("after", [None, MIDDLE, LAST])
@pytest.mark.parametrize("state", OPEN)
async def test_a_page_reads_no_more_than_it_shows_and_looks_ahead(
    full: CountingConnection, state: ListedState, after: Cursor | None, descending: bool
) -> None:
    page = await jobs.list_jobs(full, JobFilter(states=(state,)), after=after, descending=descending, limit=LIMIT)
    shown = LIMIT if after is not LAST or not descending else 13 if state == ListedState.QUEUED else 20
    assert (len(page.jobs), page.is_full) == (shown, True)
    assert full.read <= SEARCHED + SHOWN


@pytest.mark.parametrize("descending", [True, False])
@pytest.mark.parametrize("state", OPEN)
async def test_a_filter_of_which_nothing_is_found_ends_soon(
    full: CountingConnection, state: ListedState, descending: bool
) -> None:
    wanted = JobFilter(states=(state,), operation="batch_insert")
    page = await jobs.list_jobs(full, wanted, descending=descending)
    assert (page.jobs, page.is_full) == ([], False)
    assert full.read <= LOOKED_AT
    full.read = 0
    assert await jobs.estimate(full, wanted) == (0, False)
    assert full.read <= LOOKED_AT


@pytest.mark.parametrize("wanted", [LetterFilter(reason="of none"), LetterFilter(operation="query")])
async def test_a_filter_of_dead_letters_of_which_nothing_is_found_ends_soon(
    full: CountingConnection, wanted: LetterFilter
) -> None:
    after = None
    for _ in range(ROWS // SEARCHED):
        full.read = 0
        page = await dead_letter_pages.page(full, wanted, after=after)
        assert page.letters == []
        assert full.read <= LOOKED_AT
        after = page.next
    full.read = 0
    assert await dead_letter_pages.estimate(full, wanted, limit=100) == (0, False)
    assert full.read <= LOOKED_AT


async def test_pages_of_dead_letters_have_each_once(full: CountingConnection) -> None:
    found = []
    after = None
    while True:
        page = await dead_letter_pages.page(full, LetterFilter(), after=after, limit=5_000)
        found += [letter.correlation_id for letter in page.letters]
        if (after := page.next) is None:
            break
    assert len(found) == len(set(found)) == ROWS
    assert await dead_letter_pages.estimate(full, LetterFilter(), limit=100_000) == (SEARCHED, False)


async def test_pages_that_search_go_on_to_the_end(full: CountingConnection) -> None:
    wanted = JobFilter(operation="delete")
    for descending in (True, False):
        assert {job.state for job in await all_jobs(full, wanted, descending=descending)} == set(OPEN)
    assert await jobs.count_jobs(full, wanted) == len(OPEN)


async def test_a_count_up_to_a_limit_reads_no_more(full: CountingConnection) -> None:
    assert await jobs.estimate(full, JobFilter(), limit=100) == (100, False)
    assert full.read <= SEARCHED + 3 * 100
    assert await jobs.count_jobs(full, JobFilter()) == ROWS * 3 - ROWS // 3
