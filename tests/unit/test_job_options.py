"""Options of a job: what is taken for what, and which are refused with which sentence."""

from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from typing import Any
from uuid import uuid4

import pytest

from pattern_storage.config.settings import Settings
from pattern_storage.storage.errors import ContractInvalid
from pattern_storage.storage.job_options import NO_OPTIONS, JobOptions
from pattern_storage.tasks.client import PatternStorageClient
from pattern_storage.tasks.client.call_options import refuse_impossible, split
from pattern_storage.vocabulary import Priority
from tests.fix_storage import contract, make_pattern

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def of(**given: Any) -> JobOptions:
    return JobOptions.of(given, NOW)  # type: ignore[arg-type]  # also what no type checker would let through


def test_seconds_are_moments_from_now() -> None:
    assert of() is NO_OPTIONS
    assert of(priority=None, queue=None) is NO_OPTIONS
    assert of(delay=90).eta == of(delay=timedelta(seconds=90)).eta == NOW + timedelta(seconds=90)
    assert of(delay=0).eta is None
    assert of(expires=1.5).expires == of(expires=NOW + timedelta(seconds=1.5)).expires == NOW + timedelta(seconds=1.5)
    there = timezone(timedelta(hours=2))
    assert of(eta=NOW.astimezone(there)).eta == NOW
    assert of(priority="low", queue="fast") == JobOptions(Priority.LOW, queue="fast")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"priority": 9}, "priority should be one of 'urgent', 'normal', 'low', 'lowest', got '9'"),
        ({"prioriti": "low"}, "unknown option 'prioriti'; did you mean 'priority'?"),
        ({"delay": -1}, "delay should be 0 to 3,153,600,000 seconds, got -1"),
        ({"delay": "1"}, "delay should be seconds or a timedelta, got str"),
        ({"delay": True}, "delay should be seconds or a timedelta, got bool"),
        ({"delay": float("nan")}, "delay should be seconds or a timedelta, got float"),
        ({"delay": float("inf")}, "delay should be 0 to 3,153,600,000 seconds, got inf"),
        ({"delay": 10**400}, f"delay should be 0 to 3,153,600,000 seconds, got 1{'0' * 59}"),
        ({"expires": 10**5000}, "expires should be 0 to 3,153,600,000 seconds, got <int>"),
        ({"delay": 1, "eta": NOW}, "delay and eta both say when the job may begin; give one of them"),
        ({"eta": 3}, "eta should be a datetime, got int"),
        ({"eta": datetime(2026, 1, 2)}, "eta should have a time zone, got 2026-01-02T00:00:00"),
        (
            {"eta": datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-5)))},
            "eta should be in the years 1 to 9999 in UTC, got 9999-12-31T23:00:00-05:00",
        ),
        ({"expires": "soon"}, "expires should be seconds, a timedelta or a datetime, got str"),
        ({"expires": 0}, "expires should be in the future, got 2026-01-02T03:04:05+00:00"),
        ({"expires": 5, "delay": 5}, "expires should be later than the moment at which the job may begin"),
        ({"queue": "no such\nqueue"}, "queue should be a name of letters, digits and _.-, got 'no such\\nqueue'"),
        ({"queue": 3}, "queue should be a name of letters, digits and _.-, got '3'"),
    ],
)
def test_refused(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ContractInvalid) as caught:
        of(**given)
    assert str(caught.value) == sentence


def test_the_outbox_keeps_them() -> None:
    assert NO_OPTIONS.to_json() is None
    options = of(priority="lowest", expires=10, queue="fast", delay=3)
    assert JobOptions.from_json(options.to_json()) == options.without_eta()
    assert JobOptions.from_json(None) is NO_OPTIONS
    wrong: tuple[Any, ...] = ([], {"color": "red"}, {"expires": "soon"}, {"expires": 3}, {"priority": "first"})
    for stored in wrong:
        with pytest.raises(ContractInvalid):
            JobOptions.from_json(stored)


