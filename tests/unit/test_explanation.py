"""Sentences about what pydantic has found."""

import pytest
from pydantic import ValidationError

from pattern_storage.storage.explanation import explain, one_line
from pattern_storage.storage.pattern import Pattern

REST = '"pattern_name": "a", "pattern_type": "b", "language": "c", "template_code": "d"'


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("nonsense", "not JSON at column 2: expected value"),
        ('{"a": ', "not JSON at column 6: it ends within a value"),
        ('{"a": 1,\n oops}', "not JSON at line 2, column 2: key must be a string"),
        (f'{{{REST}, "tags": 5}}', "tags should be a valid list, got 5"),
        (f'{{{REST}, "context": 5}}', "context should be a valid dictionary, got 5"),
    ],
)
def test_a_line_of_json_is_refused_in_the_words_for_a_value(line: str, sentence: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Pattern.model_validate_json(line)
    assert explain(caught.value) == sentence


def test_a_sentence_of_two_lines_is_one_and_nothing_else_is_lost() -> None:
    assert one_line("refused\n\tIs the server running?\nforged\tline") == (
        "refused Is the server running?\\nforged\\tline"
    )
