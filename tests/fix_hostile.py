"""Hostile contracts as Hypothesis draws them: plausible ones with values of any kind, and nonsense."""

import math
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from hypothesis import strategies as st

from pattern_storage.storage.operations import OPERATIONS
from pattern_storage.storage.operations.query_params import QueryParams
from pattern_storage.storage.pattern import COLUMNS

#: Two patterns that exist in every example until one deletes them: a parent and its child.
PARENT, CHILD = UUID(int=1), UUID(int=2)


class Unprintable:
    """An object that fails when anybody looks at it."""

    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


def nested(kind: type, depth: int) -> Any:
    """Lists in lists, or dicts in dicts."""
    value: Any = "bottom"
    for _ in range(depth):
        value = {"k": value} if kind is dict else kind([value])
    return value


SQL = [
    "'; DROP TABLE pattern_templates; --",
    '" OR 1=1 --',
    "1); DELETE FROM pattern_templates; --",
    "%(id)s",
    "%s",
    "%",
    "{columns}",
    "$1",
    "\\",
    "\\.",
    "\\N",
    "NULL",
    "{}",
    "pg_sleep(10)",
]


TEXTS = st.one_of(
    st.text(max_size=30),
    st.text(st.characters(categories=("Cs", "Cc", "Co", "Cn")), min_size=1, max_size=5),
    st.sampled_from([*SQL, "", " ", "\x00", "a\x00b", "\ud800", "\U0010ffff", "\u202e", "x" * 300, "x" * 1_100_000]),
    st.sampled_from([str(PARENT), str(CHILD), str(UUID(int=3)), "not-a-uuid", "{" + str(PARENT) + "}"]),
)


SCALARS = st.one_of(
    TEXTS,
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([-1, 0, 1, 2**31, -(2**31), 2**63, 10**400]),
    st.floats(),
    st.sampled_from([math.nan, math.inf, -math.inf, -0.0, 5e-324, 1.0000000000000002]),
    st.sampled_from([PARENT, CHILD, UUID(int=3)]),
    st.sampled_from([b"bytes\xff", datetime(2026, 1, 1, tzinfo=UTC), datetime.min, 1j, object(), int]),
)


#: By name, because Hypothesis prints what it draws from, and some of these cannot be printed.
MONSTERS: dict[str, Any] = {
    f"{kind.__name__} {depth} deep": nested(kind, depth)
    for kind in (list, dict, tuple)
    for depth in (3, 99, 101, 300, 3_000)
}


MONSTERS |= {
    "huge": 10**5000,
    "unprintable": Unprintable(),
    "keys": {1: 2, None: 3, (1, 2): 4},
    "NUL": {"": {"\x00": 1}},
    "surrogate": {"k": "\ud800"},
    "NaN": {"k": math.nan},
    "object": {"k": object()},
    "set": {1, 2},
}


NESTED = st.sampled_from(sorted(MONSTERS)).map(lambda name: MONSTERS[name])


VALUES = st.one_of(
    SCALARS,
    NESTED,
    st.recursive(
        SCALARS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
        max_leaves=6,
    ),
)


VALID_PATTERN = st.fixed_dictionaries(
    {
        "pattern_name": st.sampled_from(["parent", "child", "a", "b"]) | st.text(min_size=1, max_size=10),
        "pattern_type": st.just("function"),
        "language": st.just("python"),
        "template_code": st.just("pass"),
    }
)


COLUMN_NAMES = st.sampled_from(COLUMNS) | TEXTS.filter(lambda text: len(text) < 1_000)


def mutated(valid: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """A valid object with up to two columns of any name and value on top."""
    return st.builds(lambda one, other: one | other, valid, st.dictionaries(COLUMN_NAMES, VALUES, max_size=2))


PATTERN = mutated(VALID_PATTERN)


PARAMS = st.dictionaries(
    st.sampled_from(list(QueryParams.model_fields)) | TEXTS.filter(lambda text: len(text) < 1_000),
    VALUES | st.sampled_from(["created_at", "pattern_name", 1, 10, "2026-01-01T00:00:00Z", ["x"], {"k": 1}]),
    max_size=3,
)


IDS = st.sampled_from([PARENT, CHILD, UUID(int=3), str(PARENT), "nonsense", 7, None])


PLAUSIBLE = st.one_of(
    st.fixed_dictionaries({"operation": st.just("insert"), "data": PATTERN}),
    st.fixed_dictionaries({"operation": st.just("batch_insert"), "patterns": st.lists(PATTERN, max_size=4)}),
    st.fixed_dictionaries(
        {
            "operation": st.just("update"),
            "pattern_id": IDS,
            "data": st.dictionaries(COLUMN_NAMES, VALUES, min_size=1, max_size=2),
        }
    ),
    st.fixed_dictionaries({"operation": st.just("delete"), "pattern_id": IDS}),
    st.fixed_dictionaries({"operation": st.just("query"), "query_params": PARAMS}),
)


#: Any value in any field, required ones missing too.
NONSENSE = st.fixed_dictionaries(
    {},
    optional={
        "operation": st.sampled_from(list(OPERATIONS)) | VALUES,
        "pattern_id": IDS | VALUES,
        "data": PATTERN | VALUES,
        "patterns": st.lists(PATTERN | VALUES, max_size=2) | VALUES,
        "query_params": PARAMS | VALUES,
        "correlation_id": VALUES,
        "name": VALUES,
        "node_type": VALUES,
    },
)
