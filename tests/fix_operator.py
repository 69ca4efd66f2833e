"""An operator on this test's servers, where no worker runs."""

import pytest

from pattern_storage.config.settings import Settings, load_settings
from pattern_storage.tasks.operate.operator import Operator


@pytest.fixture
def settings(database_url: str, redis_url: str) -> Settings:
    return load_settings(database_url=database_url, redis_url=redis_url)


@pytest.fixture
def operator(settings: Settings) -> Operator:
    return Operator(settings, "ann")
