"""`pattern_storage`: the names that applications import."""

import pytest

import pattern_storage
from pattern_storage.tasks import client
from tests.fix_process import run_python


@pytest.mark.parametrize("name", pattern_storage.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(pattern_storage, name) is not None
    assert name in dir(pattern_storage)


@pytest.mark.parametrize("name", client.__all__)
def test_the_clients_package_has_the_same_objects(name: str) -> None:
    assert getattr(client, name) is getattr(pattern_storage, name)


def test_other_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'PatternClient'"):
        pattern_storage.PatternClient  # noqa: B018


def test_importing_loads_nothing_heavy() -> None:
    code = "import sys, pattern_storage; print(sorted({'celery', 'redis', 'pydantic', 'psycopg'} & set(sys.modules)))"
    assert run_python("-c", code).stdout.strip() == "[]"
