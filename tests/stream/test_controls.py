"""What a run can be told from outside: passed on to the engine, refused in words before there is one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import UserError
from stream.controls import Controls, check_marker_text
from stream.messages import MOST_MARKER_CHARACTERS, CommandOutcome, EngineCommand, Marker, Origin


class Engine:
    def command(self, command: EngineCommand) -> CommandOutcome:
        return CommandOutcome(True, f"did {command}")

    def mark(self, text: str, origin: Origin, marked_at: float | None = None) -> Marker:
        return Marker(text, marked_at or 0.0, 1.0, origin)


def test_before_there_is_an_engine_everything_is_refused() -> None:
    controls = Controls()
    assert controls.command("pause") == CommandOutcome(False, "the run has not begun")
    with pytest.raises(UserError, match="not begun: mark again"):
        controls.mark("early", "page")


def test_what_is_asked_is_passed_on() -> None:
    controls = Controls()
    controls.attach(Engine())
    assert controls.command("resume") == CommandOutcome(True, "did resume")
    assert controls.mark("  a door ", "lsl", 5.0) == Marker("a door", 5.0, 1.0, "lsl")


@pytest.mark.parametrize(
    ("text", "named"),
    [("", "without a text"), (" \n ", "without"), ("a\nb", "one line"), ("x" * 201, "200 characters")],
)
def test_a_text_that_cannot_be_a_marker_is_refused_in_words(text: str, named: str) -> None:
    controls = Controls()
    controls.attach(Engine())
    with pytest.raises(UserError, match=named):
        controls.mark(text, "page")


@given(st.text())
def test_a_marker_is_one_printable_line_of_bounded_length_or_refused(text: str) -> None:
    try:
        kept = check_marker_text(text)
    except UserError:
        return
    assert kept == text.strip()
    assert kept.isprintable()
    assert 0 < len(kept) <= MOST_MARKER_CHARACTERS
