"""Our pages in a real browser, as people with different logins use them: a whole system, found out and mended there."""

import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

from pattern_storage import JobTimeout
from tests.fix_flower import ask
from tests.fix_process import wait_until
from tests.fix_station import SIZE, Station, confirm, contrast, fits, pattern, shoot


def test_each_role_sees_its_buttons(person: Callable[..., Any], station: Station) -> None:
    assert ask(f"{station.address}/jobs", login="vera:wrong-password").status == 401
    for who, replay, discard in (("viewer", 0, 0), ("operator", 1, 0), ("admin", 1, 1)):
        page = person(who)
        page.goto("/dead-letters")
        assert page.get_by_role("link", name="Replay all 8…").count() == replay, who
        assert page.get_by_role("link", name="Discard all 8…").count() == discard, who
    # What has no button is refused to who types its address.
    page = person("viewer")
    assert page.goto("/dead-letters/replay").status == 403
    page.get_by_role("alert").get_by_text("This takes the role operator; vera is a viewer").wait_for()


def test_the_overview_leads_to_what_is_wrong(person: Callable[..., Any], pictures: Path) -> None:
    page = person("viewer")
    page.goto("/")
    page.get_by_text("8 dead letters to replay or discard").wait_for()
    page.get_by_text("Checks, as pattern-storage doctor makes them").wait_for()
    assert page.locator("svg.plot").count() == 3
    shoot(page, pictures, "overview")
    page.get_by_role("link", name="8 dead letters to replay or discard").click()
    assert page.inner_text("h1") == "Dead letters"


def test_a_job_is_found_by_each_filter(person: Callable[..., Any], pictures: Path) -> None:
    page = person("viewer")
    page.goto("/jobs")
    shoot(page, pictures, "jobs")

    def found(**given: str) -> int:
        page.goto("/jobs")
        for label, value in given.items():
            field = page.locator(f"form.pages-filters [name={label}]")
            (field.select_option if label in {"state", "operation", "order"} else field.fill)(value)
        page.get_by_role("button", name="Find").click()
        page.wait_for_load_state("networkidle")
        return int(page.locator("section[aria-label=Jobs] tbody tr:has(code)").count())

    assert found(state="FAILURE") == 1
    assert found(state="DEAD") == 8
    assert found(error_type="unique_violation") == 1
    assert found(name="heapq.nsmallest") == 1
    assert found(operation="insert", state="SUCCESS", name="heapq.merge") == 1
    assert found(queue="batch") == 0
    assert found(name="nothing") == 0
    assert found(since="2100-01-01T00:00") == 0
    assert found(until="2100-01-01T00:00", state="FAILURE", order="oldest") == 1
    # The address can be sent to a colleague.
    assert found(state="FAILURE", error_type="unique_violation") == 1
    assert page.url.endswith("/jobs?state=FAILURE&error_type=unique_violation&order=newest")
    page.locator("section[aria-label=Jobs] tbody a").first.click()
    page.get_by_text("unique_violation: Pattern already exists").first.wait_for()
    steps = page.locator(".pages-timeline li strong").all_inner_texts()
    assert steps == ["submitted", "claimed", "started", "FAILURE", "result stored"]
    assert "a_template_that_no_page_shows" not in page.content()
    shoot(page, pictures, "job")
    job = UUID(page.url.rpartition("/")[2])
    page.goto("/jobs")
    page.get_by_label("Correlation id, or its beginning").fill(str(job)[:8])
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/jobs/{job}")


def test_a_job_leads_to_its_pattern(person: Callable[..., Any], pictures: Path) -> None:
    page = person("viewer")
    page.goto("/jobs?name=heapq.nsmallest&state=SUCCESS")
    page.locator("section[aria-label=Jobs] tbody a").first.click()
    page.wait_for_url("**/jobs/*-*")
    assert page.locator(".pages-timeline li.good strong").all_inner_texts() == ["committed"]
    page.locator(".detail-row", has_text="Pattern id").get_by_role("link").click()
    page.wait_for_url("**/patterns/*")
    assert page.inner_text("h1") == "heapq.nsmallest"
    assert "a_template_that_no_page_shows" not in page.content()
    page.locator("section[aria-label=Jobs] a", has_text="insert heapq.nsmallest").wait_for()
    shoot(page, pictures, "pattern")
    page.get_by_role("link", name="Patterns", exact=True).click()
    page.get_by_label("Exact pattern name").fill("heapq.merge")
    page.get_by_role("button", name="Find").click()
    page.locator("section[aria-label=Patterns] a", has_text="heapq.merge").wait_for()


def test_a_failed_job_is_sent_again(person: Callable[..., Any]) -> None:
    page = person("operator")
    page.goto("/jobs?state=FAILURE&error_type=unique_violation")
    page.locator("section[aria-label=Jobs] tbody a").first.click()
    page.get_by_role("link", name="Send again…").click()
    confirm(page, r"Send again 1 job\?", "Send again")
    page.locator(".detail-row", has_text="Sent again as").get_by_role("link").click()
    # The pattern is there already: it fails again, and remembers the first.
    page.locator(".badge.state-failure").wait_for()
    page.locator(".detail-row", has_text="Sent again for").wait_for()