def test_a_call_goes_before_the_client_s_defaults() -> None:
    assert split({}, {}) == ({}, None)
    assert split({"queue": "b", "connect_timeout": 2}, {"queue": "a", "priority": "low"}) == (
        {"queue": "b", "priority": "low"}, 2,
    )  # fmt: skip
    assert split({"eta": NOW}, {"delay": 3}) == ({"eta": NOW}, None)
    for wrong in (0, -1, "1", True, float("inf"), float("nan"), 601):
        with pytest.raises(ContractInvalid, match="connect_timeout should be a number of seconds above 0 and at most"):
            split({"connect_timeout": wrong}, {})  # type: ignore[typeddict-item]


def test_what_a_broker_cannot_do() -> None:
    redis = Settings(redis_url="redis://one/0")
    later = datetime.now(UTC) + timedelta(hours=1)
    refuse_impossible(JobOptions(Priority.URGENT, datetime.now(UTC) + timedelta(seconds=500), queue="fast"), redis)
    # Longer than the visibility timeout: the worker that holds the job renews its message.
    refuse_impossible(JobOptions(eta=later + timedelta(days=4_000)), redis)
    rabbitmq = Settings(redis_url="redis://one/0", broker_url="amqp://one//")
    refuse_impossible(JobOptions(eta=later, queue="batch"), rabbitmq)
    for options, sentence in (
        (JobOptions(Priority.LOW), "priority should be 'normal' on RabbitMQ"),
        (JobOptions(queue="fast"), "queue should be one of storage, batch, imports on RabbitMQ"),
        (JobOptions(eta=later + timedelta(days=4_000)), "at most 268,435,455 s on RabbitMQ"),
    ):
        with pytest.raises(ContractInvalid, match=sentence):
            refuse_impossible(options, rabbitmq)


CALL = "priority, delay, eta, expires, queue, connect_timeout"


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda client, **wrong: client.insert(make_pattern(), **wrong), f"known are {CALL}, correlation_id"),
        (lambda client, **wrong: client.batch_insert([make_pattern()], **wrong), f"known are {CALL}, correlation_id"),
        (lambda client, **wrong: client.delete(uuid4(), **wrong), f"known are {CALL}, correlation_id, expect"),
        (lambda client, **wrong: client.update(uuid4(), {}, **wrong), f"known are {CALL}, correlation_id, expect"),
        (lambda client, **wrong: client.submit(contract("insert", data=make_pattern()), **wrong), f"known are {CALL}"),
        (lambda client, **wrong: client.submit_many([contract("insert", data=make_pattern())], **wrong), CALL),
        (lambda client, **wrong: client.query(limit=1, **wrong), f"limit, cursor, {CALL}, correlation_id"),
    ],
)  # fmt: skip
def test_an_unknown_option_is_refused_with_all_that_a_call_takes(call: Any, sentence: str) -> None:
    with PatternStorageClient(redis_url="redis://127.0.0.1:1/0") as client:
        for wrong, says in (({"colour": 1}, sentence), ({"connect_timout": 1}, "did you mean 'connect_timeout'?")):
            with pytest.raises(ContractInvalid) as caught:
                call(client, **wrong)
            assert str(caught.value).startswith("unknown ")
            assert str(caught.value).endswith(says)


def test_a_contract_has_its_id_itself() -> None:
    one = contract("insert", data=make_pattern())
    with PatternStorageClient(redis_url="redis://127.0.0.1:1/0") as opened:
        client: Any = opened  # also what no type checker would let through
        for send in (client.submit, partial(client.submit_in, None)):
            with pytest.raises(ContractInvalid, match=r"^correlation_id is no option of this call; it is a field of"):
                send(one, correlation_id=uuid4())
        with pytest.raises(ContractInvalid, match=r"known are priority, delay, eta, expires, queue$"):
            client.submit_in(None, one, colour=1)
