"""What a run can be told from outside while it goes: by the broker, the page, the terminal, another program."""

from __future__ import annotations

from typing import Protocol

from models.errors import UserError
from stream.messages import MOST_MARKER_CHARACTERS, CommandOutcome, EngineCommand, Marker, Origin


class Controlled(Protocol):
    """What is told: the engine."""

    def command(self, command: EngineCommand) -> CommandOutcome:
        """Obeys, or says why not."""
        ...

    def mark(self, text: str, origin: Origin, marked_at: float | None = None) -> Marker:
        """Marks a moment, by default this one."""
        ...


class Controls:
    """Passes on to the engine what any number of far ends ask, once there is one; call it on the engine's loop.

    Sinks are made before the engine that they steer: they are given this, and `attach` gives it the engine.
    """

    def __init__(self) -> None:
        self._engine: Controlled | None = None

    def attach(self, engine: Controlled) -> None:
        """From now on this engine is told."""
        self._engine = engine

    def command(self, command: EngineCommand) -> CommandOutcome:
        """Tells the engine."""
        if self._engine is None:
            return CommandOutcome(False, "the run has not begun")
        return self._engine.command(command)

    def mark(self, text: str, origin: Origin, marked_at: float | None = None) -> Marker:
        """Marks a moment (`marked_at` seconds since the epoch, by default now) for whoever keeps markers.

        Raises UserError for a text that no marker can have, and before the run has begun.
        """
        if self._engine is None:
            raise UserError("the run has not begun: mark again once it has")
        return self._engine.mark(check_marker_text(text), origin, marked_at)


def check_marker_text(text: str) -> str:
    """The text without space around it. Raises UserError where it is empty, too long, or more than one line."""
    text = text.strip()
    if not text:
        raise UserError("a marker without a text says nothing: give it one")
    if len(text) > MOST_MARKER_CHARACTERS:
        raise UserError(
            f"a marker has at most {MOST_MARKER_CHARACTERS} characters, not {len(text)}: shorten it"
        )
    if not text.isprintable():
        raise UserError("a marker is one line of printable text: leave out line ends and control characters")
    return text