def test_eight_dead_letters_are_replayed_by_filter(
    person: Callable[..., Any], station: Station, pictures: Path
) -> None:
    page = person("operator")
    page.goto("/dead-letters")
    shoot(page, pictures, "dead-letters")
    page.locator("section[aria-label='By reason'] tbody a").first.click()
    page.get_by_label("Exact pattern name").fill("asyncio.queues.Queue.3")
    page.get_by_role("button", name="Find").click()
    page.get_by_text("1 dead letter", exact=True).wait_for()
    page.get_by_label("Exact pattern name").fill("")
    page.get_by_label("Operation").select_option("insert")
    page.get_by_role("button", name="Find").click()
    page.get_by_role("link", name="Replay these 8…").click()
    shoot(page, pictures, "confirm")
    confirm(page, r"Replay 8 dead letters\?", "Replay")

    def gone() -> bool:
        page.goto("/dead-letters")
        return bool(page.get_by_text("There is no dead letter.").count())

    wait_until(gone, "all have succeeded")
    assert station.up.count("asyncio.queues.Queue.7") == 1


def test_a_queue_is_paused_also_after_a_restart_and_a_waiting_job_is_cancelled(
    person: Callable[..., Any], station: Station, pictures: Path
) -> None:
    page = person("operator")
    page.goto("/queues")
    page.locator("tr", has_text="storage").get_by_role("link", name="Pause…").click()
    confirm(page, "Pause the queue storage", "Pause")
    page.locator(".badge.state-paused").wait_for()
    probes = itertools.count()

    def obeyed() -> bool:
        job = station.client.insert(pattern(f"probe {next(probes)}"))
        try:
            job.result(timeout=3)
        except JobTimeout:
            job.cancel()
            return True
        return False

    wait_until(obeyed, "workers take no more")
    names = [f"waiting {number}" for number in range(3)]
    jobs = [station.client.insert(pattern(name)) for name in names]
    station.stop()
    station.start()
    page.goto("/queues")
    page.locator(".badge.state-paused").wait_for()
    page.locator("tr", has_text="batch").get_by_role("link", name=re.compile("celery@")).wait_for()
    shoot(page, pictures, "queues")
    page.get_by_role("link", name="storage", exact=True).click()
    page.get_by_role("link", name=re.compile("insert waiting 1 ")).click()
    page.get_by_role("link", name="Cancel…").click()
    confirm(page, r"Cancel 1 job\?", "Cancel")
    page.locator(".badge.state-revoked").wait_for()
    assert [station.client.get(job.correlation_id).status() for job in jobs] == ["QUEUED", "REVOKED", "QUEUED"]
    page.goto("/queues")
    page.get_by_role("link", name="Resume…").click()
    confirm(page, "Resume the queue storage", "Resume")
    for number in (0, 2):
        assert station.client.get(jobs[number].correlation_id).result(timeout=120).success
    assert [station.up.count(name) for name in names] == [1, 0, 1]


def test_an_import_is_watched_and_stopped(person: Callable[..., Any], station: Station, pictures: Path) -> None:
    page = person("operator")
    page.goto("/imports")
    page.locator("tr", has_text="missing").get_by_role("link", name="Run now…").click()
    confirm(page, "Run missing now", "Run now")
    page.locator("section[aria-label=Imports] tr", has_text="missing").locator(".badge.state-failed").wait_for()
    page.locator("section[aria-label=Imports] tr", has_text="catalogue").get_by_role("link", name="Run now…").click()
    confirm(page, "Run catalogue now", "Run now")
    shoot(page, pictures, "imports", station.home)
    page.locator("section[aria-label=Imports] tr", has_text="catalogue").locator(".badge").click()
    # The page says by itself how far it is.
    page.locator("progress[value]").wait_for()

    def told() -> Any:
        text = " ".join(page.locator("section[aria-label=Progress]").inner_text().split())
        return re.fullmatch(r"reading, \d+ %: [\d,]+ rows, [\d.]+ MB of [\d.]+ MB, [\d,]+/s, .* left", text)

    wait_until(told, "phase, percent, rows, bytes, rate and time left are shown")
    shoot(page, pictures, "import-run", station.home)
    page.get_by_role("link", name="Stop…").click()
    confirm(page, "Stop this run of catalogue", "Stop")
    page.locator("h1 + .badge.state-cancelled").wait_for()
    assert station.up.count("imported 1") == 0


def test_the_audit_has_it_all(person: Callable[..., Any], pictures: Path) -> None:
    page = person("viewer")
    page.goto("/audit")
    shown = page.inner_text("table")
    for action in ("send again", "replay dead letters", "pause queue", "resume queue", "cancel", "run import"):
        assert action in shown, action
    assert shown.count("otto") >= 7
    shoot(page, pictures, "audit")


def test_pages_fit_a_phone_and_the_keyboard(person: Callable[..., Any], station: Station) -> None:
    job = station.client.insert(pattern("n" * 255))
    names = (f"/jobs/{job.correlation_id}", f"/patterns/{job.result(timeout=60).data.pattern_id}")
    page = person("operator", has_touch=True)
    page.set_viewport_size({"width": 390, "height": 800})
    for path in ("/overview", "/jobs", "/dead-letters", "/imports", "/queues", "/patterns", "/audit", "/tasks", *names):
        page.goto(path)
        fits(page)
        for button in page.locator("td.pages-actions .btn").all():
            place = button.bounding_box()
            assert place["x"] >= 0, path
            assert place["x"] + place["width"] <= 390, path
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        page.goto("/queues")
        page.evaluate("scheme => document.documentElement.setAttribute('data-bs-theme', scheme)", scheme)
        for selector in (".btn-outline-primary", ".nav-link.active"):
            assert contrast(page.locator(selector).first) >= 4.5, (scheme, selector)
    page.emulate_media(color_scheme="light")
    page.get_by_role("button", name="Toggle navigation").click()
    with page.expect_navigation():
        page.get_by_role("link", name="Queues", exact=True).click()
    page.set_viewport_size(SIZE)
    # By keyboard alone: past the navigation, to a button, and through the question.
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == "Pause…":
            break
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Pause", exact=True).focus()
    page.get_by_role("link", name="Leave it").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/queues")
