"""Flower in a real browser, as a person sees it: the workers, the jobs, and why a job is where it is."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pytest

from tests.browser.conftest import System
from tests.fix_process import wait_until

RED, YELLOW, GREEN = "rgb(220, 53, 69)", "rgb(255, 193, 7)", "rgb(25, 135, 84)"
PATHS = ("", "tasks", "broker", "workers?json=1", "api/tasks", "api/workers", "metrics")


def list_of_jobs(page: Any, system: System, search: str = "") -> Any:
    """Open the list, look for something as a person does, and return the rows that it then shows."""
    page.goto(f"{system.address}tasks")
    page.get_by_role("searchbox").fill(search)
    page.wait_for_load_state("networkidle")
    return page.locator("#tasks-table tbody tr")


def row_of(page: Any, system: System, job: UUID, state: str) -> Any:
    """Return the row of a job once the list shows it in that state, found by its correlation id."""

    def found() -> Any:
        row = list_of_jobs(page, system, str(job))
        return row.count() == 1 and state in row.inner_text() and row

    return wait_until(found, f"the list shows {job} as {state}")


def colour(badge: Any) -> str:
    return str(badge.evaluate("element => getComputedStyle(element).backgroundColor"))


def text_of(page: Any, name: str) -> str:
    """Return what a job's page says beside a name."""
    value = page.locator(".detail-row", has=page.locator("dt", has_text=re.compile(f"^{name}$"))).locator("dd")
    return str(value.inner_text()).strip()


def open_job(page: Any, system: System, job: UUID, state: str) -> str:
    """Go to a job's page through the list, and return the colour of its state."""
    badge = page.locator(".detail-row .badge")

    def opened() -> bool:
        row_of(page, system, job, state).locator(f"a[href$='/task/{job}']").click()
        page.wait_for_selector("#task-page")
        return bool(badge.inner_text() == state)

    wait_until(opened, f"the page of {job} shows {state}")
    assert text_of(page, "UUID").startswith(str(job))
    return colour(badge)


def test_refused_without_login(page: Any, system: System) -> None:
    from playwright.sync_api import Error

    statuses: list[int] = []
    page.on("response", lambda response: statuses.append(response.status))
    parts = urlsplit(system.address)
    place = f"{parts.hostname}:{parts.port}"
    for login in ("", "admin:wrong-password@", f"other:{parts.password}@"):
        for path in PATHS:
            # A person is asked for a name and a password by the browser; a headless one gives up.
            with pytest.raises(Error, match=r"ERR_(INVALID_AUTH|HTTP_RESPONSE)"):
                page.goto(f"http://{login}{place}/{path}")
            assert statuses, path
            assert set(statuses) == {401}, path
            statuses.clear()


def test_the_printed_address_leads_to_the_overview_and_on_to_the_workers(
    page: Any, system: System, pictures: Path
) -> None:
    assert system.address in system.up.text
    row_of(page, system, system.retried, "RETRY")  # everything has happened
    page.goto(system.address)
    assert page.inner_text("h1") == "Overview"
    page.get_by_role("link", name="Workers", exact=True).click()
    worker = page.locator("#workers-table tbody tr")
    worker.get_by_text("Online").wait_for()
    name = worker.get_by_role("link").first.inner_text()
    assert name.startswith("celery@")
    page.set_viewport_size({"width": 1_400, "height": 600})
    page.screenshot(path=pictures / "flower-workers.png")

    worker.get_by_role("link").first.click()
    page.locator("#workername").wait_for()
    assert page.inner_text("#workername") == name
    page.get_by_role("tab", name="Queues").click()
    page.locator("#worker-queues tr").first.wait_for()
    queues = {row.locator("td").first.inner_text() for row in page.locator("#worker-queues tr").all()}
    assert queues == {"storage", "batch", "imports"}


def test_the_list_of_jobs(page: Any, system: System, pictures: Path) -> None:
    row_of(page, system, system.retried, "RETRY")
    rows = list_of_jobs(page, system)
    page.locator("#tasks-table .badge", has_text="REVOKED").first.wait_for()
    headings = [heading.inner_text() for heading in page.locator(".dataTables_scrollHead th").all()]
    assert headings[:5] == ["NAME", "UUID", "STATE", "ARGS", "RESULT"]
    assert rows.count() == 15
    text = page.inner_text("#tasks-table")
    for job in ("insert asyncio.", "batch_insert ", "update ", "delete ", "query name_contains=heapq"):
        assert job in text
    assert system.pattern["template_code"].splitlines()[1].strip() not in page.content()
    page.get_by_role("searchbox").blur()
    # All columns fit a laptop's screen.
    page.set_viewport_size({"width": 1_440, "height": 1_000})
    page.goto(f"{system.address}tasks")
    page.locator("#tasks-table .badge", has_text="REVOKED").first.wait_for()
    body = page.locator(".dataTables_scrollBody")
    assert body.evaluate("element => element.scrollWidth - element.clientWidth") <= 1
    page.screenshot(path=pictures / "flower-tasks.png")


def test_a_stored_job(page: Any, system: System) -> None:
    assert open_job(page, system, system.stored, "SUCCESS") == GREEN
    pattern = system.pattern
    about = f"insert {pattern['pattern_name']} ({pattern['pattern_type']}/{pattern['language']})"
    assert text_of(page, "Arguments") == about
    assert text_of(page, "Result").startswith("pattern ")
    assert text_of(page, "Routing key") == "storage"
    assert text_of(page, "Worker").startswith("celery@")
    assert re.fullmatch(r"\d+\.\d\d m?s", text_of(page, "Runtime"))


def test_a_failed_job_is_red_and_says_why(page: Any, system: System, pictures: Path) -> None:
    row = row_of(page, system, system.failed, "FAILURE")
    assert colour(row.locator(".badge")) == RED
    assert "unique_violation: Pattern already exists: " in row.inner_text()
    assert open_job(page, system, system.failed, "FAILURE") == RED
    assert text_of(page, "Exception").startswith("unique_violation: Pattern already exists: ")
    page.set_viewport_size({"width": 1_200, "height": 1_080})
    page.screenshot(path=pictures / "flower-failed.png")


def test_a_retried_job_says_why(page: Any, system: System) -> None:
    assert open_job(page, system, system.retried, "RETRY") == YELLOW
    assert text_of(page, "Exception").startswith("transaction_conflict: ")
    assert text_of(page, "Retried")


def test_a_cancelled_job(page: Any, system: System) -> None:
    open_job(page, system, system.revoked, "REVOKED")
    assert text_of(page, "Result") == "cancelled"
    assert text_of(page, "Revoked")


@pytest.mark.parametrize("state", ["FAILURE", "SUCCESS", "REVOKED", "RETRY"])
def test_the_buttons_above_the_list(page: Any, system: System, state: str) -> None:
    list_of_jobs(page, system)
    page.get_by_role("button", name=state, exact=True).click()
    page.wait_for_load_state("networkidle")

    def states() -> set[str]:
        return set(page.locator("#tasks-table tbody .badge").all_inner_texts())

    wait_until(lambda: states() == {state}, f"only {state} is listed")
