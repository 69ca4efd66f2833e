"""Message validation: the parts of a task message that Celery uses unchecked are checked before Celery reads them.

Stock Celery unpacks messages as they come. A header of a wrong type ends the worker that takes the message, puts the
message back, and so ends the next one. The fields: https://docs.celeryq.dev/en/stable/internals/protocol.html
"""

from datetime import datetime
from typing import Annotated, Any, NotRequired

from kombu.log import get_logger
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from pattern_storage.tasks.transport.message import nests_too_deeply

logger = get_logger(__name__)

#: A thousand million seconds: thirty years, and no float that a timer cannot count.
LONGEST = 1e9


class MessageInvalid(ValueError):
    """A message is invalid; the text names the field and the rule, and shows no content."""


def _one_line(text: str) -> str:
    # It appears in log lines, where a line break would begin a line that looks like one of ours.
    if not text.isprintable():
        raise ValueError("should be printable text in one line")
    return text


def _moment(text: str) -> str:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("should be a time in ISO 8601") from None
    return text


Name = Annotated[str, Field(min_length=1, max_length=1_000), AfterValidator(_one_line)]
Text = str | None
Count = Annotated[int, Field(ge=0, lt=2**31)] | None
Moment = Annotated[str, AfterValidator(_moment)] | None
Limit = Annotated[float, Field(ge=0, le=LONGEST)] | None


class Identity(BaseModel):
    """The headers that every job may have."""

    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)

    task: Name
    id: Name
    root_id: Text = None
    parent_id: Text = None
    argsrepr: Text = None
    kwargsrepr: Text = None
    origin: Text = None
    lang: Text = None
    ignore_result: bool | None = None


class Headers(Identity):
    """All headers of protocol 2 that Celery reads, and the body of protocol 1.

    Those that are added here change how a job is executed or shown: a plain job has none (`plain_message`).
    """

    shadow: Annotated[str, AfterValidator(_one_line)] | None = None
    group: Text = None
    taskset: Text = None
    group_index: Count = None
    retries: Count = None
    replaced_task_nesting: Count = None
    eta: Moment = None
    expires: Moment = None
    timelimit: Annotated[list[Limit], Field(min_length=2, max_length=2)] | None = None
    stamped_headers: list[str] | None = None
    stamps: dict[str, Any] | None = None
    utc: bool | None = None


class Properties(BaseModel):
    """The properties of a message that Celery reads."""

    model_config = ConfigDict(strict=True, extra="ignore")

    correlation_id: Text = None
    reply_to: Text = None
    priority: int | None = None


class Embed(BaseModel):
    """The links of a job, which are called after it: the third part of a body, or fields of one of protocol 1."""

    model_config = ConfigDict(strict=True, extra="ignore")

    callbacks: list[dict[str, Any]] | None = None
    errbacks: list[dict[str, Any]] | None = None
    chain: list[Any] | None = None
    chord: dict[str, Any] | None = None


class Call(TypedDict):
    """The arguments of a job in a body of protocol 1, which also has the fields of `Headers` and `Embed`."""

    args: NotRequired[list[Any]]
    kwargs: NotRequired[dict[str, Any]]


_STRICT = ConfigDict(strict=True, extra="ignore")
CALL: TypeAdapter[Any] = TypeAdapter(with_config(_STRICT)(Call))
BODY: TypeAdapter[Any] = TypeAdapter(tuple[list[Any], dict[str, Any], Embed | None])


def check_job(message: Any) -> None:
    """Raise MessageInvalid, with one sentence, for a task message that would end Celery's worker."""
    try:
        payload = message.payload
    # kombu's own errors, and those of the decoder that the content type chooses: codecs, JSON, deep nesting.
    except Exception as error:
        raise MessageInvalid(f"its body cannot be decoded ({type(error).__name__})") from None
    # Our transport refuses deep JSON itself; kombu decodes other encodings, of any depth.
    if nests_too_deeply(payload):
        raise MessageInvalid("its body nests too deeply")
    headers = message.headers if "task" in message.headers else payload
    if not isinstance(headers, dict):
        raise MessageInvalid("it has no task: neither its headers nor its body name one")
    _check(Headers.model_validate, headers, "")
    _check(Properties.model_validate, message.properties, "properties.")
    # With the task in its headers a body may still be an object, in a mix of both protocols; then it has `args`.
    if isinstance(payload, dict) and (headers is payload or "args" in payload):
        _check(CALL.validate_python, payload, "body.")
        _check(Embed.model_validate, payload, "body.")
    else:
        _check(BODY.validate_python, payload, "body.")


def _check(validate: Any, value: Any, where: str) -> None:
    try:
        validate(value)
    except ValidationError as error:
        finding = error.errors(include_input=False, include_url=False)[0]
        field = where + ".".join(map(str, finding["loc"]))
        rule = finding["msg"].removeprefix("Value error, ").replace("Input should", "should")
        raise MessageInvalid(f"{field.strip('.') or 'the message'}: {rule}") from None


def refuse(message: Any, reason: Exception) -> None:
    """Take a message out of its queue for good, and log one line that says why and where it went."""
    if hasattr(message.channel, "refuse"):
        where = f"kept in the Redis list {message.channel.refuse(message)}"
    else:
        message.reject()
        where = "rejected: the broker drops it, unless its queue has a dead letter exchange"
    logger.error("refused message %s: %s; %s", label(message), reason, where)


def label(message: Any) -> str:
    """Return task and id of a message as far as they are safe to show, with `?` in place of others."""
    names = (message.headers.get("task"), message.headers.get("id"))
    task, job = (name if isinstance(name, str) and name.isprintable() and len(name) <= 100 else "?" for name in names)
    return f"{task}[{job}]"
