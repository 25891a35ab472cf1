"""Commands that come in on `affect/<id>/set/...`: read, obeyed, and answered."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast, get_args

from models.errors import UserError
from stream.broker.mqtt5 import correlation_of, wants_answer_at
from stream.messages import SCHEMA, CommandOutcome, EngineCommand

if TYPE_CHECKING:
    from collections import Counter

    import aiomqtt

    from stream.controls import Controlled
    from stream.schemas import forms

COMMANDS: Final = (*get_args(EngineCommand), "marker")

MOST_NAME_CHARACTERS: Final = 64
LARGEST_MARKER_BYTES: Final = 4096
LATEST_TIME_S: Final = 253_402_300_800.0
"""The year 10000, which no clock of today reaches."""

_MARKER_EXAMPLE: Final = 'send its text, or JSON such as {"text": "question 2", "at": 1795508834.5}'


@dataclass(frozen=True)
class Acknowledgement:
    """The answer to a command.

    `correlation` is what the sender gave to know the answer by, `answer_at` the topic where it wants the answer too.
    """

    command: str
    outcome: CommandOutcome
    correlation: bytes | None = None
    answer_at: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The MQTT form (`schemas/ack.json`)."""
        form: forms.AckForm = {
            "schema": SCHEMA,
            "command": self.command,
            "obeyed": self.outcome.obeyed,
            "reason": self.outcome.reason,
            "correlation": None if self.correlation is None else self.correlation.hex(),
        }
        return dict(form)


class CommandDesk:
    """Has commands obeyed by `controls`, and says what came of each; without `controls` none is obeyed.

    Counted: `mqtt_commands` (those that there are, obeyed or not), `mqtt_commands_unknown`,
    `mqtt_commands_malformed` and `mqtt_commands_retained`.
    """

    def __init__(self, controls: Controlled | None, counters: Counter[str]) -> None:
        self._controls = controls
        self._counters = counters

    def take(self, message: aiomqtt.Message) -> Acknowledgement | None:
        """Have a command obeyed; None for one that the broker retained, which nobody answers.

        An old command is not obeyed: it would pause every later run too.
        """
        if message.retain:
            self._counters["mqtt_commands_retained"] += 1
            return None
        below, _, name = str(message.topic).rpartition("/")
        payload = message.payload if isinstance(message.payload, bytes) else b""
        answer_at = wants_answer_at(message)
        return Acknowledgement(
            name[:MOST_NAME_CHARACTERS],
            self._obey(name, payload),
            correlation_of(message),
            answer_at if answer_at and _may_be_answered(answer_at, below) else None,
        )

    def _obey(self, name: str, payload: bytes) -> CommandOutcome:
        if name not in COMMANDS:
            self._counters["mqtt_commands_unknown"] += 1
            return CommandOutcome(False, f"there is no such command: there are {', '.join(COMMANDS)}")
        self._counters["mqtt_commands"] += 1
        if self._controls is None:
            return CommandOutcome(False, "this publisher takes no commands")
        if name != "marker":
            return self._controls.command(cast("EngineCommand", name))
        try:
            text, marked_at = read_marker(payload)
            self._controls.mark(text, "mqtt", marked_at)
        except ValueError as error:
            self._counters["mqtt_commands_malformed"] += 1
            return CommandOutcome(False, str(error))
        except UserError as error:
            return CommandOutcome(False, str(error))
        return CommandOutcome(True)


def read_marker(payload: bytes) -> tuple[str, float | None]:
    """Text and time (seconds since the epoch, None for now) of a marker, from text or JSON `{"text", "at"}`.

    Raises ValueError, in one line, for what is neither.
    """
    if len(payload) > LARGEST_MARKER_BYTES:
        raise ValueError(f"that is {len(payload)} bytes, too many for a marker: {_MARKER_EXAMPLE}")
    try:
        text = payload.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"that is not UTF-8: {_MARKER_EXAMPLE}") from None
    if not text.lstrip().startswith("{"):
        return text, None
    try:
        asked = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError(f"that begins as JSON and is none: {_MARKER_EXAMPLE}") from None
    if unknown := sorted(set(asked) - {"text", "at"}):
        raise ValueError(f"a marker has no {unknown[0][:MOST_NAME_CHARACTERS]!r}: {_MARKER_EXAMPLE}")
    said, marked_at = asked.get("text"), asked.get("at")
    if not isinstance(said, str):
        raise ValueError(f"a marker needs a text: {_MARKER_EXAMPLE}")
    if marked_at is None:
        return said, None
    if isinstance(marked_at, bool) or not isinstance(marked_at, int | float):
        raise ValueError(f"a marker's time is a number, the seconds since the epoch: {_MARKER_EXAMPLE}")
    try:
        seconds = float(marked_at)
    except OverflowError:
        seconds = math.inf
    if not 0 <= seconds < LATEST_TIME_S:
        raise ValueError(f"a marker's time is the seconds since the epoch: {_MARKER_EXAMPLE}")
    return said, seconds


def _may_be_answered(topic: str, commands: str) -> bool:
    """Whether an answer may go to a response topic: a plain one, and none that is a command here."""
    return not set(topic) & set("+#") and not topic.startswith("$") and not topic.startswith(f"{commands}/")
