"""The schema: the 22 columns of the facts, their keys and rules."""

import psycopg
import pytest

from pattern_storage.storage.pattern import COLUMNS
from tests.fix_storage import fetch

TEXT, FLOAT, TIME = "text", "double precision", "timestamp with time zone"


#: name, type, nullable, default
FACTS = [
    ("id", "uuid", "NO", "time_ordered_id()"),
    ("pattern_name", TEXT, "NO", None),
    ("pattern_type", TEXT, "NO", None),
    ("language", TEXT, "NO", None),
    ("category", TEXT, "YES", None),
    ("template_code", TEXT, "NO", None),
    ("description", TEXT, "YES", None),
    ("example_usage", TEXT, "YES", None),
    ("source", TEXT, "YES", None),
    ("confidence_score", FLOAT, "NO", "0.5"),
    ("usage_count", "integer", "NO", "0"),
    ("success_rate", FLOAT, "NO", "0.5"),
    ("complexity_score", "integer", "YES", None),
    ("maintainability_score", FLOAT, "YES", None),
    ("performance_score", FLOAT, "YES", None),
    ("parent_pattern_id", "uuid", "YES", None),
    ("is_deprecated", "boolean", "NO", "false"),
    ("created_by", TEXT, "NO", "'system'::text"),
    ("tags", "ARRAY", "NO", "'{}'::text[]"),
    ("context", "jsonb", "NO", "'{}'::jsonb"),
    ("created_at", TIME, "NO", "now()"),
    ("updated_at", TIME, "NO", "now()"),
]


def test_the_columns_are_those_of_the_facts(database_url: str) -> None:
    found = fetch(
        database_url,
        "SELECT column_name, data_type, is_nullable, column_default FROM information_schema.columns"
        " WHERE table_name = 'pattern_templates' ORDER BY ordinal_position",
    )
    assert found == FACTS
    assert len(found) == 22
    assert tuple(name for name, *_ in FACTS) == COLUMNS


def test_ids_made_by_the_server_ascend_in_time(database_url: str) -> None:
    """Of version 7, so that new rows are neighbours in every index that ends with the id."""
    statement = "SELECT time_ordered_id(), extract(epoch FROM clock_timestamp()) * 1000 FROM generate_series(1, 1000)"
    found = fetch(database_url, statement)
    assert len({made for made, _ in found}) == 1000
    for made, milliseconds in found:
        assert made.version == 7
        assert abs((made.int >> 80) - milliseconds) < 1000


def test_keys_and_references(database_url: str) -> None:
    found = fetch(
        database_url,
        "SELECT contype, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE conrelid = 'pattern_templates'::regclass AND contype IN ('p', 'u', 'f') ORDER BY contype",
    )
    assert found == [
        ("f", "FOREIGN KEY (parent_pattern_id) REFERENCES pattern_templates(id)"),
        ("p", "PRIMARY KEY (id)"),
        ("u", "UNIQUE (pattern_name, pattern_type, language)"),
    ]


GOOD = {"pattern_name": "'n'", "pattern_type": "'t'", "language": "'l'", "template_code": "'c'"}


RULES: list[tuple[str, list[str], list[str]]] = [
    ("pattern_name", ["'x'", "repeat('ä', 255)"], ["''", "repeat('x', 256)"]),
    ("pattern_type", ["'x'", "repeat('x', 100)"], ["''", "repeat('x', 101)"]),
    ("language", ["'x'", "repeat('x', 50)"], ["''", "repeat('x', 51)"]),
    ("confidence_score", ["0", "1"], ["-0.001", "1.001", "'NaN'", "'inf'"]),
    ("success_rate", ["0", "1"], ["-0.001", "1.001", "'NaN'"]),
    ("maintainability_score", ["0", "1", "NULL"], ["-0.001", "1.001", "'NaN'"]),
    ("performance_score", ["0", "1", "NULL"], ["-0.001", "1.001", "'NaN'"]),
    ("usage_count", ["0", "2147483647"], ["-1"]),
    ("complexity_score", ["1", "10", "NULL"], ["0", "11"]),
    ("context", ["'{}'"], ["'[]'", "'1'", "'null'"]),
]


def test_the_database_keeps_the_rules_itself(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        for column, good, bad in RULES:
            for value in [*good, *bad]:
                values = GOOD | {column: value}
                statement = f"INSERT INTO pattern_templates ({', '.join(values)}) VALUES ({', '.join(values.values())})"
                with connection.transaction(force_rollback=True):
                    if value in good:
                        connection.execute(statement.encode())
                        continue
                    with pytest.raises(psycopg.errors.CheckViolation):
                        connection.execute(statement.encode())
