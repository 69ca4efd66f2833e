"""Options of a call: those of its jobs, and the timeout of the broker; options that a broker lacks are refused."""

from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from numbers import Real
from typing import Any, cast

from pattern_storage.config.celeryconfig import QUEUES
from pattern_storage.config.settings import Settings
from pattern_storage.storage.errors import ContractInvalid
from pattern_storage.storage.explanation import did_you_mean, printable
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


CALL_OPTION_NAMES = (*OPTION_NAMES, "connect_timeout")


def check_names(given: Iterable[str], known: Collection[str] = CALL_OPTION_NAMES, kind: str = "option") -> None:
    """Raise ContractInvalid for a name that a call does not know; the sentence has those that it knows."""
    for name in given:
        if name in known:
            continue
        if name == "correlation_id":
            raise ContractInvalid("correlation_id is no option of this call; it is a field of the contract")
        raise ContractInvalid(f"unknown {kind} {printable(name)!r}; {did_you_mean(name, known)}")


def split(given: CallOptions, defaults: SubmitOptions) -> tuple[SubmitOptions, float | None]:
    """Return the options of the call's jobs, which take precedence over `defaults`, and its timeout.

    Raises ContractInvalid.
    """
    if not given and not defaults:
        return {}, None
    check_names(given)
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


def check_wait(timeout: Any) -> float:
    """Return the seconds that a caller waits for a result. Raises ContractInvalid for what is no number from 0 on."""
    if isinstance(timeout, Real) and not isinstance(timeout, bool):
        with suppress(OverflowError):
            if (seconds := float(timeout)) >= 0:
                return seconds
    raise ContractInvalid(f"timeout should be a number of seconds, 0 or more, got {printable(repr(timeout))[:60]}")


def outbox_options(given: SubmitOptions, defaults: SubmitOptions) -> SubmitOptions:
    """Return the options of jobs for the outbox, which have no `connect_timeout`. Raises ContractInvalid."""
    if "connect_timeout" in given:
        raise ContractInvalid(
            "connect_timeout is no option of submit_in, which asks no broker; your connection has a timeout of its own"
        )
    check_names(given, OPTION_NAMES)
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
