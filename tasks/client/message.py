"""Celery message of a contract, for kombu and as an element of a Redis queue.

Celery and kombu take 300 microseconds to make the latter. Here the values that differ between two jobs of one kind are
filled into a template. Tests compare both messages, key by key, and a stock worker consumes them.
"""

import json
import os
import socket
import time
from base64 import b64encode
from binascii import b2a_base64
from functools import lru_cache
from json.encoder import encode_basestring_ascii
from typing import Any, NamedTuple
from uuid import uuid4

from celery.signals import after_task_publish, before_task_publish

from pattern_storage.config.celeryconfig import queue_of
from pattern_storage.storage.job_options import NO_OPTIONS
from pattern_storage.tasks.client.outgoing import Outgoing
from pattern_storage.tasks.observability.traces import add_context, has_context
from pattern_storage.vocabulary import Priority

#: kombu's numbers of priorities on Redis, where 0 is first. An urgent job goes to the head of the list of 0.
PRIORITY_NUMBERS = {Priority.URGENT: 0, Priority.NORMAL: 0, Priority.LOW: 6, Priority.LOWEST: 9}

EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}

#: JSON of a message's body before and after the contract.
_BODY_START, _BODY_END = b'[[], {"contract": ', f"}}, {json.dumps(EMBED)}]".encode()


class Message(NamedTuple):
    """A task message of Celery's protocol 2, not serialized yet."""

    task: str
    queue: str
    headers: dict[str, Any]
    body: tuple[list[Any], dict[str, Any], dict[str, Any]]


def build_message(job: Outgoing) -> Message:
    """Return a job's message, with the caller's trace context if there is one."""
    task, queue = f"storage.{job.operation}", job.options.queue or queue_of(job.operation)
    eta, expires = _moments(job)
    headers = _headers(task, str(job.correlation_id), job.description, time.time(), eta, expires, job.id_is_new)
    add_context(job.operation, job.correlation_id, headers)
    return Message(task, queue, headers, ([], {"contract": json.loads(job.contract)}, EMBED))


def encode_for_redis(job: Outgoing) -> tuple[str, bytes]:
    """Return the queue, and the element of its list as kombu's Redis transport writes it.

    Celery's publish signals are sent if an application has receivers for them, such as instrumentation.
    """
    if before_task_publish.receivers or after_task_publish.receivers or has_context():
        return _encode_with_signals(job)
    queue = job.options.queue or queue_of(job.operation)
    eta, expires = _moments(job)
    values = {
        b"body": b2a_base64(b"%b%b%b" % (_BODY_START, job.contract, _BODY_END), newline=False),
        b"id": str(job.correlation_id).encode(),
        b"eta": b"null" if eta is None else b'"%b"' % eta.encode(),
        b"expires": b"null" if expires is None else b'"%b"' % expires.encode(),
        b"argsrepr": encode_basestring_ascii(job.description).encode(),
        b"sent_at": b"%f" % time.time(),
        # As unique as kombu's UUID, in half the time.
        b"delivery_tag": os.urandom(16).hex().encode(),
    }
    return queue, _template(
        f"storage.{job.operation}", queue, PRIORITY_NUMBERS[job.options.priority], job.id_is_new, os.getpid()
    ) % values


def _encode_with_signals(job: Outgoing) -> tuple[str, bytes]:
    task, queue, headers, body = build_message(job)
    properties = _properties(headers["id"], queue, PRIORITY_NUMBERS[job.options.priority], str(uuid4()))
    about = {"sender": task, "body": body, "exchange": "", "routing_key": queue}
    if before_task_publish.receivers:
        before_task_publish.send(**about, declare=[], headers=headers, properties=properties, retry_policy={})
    encoded = json.dumps(_element(b64encode(json.dumps(body).encode()).decode(), headers, properties)).encode()
    if after_task_publish.receivers:
        after_task_publish.send(**about, headers=headers)
    return queue, encoded


@lru_cache(maxsize=64)
def _template(
    task: str,
    queue: str,
    priority: int,
    id_is_new: bool,
    process_id: int,  # the origin names the process
) -> bytes:
    """Return the JSON of an element with `%(name)b` for each value that differs between jobs."""
    slots = ("body", "id", "eta", "expires", "argsrepr", "sent_at", "delivery_tag")
    marks = {name: f"<{uuid4()}>" for name in slots}
    eta, expires = marks["eta"], marks["expires"]
    headers = _headers(task, marks["id"], marks["argsrepr"], marks["sent_at"], eta, expires, id_is_new)
    properties = _properties(marks["id"], queue, priority, marks["delivery_tag"])
    text = json.dumps(_element(marks["body"], headers, properties)).replace("%", "%%")
    for name, mark in marks.items():
        # The others are within strings and need no escapes.
        is_json = name in ("argsrepr", "sent_at", "eta", "expires")
        text = text.replace(f'"{mark}"' if is_json else mark, f"%({name})b")
    return text.encode()


def _moments(job: Outgoing) -> tuple[str | None, str | None]:
    """Return Celery's headers `eta` and `expires`: the job begins not before the one and not after the other."""
    if job.options is NO_OPTIONS:
        return None, None
    eta, expires = job.options.eta, job.options.expires
    return None if eta is None else eta.isoformat(), None if expires is None else expires.isoformat()


def _headers(
    task: str, job: str, description: str, sent_at: object, eta: str | None, expires: str | None, id_is_new: bool
) -> dict[str, Any]:
    """Return the headers of protocol 2.

    The `argsrepr` is a description: Celery's repr of all arguments is slow and shows the template code in Flower.
    Two headers are ours: `sent_at`, with which workers measure how long a job has waited, and `id_is_new`, which spares
    them to look for what PostgreSQL keeps of jobs that have begun before (`storage.delivery.Delivery`).
    """
    return {
        "lang": "py",
        "task": task,
        "id": job,
        "shadow": None,
        "eta": eta,
        "expires": expires,
        "group": None,
        "group_index": None,
        "retries": 0,
        "timelimit": [None, None],
        "root_id": job,
        "parent_id": None,
        "argsrepr": description,
        "kwargsrepr": "",
        "origin": f"gen{os.getpid()}@{socket.gethostname()}",
        "ignore_result": False,
        "replaced_task_nesting": 0,
        "stamped_headers": None,
        "stamps": {},
        "sent_at": sent_at,
        "id_is_new": id_is_new,
    }


def _properties(job: str, queue: str, priority: int, delivery_tag: str) -> dict[str, Any]:
    return {
        "correlation_id": job,
        "reply_to": "",
        "delivery_mode": 2,
        "delivery_info": {"exchange": "", "routing_key": queue},
        "priority": priority,
        "body_encoding": "base64",
        "delivery_tag": delivery_tag,
    }


def _element(body: str, headers: dict[str, Any], properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "body": body,
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": headers,
        "properties": properties,
    }
