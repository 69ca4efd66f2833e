"""Time limits of statements, jobs and operations, which have to agree with each other."""

import pytest

from pattern_storage.config.celeryconfig import celery_settings
from pattern_storage.config.settings import SettingsInvalid, load_settings
from pattern_storage.storage import operations
from pattern_storage.vocabulary import OperationName

pytestmark = pytest.mark.usefixtures("clean_variables")


NOWHERE = "redis://127.0.0.1:1/0"


@pytest.mark.parametrize("name", [f"{kind}STATEMENT_TIMEOUT" for kind in ("", "QUERY_", "BATCH_")] + ["LOCK_TIMEOUT"])
def test_a_statement_may_not_outlast_its_job(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"PATTERN_STORAGE_{name}", "241")
    with pytest.raises(SettingsInvalid, match=f"PATTERN_STORAGE_{name} is 241; it should be at most .*, which is 240"):
        load_settings()


def test_a_job_may_not_wait_for_a_connection_until_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATTERN_STORAGE_POOL_TIMEOUT", "240")
    with pytest.raises(SettingsInvalid) as caught:
        load_settings()
    assert str(caught.value) == (
        "PATTERN_STORAGE_POOL_TIMEOUT is 240; it should be less than PATTERN_STORAGE_TASK_SOFT_TIME_LIMIT, which is 240"
    )
    monkeypatch.delenv("PATTERN_STORAGE_POOL_TIMEOUT")
    assert load_settings(task_soft_time_limit=5, task_time_limit=8).pool_timeout == 10


def test_time_limits_of_each_operation_agree() -> None:
    settings = load_settings()
    assert settings.time_limits("insert") == (90.0, 150.0)
    assert settings.time_limits("batch_insert") == (210.0, 270.0)
    for operation in OperationName:
        soft, hard = settings.time_limits(operation)
        assert soft < hard
        annotation = celery_settings(load_settings(redis_url=NOWHERE))["task_annotations"][f"storage.{operation}"]
        assert annotation == {"soft_time_limit": soft, "time_limit": hard}
    assert load_settings(query_statement_timeout=5).time_limits("query") == (35.0, 95.0)
    assert settings.time_limits("import") == (14_400.0, 14_460.0)
    annotations = celery_settings(load_settings(redis_url=NOWHERE))["task_annotations"]
    assert annotations["imports.run"] == {"soft_time_limit": 14_400.0, "time_limit": 14_460.0}
    short = load_settings(task_soft_time_limit=7, task_time_limit=8)
    assert short.time_limits("insert") == short.time_limits("batch_insert") == (7.0, 8.0)


def test_every_operation_has_a_task_and_limits() -> None:
    assert set(OperationName) == set(operations.OPERATIONS)
