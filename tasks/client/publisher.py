"""Publisher of contracts as Celery messages."""

import time
from collections.abc import Sequence
from typing import Any

from celery import Celery
from kombu.exceptions import BatchPublishError, LimitExceeded, OperationalError  # type: ignore[attr-defined]  # new in 5.7
from kombu.pools import ProducerPool
from redis.exceptions import RedisError

from pattern_storage.config.celeryconfig import queue_of
from pattern_storage.config.settings import Settings
from pattern_storage.storage import ModelContractPatternStorage
from pattern_storage.storage.operations import check
from pattern_storage.tasks.description import describe_contract
from pattern_storage.tasks.errors import BrokerUnavailable
from pattern_storage.tasks.observability.traces import add_context

#: Messages in one round trip: more gains nothing measurable and delays the first.
BATCH_SIZE = 500

#: Threads that publish at the same moment; one more waits for one of them.
MAX_CONNECTIONS = 10

BROKER_ERRORS = (OperationalError, LimitExceeded, RedisError, OSError)


class Publisher:
    """Publishes through an application's own Celery instance, so nothing global is touched."""

    def __init__(self, app: Celery, settings: Settings) -> None:
        # celery-types does not know kombu 5.7's batches yet.
        self._app: Any = app
        self._timeout = settings.connect_timeout
        # Of its own: kombu's are shared by every Celery application of the process, and stay open.
        self._connections: Any = app.connection_for_write().Pool(limit=MAX_CONNECTIONS)
        self._producers: Any = ProducerPool(self._connections, limit=MAX_CONNECTIONS)

    def close(self) -> None:
        """Close all connections to the broker."""
        self._producers.force_close_all()
        self._connections.force_close_all()

    def publish(self, contracts: Sequence[ModelContractPatternStorage]) -> None:
        """Send the contracts in order, 500 to a round trip, after checking every value of all of them.

        Raises:
            ContractInvalid: if a value breaks a rule; then none was sent.
            BrokerUnavailable: within about the connect timeout; then some may have been sent.
        """
        for contract in contracts:
            check(contract)
        try:
            with self._producers.acquire(block=True, timeout=self._timeout) as producer:
                # A pooled connection may have died since its last use: one more try tells that from a dead broker.
                send = producer.connection.ensure(producer, self._send, max_retries=1, interval_start=0)
                send(producer, contracts)
        except BROKER_ERRORS as error:
            raise BrokerUnavailable(f"the queue does not answer: {error.__cause__ or error}") from error

    def _send(self, producer: Any, contracts: Sequence[ModelContractPatternStorage]) -> None:
        try:
            with producer.batch(max_size=BATCH_SIZE):
                for contract in contracts:
                    self._app.amqp.send_task_message(
                        producer,
                        f"storage.{contract.operation}",
                        self._message(contract),
                        queue=queue_of(contract.operation),
                        serializer="json",
                        retry=False,
                        # Seconds until RabbitMQ has to have confirmed it; Redis confirms by answering.
                        confirm_timeout=self._timeout,
                    )
        except BatchPublishError as error:
            # kombu knows which errors mean a broken connection, but looks for them unwrapped.
            raise error.__cause__ or error from None

    def _message(self, contract: ModelContractPatternStorage) -> Any:
        fields = contract.model_dump(mode="json")
        message = self._app.amqp.as_task_v2(
            str(contract.correlation_id),
            f"storage.{contract.operation}",
            kwargs={"contract": fields},
            # Celery would print all arguments otherwise: slow, and the template code would show in Flower.
            argsrepr=describe_contract(contract.operation, fields),
            kwargsrepr="",
        )
        # Celery's messages do not say when they were sent; a worker measures by it how long the job waited.
        message.headers["sent_at"] = time.time()
        add_context(contract, message.headers)
        return message
