"""`recommended` stands for what a real person needs; each part once."""

from __future__ import annotations

import pytest

from models.errors import UserError
from models.parts.recommended import chosen_parts, pull_command_for, size_and_licence
from models.parts.registry import get_part

REAL = ["yunet", "vosk-model-small-en-us-0.15"]


def test_it_stands_for_its_parts_and_those_that_bundles_want() -> None:
    assert [part.name for part in chosen_parts(["recommended"])] == REAL
    found = chosen_parts(["yunet", "recommended", "vggish"], ["vggish", "bert-base-uncased"])
    assert [part.name for part in found] == [*REAL, "vggish", "bert-base-uncased"]


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(UserError, match="there is no part 'recommend'"):
        chosen_parts(["recommend"])


def test_one_command_installs_what_is_missing() -> None:
    assert pull_command_for(REAL) == "models-pull recommended"
    assert pull_command_for(["yunet"]) == "models-pull yunet"
    assert pull_command_for(["yunet", "vggish"]) == "models-pull yunet vggish"


def test_size_and_licence_are_told() -> None:
    assert size_and_licence(get_part("yunet")) == "yunet (face detector, 1 MB, MIT)"
