"""What mypy --strict knows of an application that uses the client, and of README's examples."""

import subprocess
import sys
from pathlib import Path

from tests.fix_documents import BLOCK, DOCUMENTS
from tests.fix_process import ROOT

#: What is to be right, and lines of which each is to be a mistake.
RIGHT = """
from uuid import UUID
from pattern_storage import AsyncPatternStorageClient, ModelContractPatternStorage, ModelResult, Pattern, PatternChanges
from pattern_storage import PatternColumns, PatternStorageClient
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
model = Pattern(pattern_name="a", pattern_type="b", language="c", template_code="d")
changes: PatternChanges = {"usage_count": 1}
variable = {"pattern_name": "a", "pattern_type": "b", "language": "c", "template_code": "d", "tags": ["x"]}
ModelContractPatternStorage(operation="insert", data=model)
ModelContractPatternStorage(operation="insert", data=pattern, correlation_id=str(inserted))
ModelContractPatternStorage(operation="insert", data=variable)
ModelContractPatternStorage(operation="batch_insert", patterns=[model])
ModelContractPatternStorage(operation="batch_insert", patterns=(pattern, model, {"pattern_name": "a"}))
contract = ModelContractPatternStorage(
    operation="update", pattern_id=inserted, data=changes, expect="2026-01-31T12:00:00Z"
)
count: int = contract.data["usage_count"]
job = client.submit_in(object(), contract)
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
    "client.submit_in(object(), contract, connect_timeout=1)": "connect_timeout",
    'ModelContractPatternStorage(operation="insert", dta=model)': "dta",
    'ModelContractPatternStorage(operation="insert", data=3)': "Pattern",
}


def test_mypy_knows_the_columns_the_parameters_and_the_results(tmp_path: Path) -> None:
    wrong = list(WRONG)
    (tmp_path / "application.py").write_text("\n".join([RIGHT, *wrong]))
    first = RIGHT.count("\n") + 2
    for number, (language, code) in enumerate(BLOCK.findall(DOCUMENTS[0].read_text(encoding="utf-8"))):
        if language == "python":
            (tmp_path / f"readme_{number}.py").write_text(code)
    config = tmp_path / "mypy.ini"
    # Without pydantic's plugin, which most applications do not have; Celery has no types.
    config.write_text("[mypy]\nstrict = True\n[mypy-celery.*]\nignore_missing_imports = True\n")
    programs = sorted(map(str, tmp_path.glob("*.py")))
    assert len(programs) > 4
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", str(config), "--cache-dir", str(tmp_path / "cache"),
         "--follow-imports", "silent", "--no-error-summary", *programs],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    found: dict[int, str] = {}
    for line in done.stdout.splitlines():
        if ": error:" in line:
            program, place, _ = line.split(":", 2)
            assert Path(program).name == "application.py", line
            found[int(place)] = found.get(int(place), "") + line
    assert sorted(found) == [first + index for index in range(len(wrong))], done.stdout + done.stderr
    for index, code in enumerate(wrong):
        assert WRONG[code] in found[first + index]
