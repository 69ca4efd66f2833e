"""Groups, chains, chords and links of storage tasks, made by an application that knows nothing of our code."""

import json

import pytest

from tests.fix_faults import SAFE, SOON, Launch
from tests.fix_load import Load
from tests.fix_process import run_python, wait_until

#: Prints what each of them returned. In a process of its own: Celery leaves connections to the end of the process.
PROGRAM = """
import json, sys
from celery import Celery, chain, chord, group

app = Celery("theirs", broker=sys.argv[1], backend=sys.argv[1])
names = 0

def insert(category):
    global names
    names += 1
    data = {"pattern_name": f"pattern {names}", "pattern_type": "function", "language": "python",
            "template_code": "pass", "category": category}
    return app.signature("storage.insert", kwargs={"contract": {"data": data}}, queue="storage", immutable=True)

sent = {
    "group": group([insert("group") for _ in range(20)]).apply_async(),
    "chain": chain(insert("chain"), insert("chain"), insert("chain")).apply_async(),
    "chord": chord([insert("chord") for _ in range(10)], insert("body")).apply_async(),
    "link": insert("link").apply_async(link=insert("linked")),
}
bad = app.signature("storage.insert", kwargs={"contract": {"data": {}}}, queue="storage", immutable=True)
failed = {
    "link_error": bad.clone().apply_async(link_error=insert("errback")),
    "chord": chord([insert("part"), bad.clone()], insert("never")).apply_async(),
    "chain": chain(bad.clone(), insert("never")).apply_async().parent,
}
for name, result in failed.items():
    try:
        sys.exit(f"{name} succeeded: {result.get(timeout=50)}")
    except Exception as error:
        assert "missing required fields" in str(error), (name, error)
print(json.dumps({name: result.get(timeout=50) for name, result in sent.items()}))
"""


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_canvas(launch: Launch, load: Load, pool: str) -> None:
    """Each part is done once, the next one when all before it are done."""
    launch(load.database_url, load.redis_url, pool=pool, env=SOON | SAFE)
    ended = run_python("-c", PROGRAM, load.redis_url)
    assert ended.returncode == 0, ended.stderr
    results = json.loads(ended.stdout)
    assert [part["success"] for part in results.pop("group")] == [True] * 20
    assert {name: result["success"] for name, result in results.items()} == dict.fromkeys(results, True)
    # Of the failed ones an errback and the good part of a chord are executed; no chain or chord goes on.
    wait_until(lambda: load.count("pattern_templates") == 38, "the link and the errback are called")
    with load.connect() as connection:
        written = connection.execute("SELECT category FROM pattern_templates ORDER BY created_at, id").fetchall()
    order = [row["category"] for row in written]
    assert {one: order.count(one) for one in order} == {
        "group": 20, "chain": 3, "chord": 10, "body": 1, "link": 1, "linked": 1, "errback": 1, "part": 1
    }  # fmt: skip
    assert order.index("body") > max(place for place, category in enumerate(order) if category == "chord")
    assert order.index("linked") > order.index("link")
    # Without the three bad ones, whose contracts were refused.
    assert load.count("job_ledger") == 38
