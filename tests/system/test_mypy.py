"""What mypy --strict knows of an application that uses the client."""

import subprocess
import sys
from pathlib import Path

from tests.fix_process import ROOT

#: What is to be right, and lines of which each is to be a mistake.
RIGHT = """
from uuid import UUID
from pattern_storage import AsyncPatternStorageClient, ModelResult, Pattern, PatternColumns, PatternStorageClient
from pattern_storage.storage.result_data import PatternPage

client = PatternStorageClient()
pattern: PatternColumns = {"pattern_name": "a", "pattern_type": "b", "language": "c", "template_code": "d"}
inserted: UUID = client.insert(pattern).result().data.pattern_id
client.insert(Pattern(pattern_name="a", pattern_type="b", language="c", template_code="d"), priority="urgent")
text: str = client.insert({**pattern, "tags": ["x"]}).result().data["pattern_id"]
client.batch_insert([pattern]).result().data.pattern_ids[0].hex
client.update(inserted, {"usage_count": 1}).result().data.updated_at.year
client.query(language="python", limit=3, tags_any=["x"]).result().data.patterns[0].confidence_score
result: ModelResult = client.get(inserted).result()
page: ModelResult[PatternPage] = client.query().result()
both = [client.delete(inserted), client.update(inserted, {"usage_count": 1})]
both[0].result().data["pattern_id"]
async def waiting(other: AsyncPatternStorageClient) -> UUID:
    return (await (await other.insert(pattern)).result()).data.pattern_id
"""
WRONG = {
    'client.insert({"pattern_nam": "a", "pattern_type": "b", "language": "c", "template_code": "d"})': "PatternColumns",
    'client.insert({"pattern_name": "a", "pattern_type": "b", "language": "c"})': "PatternColumns",
    "client.insert({**pattern, 'usage_count': 'x'})": "PatternColumns",
    'client.insert(Pattern(pattern_nam="a"))': "pattern_nam",
    'client.update(inserted, {"usage": 1})': "usage",
    "client.query(foo=3)": "foo",
    "client.query(limit='3')": "limit",
    'client.query(order_by="id")': "order_by",
    "client.insert(pattern).result().data.patern_id": "patern_id",
    "client.insert(pattern).result().data.pattern_id + 1": "UUID",
    "client.insert(pattern, priorty='urgent')": "priorty",
}


def test_mypy_knows_the_columns_the_parameters_and_the_results(tmp_path: Path) -> None:
    program = tmp_path / "application.py"
    wrong = list(WRONG)
    program.write_text("\n".join([RIGHT, *wrong]))
    first = RIGHT.count("\n") + 2
    config = tmp_path / "mypy.ini"
    config.write_text("[mypy]\nstrict = True\nplugins = pydantic.mypy\n")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", str(config), "--cache-dir", str(tmp_path / "cache"),
         "--follow-imports", "silent", "--no-error-summary", str(program)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    found: dict[int, str] = {}
    for line in done.stdout.splitlines():
        if ": error:" in line:
            number = int(line.split(":")[1])
            found[number] = found.get(number, "") + line
    assert sorted(found) == [first + index for index in range(len(wrong))], done.stdout + done.stderr
    for index, code in enumerate(wrong):
        assert WRONG[code] in found[first + index]
