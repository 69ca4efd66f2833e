"""Celery's consumer of a worker, which no message can end, be it a job, remote control or another worker's event."""

from collections.abc import Callable
from functools import partial
from typing import Any

from celery import signals
from celery.app.utils import filter_hidden_settings
from celery.exceptions import NotRegistered
from celery.worker import pidbox, state
from celery.worker.consumer import consumer, control, gossip
from kombu.log import get_logger

from pattern_storage.tasks.worker.control_validation import check_control, check_event
from pattern_storage.tasks.worker.group.strategy import GroupStrategy
from pattern_storage.tasks.worker.lease import members
from pattern_storage.tasks.worker.message_validation import MessageInvalid, check_job, refuse

logger = get_logger(__name__)

celery_consumer: Any = consumer.Consumer


class Mailbox(pidbox.Pidbox):
    """Remote control. Celery's own answers each invalid message with a traceback, and connects anew."""

    c: Any

    def on_message(self, body: Any, message: Any) -> None:
        """Execute the command of a remote control message, or log in one line why it is refused."""
        self.c.app.clock.forward()
        if (pool_jobs := getattr(self.c, "storage_pool_jobs", None)) is not None:
            # A revoke or a rate limit holds for every job that begins after the answer.
            pool_jobs.withdraw()
        try:
            check_control(body, self.node)
            self.node.handle_message(body, message)
        except MessageInvalid as error:
            logger.error("refused a remote control message: %s; it is not kept", error)
        # Most of all an answer that could not be sent; all other users of a broken connection notice that as well.
        except Exception as error:
            logger.error("a remote control message failed: %s: %s", type(error).__name__, error)


class GreenMailbox(Mailbox, pidbox.gPidbox):
    """Remote control of a worker with a pool of greenlets, which listens on a connection of its own."""


class Control(control.Control):
    """Celery's bootstep of remote control, with our mailbox."""

    def __init__(self, c: Any, **options: Any) -> None:
        super().__init__(c, **options)
        self.box = (GreenMailbox if c.pool is not None and c.pool.is_green else Mailbox)(c)
        # As Celery does.
        vars(self).update(start=self.box.start, stop=self.box.stop, shutdown=self.box.shutdown)


class Gossip(gossip.Gossip):
    """Celery's bootstep that follows the events of other workers, which may come from anybody."""

    def on_message(self, prepare: Callable[..., Any], message: Any) -> None:
        """Handle an event, or log in one line why it is refused."""
        try:
            check_event(message)
            super().on_message(prepare, message)
        except Exception as error:
            logger.error("refused an event (%s: %s); it is not kept", type(error).__name__, error)


def has_begun(request: Any) -> bool:
    """Whether the pool has had a request. Once it has, a process may have begun the job and not said so yet."""
    return bool(
        request._apply_result is not None
        or request.time_start is not None
        or getattr(request, "was_accepted", False)
        or request in state.active_requests
    )


#: Our bootsteps, by the names of Celery's that they replace.
BOOTSTEPS = {
    "celery.worker.consumer.control:Control": f"{__name__}:Control",
    "celery.worker.consumer.gossip:Gossip": f"{__name__}:Gossip",
}


class Consumer(celery_consumer):  # type: ignore[misc]  # its stubs know no blueprint
    """Celery's consumer with our bootsteps, and with messages that are validated before Celery reads them."""

    class Blueprint(celery_consumer.Blueprint):  # type: ignore[misc]
        """The bootsteps of the consumer."""

        default_steps = tuple(BOOTSTEPS.get(step, step) for step in celery_consumer.Blueprint.default_steps)

        def info(self, parent: Any) -> dict[str, Any]:
            """Return what `inspect stats` and Flower show to everybody who reaches the broker: without passwords."""
            info: dict[str, Any] = super().info(parent)
            broker = info.get("broker")
            return info | ({"broker": filter_hidden_settings(broker)} if isinstance(broker, dict) else {})

    def create_task_handler(self, *arguments: Any, **options: Any) -> Callable[[Any], Any]:
        """Return the handler of messages: plain jobs go to their strategy, others are validated and go to Celery's."""
        handle = super().create_task_handler(*arguments, **options)
        strategies = self.strategies

        def handle_checked(message: Any) -> Any:
            if (
                isinstance(task := message.headers.get("task"), str)
                and isinstance(strategy := strategies.get(task), GroupStrategy)
                and strategy.receive(message)
            ):
                return None
            try:
                check_job(message)
            except MessageInvalid as error:
                refuse(message, error)
                signals.task_rejected.send(sender=self, message=message, exc=error)
                return None
            return handle(message)

        return handle_checked

    def cancel_task_queue(self, queue: Any) -> None:
        """Consume no more from a queue. Before, hear what a pool process has claimed: later it has no channel."""
        if (pool_jobs := getattr(self, "storage_pool_jobs", None)) is not None:
            pool_jobs.hear()
        super().cancel_task_queue(queue)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Close the connection, which hands messages back."""
        self._tell_what_has_begun()
        super().on_connection_error_after_connected(exc)

    def on_close(self) -> None:
        """Forget the jobs that have not begun. When the worker ends, their messages are handed back after that."""
        self._tell_what_has_begun()
        super().on_close()

    def _tell_what_has_begun(self) -> None:
        """Tell the messages of jobs that wait here how to find out, when they are handed back, whether they still do.

        Else the next start of each would be taken for one after a crash: counted, and not in a group.
        """
        if self.hub is None:
            # Jobs may begin in other threads at any time.
            return
        buckets = [bucket.contents for bucket in self.task_buckets.values() if bucket]
        limited = [request for contents in buckets for request, _ in contents]
        worker: Any = state  # celery-types does not know those that wait for their time
        for request in (*members(worker.reserved_requests), *members(worker.scheduled_requests), *limited):
            request.message.has_begun = partial(has_begun, request)

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Refuse a message of a task that is not ours, for example a link of another application; fail its job.

        Celery's own discards it. A signature without a queue goes to the default queue of the worker that sends it.
        """
        job = message.headers if "task" in message.headers else message.payload
        name, job_id = job["task"], job["id"]
        refuse(
            message,
            MessageInvalid(
                f"no task {name!r} is registered here; a link or callback to a task of your application needs your"
                ' queue, as in after.s().set(queue="celery")'
            ),
        )
        # All the rest as Celery does.
        self.app.backend.mark_as_failure(job_id, NotRegistered(name))
        if self.event_dispatcher:
            self.event_dispatcher.send("task-failed", uuid=job_id, exception=f"NotRegistered({name!r})")
        signals.task_unknown.send(sender=self, message=message, exc=exc, name=name, id=job_id)

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """Refuse a message that kombu could not build, for example because its compression is unknown."""
        refuse(message, MessageInvalid(f"it cannot be decoded ({type(exc).__name__})"))
