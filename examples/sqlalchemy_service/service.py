"""Orders in SQLAlchemy, each with the pattern it is about: row and job are one transaction."""

from uuid import UUID

from sqlalchemy import Engine, Uuid, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from pattern_storage import ModelContractPatternStorage, PatternStorageClient


class Base(DeclarativeBase):
    """Base of the models."""


class Order(Base):
    """An order, and the job that stores its pattern."""

    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    correlation_id: Mapped[UUID] = mapped_column(Uuid, unique=True)


def connect(database_url: str) -> Engine:
    """Return an engine for the database of DATABASE_URL, with the tables of this service."""
    engine = create_engine(database_url.replace("postgresql://", "postgresql+psycopg://", 1))
    Base.metadata.create_all(engine)
    return engine


def place_order(session: Session, client: PatternStorageClient, name: str) -> Order:
    """Write an order and its job; both exist when the session commits, or neither."""
    data = {"pattern_name": name, "pattern_type": "code", "language": "python", "template_code": "..."}
    job = client.submit_in(session, ModelContractPatternStorage(operation="insert", data=data))
    order = Order(title=f"Order of {name}", correlation_id=job.correlation_id)
    session.add(order)
    return order


def is_stored(client: PatternStorageClient, order: Order) -> bool:
    """Whether the pattern of an order is in the database by now."""
    return client.get(order.correlation_id).status() == "SUCCESS"
