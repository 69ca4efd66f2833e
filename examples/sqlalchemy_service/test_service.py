"""The service's own tests: `pytest`, with the servers of the testing kit."""

from collections.abc import Iterator

import pytest
from service import Order, connect, is_stored, place_order
from sqlalchemy import select
from sqlalchemy.orm import Session

from pattern_storage import PatternStorageClient
from pattern_storage.testing import InlineMode


@pytest.fixture
def session(inline_jobs: InlineMode) -> Iterator[Session]:
    engine = connect(inline_jobs.database_url)
    with Session(engine) as opened:
        yield opened
    engine.dispose()


@pytest.fixture
def client(inline_jobs: InlineMode) -> Iterator[PatternStorageClient]:
    with PatternStorageClient() as opened:
        yield opened


def test_an_order_stores_its_pattern(session: Session, client: PatternStorageClient, inline_jobs: InlineMode) -> None:
    order = place_order(session, client, "Visitor")
    assert not is_stored(client, order)
    session.commit()
    assert is_stored(client, order)
    inline_jobs.jobs.assert_enqueued(operation="insert", pattern_name="Visitor", outbox=True, count=1)
    assert client.query(pattern_name="Visitor").result().data.count == 1


def test_an_order_that_is_rolled_back_leaves_nothing(session: Session, client: PatternStorageClient) -> None:
    order = place_order(session, client, "Lost")
    session.flush()
    job = client.get(order.correlation_id)
    session.rollback()
    assert session.scalars(select(Order)).all() == []
    assert job.status() == "UNKNOWN"
    assert client.query(pattern_name="Lost").result().data.count == 0
