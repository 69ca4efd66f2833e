"""Messages of plain jobs: how they are recognised without decoding the body."""

from base64 import b64encode
from time import time
from typing import Any

from pydantic import TypeAdapter

from pattern_storage.tasks.worker.message_validation import Headers, Identity, Properties
from pattern_storage.vocabulary import OperationName

#: The tasks whose jobs may share a transaction: a batch is large by itself, a query has limits of its own.
TASKS = frozenset(f"storage.{name}" for name in (OperationName.INSERT, OperationName.UPDATE, OperationName.DELETE))

#: Of the options, Celery writes a pair for the two time limits that a job does not have.
_OPTIONS = tuple(Headers.model_fields.keys() - Identity.model_fields.keys() - {"timelimit"})
_NO_LIMITS: tuple[Any, ...] = (None, [None, None])
#: First characters of a body that is a JSON list: in base64, as text, as bytes. An object is a mix of two protocols.
_LIST = ("W", "[", b"[")


def _ends(text: str) -> tuple[str, ...]:
    """Return the ends of bodies that end with a text: as JSON, and in base64, which depends on the length before it."""
    return text, *(b64encode(bytes(before) + text.encode()).decode()[4 if before else 0 :] for before in range(3))


#: Ends of Celery's bodies without links, and of all others but those of chords, whose parts are in a group.
_NO_LINKS = _ends('{"callbacks": null, "errbacks": null, "chain": null, "chord": null}]')
_LINKS = _ends('"chord": null}]')
_has_identity = TypeAdapter(Identity).validator.isinstance_python
_has_valid_properties = TypeAdapter(Properties).validator.isinstance_python


def is_plain(message: Any) -> bool:
    """Return whether a message is the first delivery of a job without options, limits and links of its own.

    Of its body little is known then: the pool process decodes it, and finds links in other JSON than Celery's.
    """
    headers, delivery, body = message.headers, message.delivery_info, raw_body(message)
    return (
        not any(map(headers.get, _OPTIONS))
        and headers.get("timelimit") in _NO_LIMITS
        and isinstance(delivery, dict)
        and isinstance(delivery.get("routing_key"), str)
        and not delivery.get("redelivered")
        and message.content_type == "application/json"
        and message.content_encoding == "utf-8"
        and isinstance(body, (str, bytes))
        and body[:1] in _LIST
        and (isinstance(body, bytes) or body.endswith(_NO_LINKS) or not body.endswith(_LINKS))
        and _has_identity(headers)
        and _has_valid_properties(message.properties)
    )


def raw_body(message: Any) -> Any:
    """Return the body as it came: in base64 from our transport, as text or bytes from kombu's."""
    return getattr(message, "encoded_body", None) or message.body


def request_of(message: Any, hostname: str) -> dict[str, Any]:
    """Return the request of a plain job as Celery hands it to a pool process."""
    properties, delivery = message.properties, message.delivery_info
    return {
        **message.headers,
        "properties": properties,
        "reply_to": properties.get("reply_to"),
        "correlation_id": properties.get("correlation_id"),
        "hostname": hostname,
        "delivery_info": {
            "exchange": delivery.get("exchange"),
            "routing_key": delivery["routing_key"],
            "priority": properties.get("priority"),
            "redelivered": False,
        },
        # For the ledger, as of every job.
        "claimed_at": time(),
    }
