"""Second and later deliveries of a job, according to its message."""

from collections.abc import Mapping
from typing import Any


def is_delivered_again(request: Mapping[str, Any]) -> bool:
    """Return whether a job was delivered before: this is a retry, or its message was put back into its queue."""
    return bool(request.get("retries") or (request.get("delivery_info") or {}).get("redelivered"))
