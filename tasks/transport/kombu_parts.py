"""kombu's modules without types: its stubs leave out most of the names that the transport builds on."""

from importlib import import_module
from typing import Any

redis: Any = import_module("kombu.transport.redis")
virtual: Any = import_module("kombu.transport.virtual")
transports: Any = import_module("kombu.transport")
