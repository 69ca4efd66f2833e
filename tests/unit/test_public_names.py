"""`pattern_storage`: the names that applications import."""

import importlib
import inspect
import sys
from typing import get_type_hints

import pytest

import pattern_storage
from pattern_storage import storage
from pattern_storage.storage import ModelContractPatternStorage, ModelResult, NodeBaseEffect, NodePatternStorageEffect
from pattern_storage.tasks import client
from tests.fix_process import ROOT, run_python

#: The modules of the storage layer that programs import from, as they did before there were tasks.
STORAGE = {
    "model_contract_pattern_storage": {
        "ModelResult", "ModelContractBase", "ModelContractEffect", "ModelContractPatternStorage", "ModelPatternRecord",
    },
    "node_base_effect": {"TransactionContext", "LightweightTransactionManager", "NodeBaseEffect"},
    "node_pattern_storage_effect": {"NodePatternStorageEffect"},
}  # fmt: skip


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


@pytest.mark.parametrize("module", STORAGE)
def test_the_storage_layer_s_names_are_in_their_modules(module: str) -> None:
    found = importlib.import_module(f"pattern_storage.storage.{module}")
    for name in STORAGE[module]:
        assert getattr(found, name) is getattr(storage, name)


def test_in_a_checkout_the_folder_storage_has_the_same_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT)
    monkeypatch.setitem(sys.modules, "storage", None)  # to be as it was afterwards
    del sys.modules["storage"]
    folder = importlib.import_module("storage")
    assert folder is not storage
    assert set(storage.__all__) == {"__version__"}.union(*STORAGE.values())
    for name in storage.__all__:
        assert getattr(folder, name) is getattr(storage, name)


def test_the_signature_of_every_effect() -> None:
    for node in (NodeBaseEffect, NodePatternStorageEffect):
        assert inspect.iscoroutinefunction(node.execute_effect)
        types = get_type_hints(node.execute_effect)
        assert types == {"contract": ModelContractPatternStorage, "return": ModelResult}
