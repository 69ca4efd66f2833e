"""Options of a call: those of its jobs, and the timeout of the broker; options that a broker lacks are refused."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, cast

from pattern_storage.config.celeryconfig import QUEUES
from pattern_storage.config.settings import Settings
from pattern_storage.storage.errors import ContractInvalid
from pattern_storage.storage.job_options import OPTION_NAMES, JobOptions, SubmitOptions
from pattern_storage.tasks.client.outgoing import Outgoing
from pattern_storage.vocabulary import Priority

#: Longest delay of a message on RabbitMQ, in seconds (kombu.transport.native_delayed_delivery).
RABBITMQ_DELAY = 2**28 - 1

#: Longest `connect_timeout` of a call in seconds, as of the setting.
MAX_CONNECT_TIMEOUT = 600


class CallOptions(SubmitOptions, total=False):
    """Options of a call that sends.

    Attributes:
        connect_timeout: seconds, at most 600, until a broker that does not answer is reported; the client's by default.
    """

    connect_timeout: float | None


CALL_OPTION_NAMES = frozenset(CallOptions.__annotations__) | frozenset(OPTION_NAMES)


def split(given: CallOptions, defaults: SubmitOptions) -> tuple[SubmitOptions, float | None]:
    """Return the options of the call's jobs, which take precedence over `defaults`, and its timeout.

    Raises ContractInvalid.
    """
    if not given and not defaults:
        return {}, None
    named: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    timeout = named.pop("connect_timeout", None)
    if timeout is not None and not _is_timeout(timeout):
        raise ContractInvalid(
            f"connect_timeout should be a number of seconds above 0 and at most {MAX_CONNECT_TIMEOUT}, got {timeout!r}"
        )
    # Only one of delay and eta may be given: the call's replaces a default of either.
    replaced = {"delay", "eta"} if {"delay", "eta"} & named.keys() else set()
    rest = {name: value for name, value in defaults.items() if name not in replaced}
    return cast("SubmitOptions", {**rest, **named}), timeout


def _is_timeout(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= MAX_CONNECT_TIMEOUT


def outbox_options(given: SubmitOptions, defaults: SubmitOptions) -> SubmitOptions:
    """Return the options of jobs for the outbox, which have no `connect_timeout`. Raises ContractInvalid."""
    if "connect_timeout" in given:
        raise ContractInvalid(
            "connect_timeout is no option of submit_in, which asks no broker; your connection has a timeout of its own"
        )
    return split(cast("CallOptions", given), defaults)[0]


def with_options(jobs: Sequence[Outgoing], given: SubmitOptions, settings: Settings) -> Sequence[Outgoing]:
    """Return the jobs with these options. Raises ContractInvalid for a wrong option, or one that the broker lacks."""
    if not given:
        return jobs
    options = JobOptions.of(given)
    refuse_impossible(options, settings)
    return [job._replace(options=options) for job in jobs]


def refuse_impossible(options: JobOptions, settings: Settings) -> None:
    """Raise ContractInvalid for an option that the broker of the settings lacks."""
    if settings.broker_kind.is_redis:
        return
    if options.priority is not Priority.NORMAL:
        raise ContractInvalid(
            f"priority should be 'normal' on RabbitMQ, whose quorum queues have none, got {str(options.priority)!r}"
        )
    if options.queue is not None and options.queue not in QUEUES:
        raise ContractInvalid(
            f"queue should be one of {', '.join(QUEUES)} on RabbitMQ, where a queue has to exist, got {options.queue!r}"
        )
    delay = 0.0 if options.eta is None else (options.eta - datetime.now(UTC)).total_seconds()
    if delay > RABBITMQ_DELAY:
        raise ContractInvalid(
            f"a delay should be at most {RABBITMQ_DELAY:,} s on RabbitMQ, got {delay:.0f} s;"
            " submit_in keeps a job in the outbox for any time"
        )
