"""Groups, chains, chords and links of storage tasks, made by an application that knows nothing of our code."""

from typing import Any

import pytest
from celery import Celery, chain, chord, group

from tests.fix_faults import SAFE, SOON, Launch
from tests.fix_load import Load
from tests.fix_process import DEADLINE, wait_until
from tests.fix_storage import make_pattern


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_canvas(launch: Launch, load: Load, pool: str) -> None:
    """Each part is done once, the next one when all before it are done."""
    with Celery("theirs", broker=load.redis_url, backend=load.redis_url, set_as_current=False) as app:

        def insert(**fields: Any) -> Any:
            contract = {"data": make_pattern(**fields)}
            return app.signature("storage.insert", kwargs={"contract": contract}, queue="storage", immutable=True)

        # They wait in the queue, so that there is something to group.
        parts = group([insert(category="group") for _ in range(20)]).apply_async()
        chained = chain(insert(category="chain"), insert(category="chain"), insert(category="chain")).apply_async()
        body = chord([insert(category="chord") for _ in range(10)], insert(category="body")).apply_async()
        linked = insert(category="link").apply_async(link=insert(category="linked"))
        launch(load.database_url, load.redis_url, pool=pool, env=SOON | SAFE)
        assert [part["success"] for part in parts.get(timeout=DEADLINE)] == [True] * 20
        assert chained.get(timeout=DEADLINE)["success"]
        assert body.get(timeout=DEADLINE)["success"]
        assert linked.get(timeout=DEADLINE)["success"]
        # Celery leaves its connections to the end of the process.
        backend: Any = app.backend
        backend.result_consumer.stop()
        backend.client.close()
    wait_until(lambda: load.count("pattern_templates") == 36, "the link is called")
    with load.connect() as connection:
        written = connection.execute("SELECT category FROM pattern_templates ORDER BY created_at, id").fetchall()
    order = [row["category"] for row in written]
    assert {one: order.count(one) for one in order} == {
        "group": 20, "chain": 3, "chord": 10, "body": 1, "link": 1, "linked": 1
    }  # fmt: skip
    last_part = max(place for place, category in enumerate(order) if category == "chord")
    assert order.index("body") > last_part
    assert order.index("linked") > order.index("link")
    assert load.count("job_ledger") == 36
