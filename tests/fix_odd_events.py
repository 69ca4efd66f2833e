"""Events as Hypothesis draws them: whatever a broker may hold."""

from hypothesis import strategies as st

from pattern_storage.tasks.flower.event_validation import FIELDS

#: Names that would shadow what Celery's classes are made of.
SHADOWS = (
    "event",
    "state",
    "children",
    "ready",
    "id",
    "as_dict",
    "heartbeats",
    "alive",
    "__dict__",
    "_fields",
    "update",
)

NAMES = sorted({*FIELDS["task"], *FIELDS["worker"], *SHADOWS})

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)

TASK_TYPES = ("sent", "received", "started", "succeeded", "failed", "retried", "revoked", "rejected", "progress", "own")

WORKER_TYPES = ("online", "heartbeat", "offline", "own")

TYPES = st.sampled_from([*(f"task-{name}" for name in TASK_TYPES), *(f"worker-{name}" for name in WORKER_TYPES)])

EVENTS = st.builds(
    lambda fields, kind, uuid, hostname: fields | {"type": kind, "uuid": uuid, "hostname": hostname},
    st.dictionaries(st.sampled_from(NAMES), JSON, max_size=6),
    TYPES | JSON,
    st.sampled_from(["a", "b"]) | JSON,
    st.sampled_from(["celery@a"]) | JSON,
)
