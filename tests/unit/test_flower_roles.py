"""Logins of Flower's roles, and the edits of its templates."""

import re
from pathlib import Path

import flower
import pytest
from pydantic import SecretStr

from pattern_storage.config.flower_roles import Role, logins
from pattern_storage.config.settings import SettingsInvalid, load_settings
from pattern_storage.tasks.flower.access import find_user
from pattern_storage.tasks.flower.templates_loader import EDITS, edited

TEMPLATES = Path(flower.__file__).parent / "templates"


def test_the_roles_of_logins() -> None:
    settings = load_settings(
        flower_password=SecretStr("pass:word with blanks"), flower_viewers=SecretStr("a:password1\n b:password:2 "),
        flower_operators=SecretStr("c:password3"), flower_admins=SecretStr("d:password4"),
    )  # fmt: skip
    roles = logins(settings)
    assert roles == {
        "admin:pass:word with blanks": Role.ADMIN, "a:password1": Role.VIEWER, "b:password:2": Role.VIEWER,
        "c:password3": Role.OPERATOR, "d:password4": Role.ADMIN,
    }  # fmt: skip
    found = find_user("c:password3", list(roles), roles)
    assert found
    assert (found.name, found.role, found.may(Role.OPERATOR), found.may(Role.ADMIN)) == (
        "c",
        Role.OPERATOR,
        True,
        False,
    )
    for wrong in ("c:password4", "c", "", "c:password3 ", "ç:pässword"):
        assert find_user(wrong, list(roles), roles) is None
    # What Flower's command line accepts beside the settings.
    assert (typed := find_user("x:typed", ["x:typed"], roles))
    assert typed.role is Role.ADMIN
    assert find_user("c:password3", ["x:typed"], roles) is None


@pytest.mark.parametrize(
    ("role", "value", "says"),
    [
        ("viewers", "a:password1 nobody", r"FLOWER_VIEWERS, login number 2, should be user:password, with a blank"),
        ("viewers", ":password1", r"FLOWER_VIEWERS, login number 1, should be user:password"),
        ("operators", "ä:password1", r"FLOWER_OPERATORS, login number 1, should be user:password"),
        ("admins", "a:short77", r"FLOWER_ADMINS, user a, has 7 characters; it should have at least 8"),
        ("admins", "admin:password1", r"FLOWER_ADMINS has the user 'admin', whom \w+FLOWER_USER has already"),
        (
            "operators",
            "a:password1 a:password2",
            r"FLOWER_OPERATORS has the user 'a', whom \w+FLOWER_OPERATORS has alr",
        ),
    ],
)
def test_bad_logins(role: str, value: str, says: str) -> None:
    with pytest.raises(SettingsInvalid, match=says) as caught:
        load_settings(**{f"flower_{role}": SecretStr(value)})
    assert "password1" not in str(caught.value)


@pytest.mark.parametrize("name", EDITS)
def test_every_edit_finds_its_place_in_this_release_of_flower(name: str) -> None:
    text = (TEMPLATES / name).read_text(encoding="utf-8")
    for pattern, _ in EDITS[name]:
        assert re.search(pattern, text, re.DOTALL), pattern
    text = edited(name, text)
    if name == "navbar.html":
        assert "reverse_url('broker')" not in text
        assert "reverse_url('tasks')" in text
