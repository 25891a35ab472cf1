"""What leaves the engine: estimates, status and words, as frozen data and as published JSON; and what it is told."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from stream.schemas import forms

if TYPE_CHECKING:
    from collections.abc import Mapping

    from models.speech.words import WordsRevised

SCHEMA: Final = forms.SCHEMA

Health = forms.Health
Phase = forms.Phase

EngineCommand = Literal["pause", "resume", "recenter"]
"""What the engine can be told while it runs, in the process or by a message to the broker."""

Origin = forms.Origin
"""By which way a marker came."""

MOST_MARKER_CHARACTERS: Final = forms.MOST_MARKER_CHARACTERS


@dataclass(frozen=True)
class CommandOutcome:
    """Whether a command was obeyed; where it was not, or changed nothing, why."""

    obeyed: bool
    reason: str = ""


@dataclass(frozen=True)
class Marker:
    """A moment that somebody marked: a stimulus, a question, a change of scene.

    `text` is one line of 1 to `MOST_MARKER_CHARACTERS` printable characters. `marked_at` is the wall-clock time that
    is marked, in seconds since the epoch; `time_s` that moment in media seconds from the source's first frame, None
    before the first estimate.
    """

    text: str
    marked_at: float
    time_s: float | None
    origin: Origin

    def to_json(self) -> dict[str, Any]:
        """The MQTT form (`schemas/marker.json`)."""
        form: forms.MarkerForm = {
            "schema": SCHEMA,
            "text": self.text,
            "marked_at": round(self.marked_at, 6),
            "time_s": None if self.time_s is None else round(self.time_s, 6),
            "origin": self.origin,
        }
        return _plain(form)


@dataclass(frozen=True)
class Present:
    """What was there to go by at a frame: a face in the picture, a voice in the sound, a word being said."""

    face: bool
    voice: bool
    words: bool


@dataclass(frozen=True)
class Affect:
    """A pair of values, one per target."""

    valence: float
    arousal: float

    @property
    def pair(self) -> tuple[float, float]:
        """Both, in the order of `models.spec.TARGETS`."""
        return self.valence, self.arousal


@dataclass(frozen=True)
class Estimate:
    """One frame's answer.

    `value` is the CCC-centered merge of all folds, clipped to [-1, 1]; `spread` the standard deviation between the
    centred folds (0 for one fold), or of a calibrated bundle the error to expect; `folds` each fold's own output,
    unclipped. `time_s` is the frame's media time in seconds from the source's first frame, `captured_at` its
    wall-clock capture time (seconds since the epoch) and `latency_ms` the time from then until the estimate was ready
    (None for settled estimates and for files replayed faster than they play); `perceived_at`, None where that is, the
    wall-clock time at which sight and sound of the frame were looked at. `words` is what is being said at this
    frame as far as is known, joined by spaces; it leaves the process only where the user asked for it. `degraded`
    names what a live engine that could not keep up spared at this frame (`stream.flow.ladder`), None
    where it spared nothing.
    """

    frame: int
    time_s: float
    captured_at: float
    value: Affect
    spread: Affect
    folds: tuple[Affect, ...]
    present: Present
    settled: bool
    latency_ms: float | None = None
    words: str = ""
    degraded: str | None = None
    perceived_at: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The MQTT form (`schemas/estimate.json`, and of a settled estimate `schemas/settled.json`)."""
        frame = self._frame_form()
        if self.settled:
            settled: forms.SettledForm = {
                **frame,
                "settled": True,
                "latency_ms": None,
                "degraded": self.degraded,
            }
            return _plain(settled)
        estimate: forms.EstimateForm = {
            **frame,
            "settled": False,
            "latency_ms": None if self.latency_ms is None else round(self.latency_ms, 3),
            "degraded": self.degraded,
        }
        return _plain(estimate)

    def to_state(self) -> dict[str, Any]:
        """The MQTT form of the latest estimate, for those who come late (`schemas/state.json`)."""
        state: forms.StateForm = {**self._frame_form(), "degraded": self.degraded}
        return _plain(state)

    def _frame_form(self) -> forms.FrameForm:
        return {
            "schema": SCHEMA,
            "frame": self.frame,
            "time_s": round(self.time_s, 6),
            "captured_at": round(self.captured_at, 6),
            "valence": round(self.value.valence, 6),
            "arousal": round(self.value.arousal, 6),
            "spread": {"valence": round(self.spread.valence, 6), "arousal": round(self.spread.arousal, 6)},
            "present": {
                "face": self.present.face,
                "voice": self.present.voice,
                "words": self.present.words,
            },
        }

    def to_record(self) -> dict[str, Any]:
        """The recorded form: nothing of the wall clock, so that replaying a file repeats it byte for byte."""
        return {
            "schema": SCHEMA,
            "frame": self.frame,
            "time_s": round(self.time_s, 6),
            "valence": round(self.value.valence, 6),
            "arousal": round(self.value.arousal, 6),
            "spread": {k: round(v, 6) for k, v in asdict(self.spread).items()},
            "folds": [[round(f.valence, 6), round(f.arousal, 6)] for f in self.folds],
            "present": asdict(self.present),
            "degraded": self.degraded,
        }


@dataclass(frozen=True)
class InputStatus:
    """One input's health, what it is, and (where it is not `ok`) the way out."""

    health: Health
    detail: str = ""
    way_out: str = ""


@dataclass(frozen=True)
class BundleStatus:
    """Which fold models are at work; `note` says what they are good for, and what not."""

    name: str
    preset: str
    folds: int
    trained: bool
    note: str = ""


@dataclass(frozen=True)
class Latency:
    """Percentiles in milliseconds over the last frames, None before the first."""

    p50: float | None = None
    p95: float | None = None
    p99: float | None = None


@dataclass(frozen=True)
class Status:
    """The engine's state: published on change and every 5 s (`schemas/status.json`).

    `budget` is `auto` or the rung of `stream.flow.ladder` that the engine is to stay on; `degraded` the rung it is
    on, None at full. `notes` say, a line each, what should be known of the source, and what was asked for and cannot
    be had.
    """

    phase: Phase
    source: str
    inputs: dict[str, InputStatus]
    frames: int
    settled: int
    frame_rate: float
    latency_ms: Latency
    drops: dict[str, int]
    bundle: BundleStatus
    accelerator: str
    detector: str
    version: str
    counters: dict[str, float] = field(default_factory=dict)
    budget: str = "auto"
    degraded: str | None = None
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The MQTT form (`schemas/status.json`)."""
        form: forms.StatusForm = {
            "schema": SCHEMA,
            "phase": self.phase,
            "source": self.source,
            "inputs": {
                name: {"health": each.health, "detail": each.detail, "way_out": each.way_out}
                for name, each in self.inputs.items()
            },
            "frames": self.frames,
            "settled": self.settled,
            "frame_rate": self.frame_rate,
            "latency_ms": {
                "p50": self.latency_ms.p50,
                "p95": self.latency_ms.p95,
                "p99": self.latency_ms.p99,
            },
            "drops": dict(self.drops),
            "bundle": {
                "name": self.bundle.name,
                "preset": self.bundle.preset,
                "folds": self.bundle.folds,
                "trained": self.bundle.trained,
                "note": self.bundle.note,
            },
            "accelerator": self.accelerator,
            "detector": self.detector,
            "version": self.version,
            "counters": dict(self.counters),
            "budget": self.budget,
            "degraded": self.degraded,
            "notes": list(self.notes),
        }
        return _plain(form)


@dataclass(frozen=True)
class TranscriptWord:
    """One word: its text, when it was said (media seconds), how sure the recogniser is (0 to 1, or None)."""

    text: str
    start_s: float
    end_s: float
    confidence: float | None = None


@dataclass(frozen=True)
class Transcript:
    """One utterance as far as it is known; it replaces what was said about the same `utterance` before.

    Words leave the process only where the user asked for it.

    `utterance` counts from 0 within a run. `settled` says that no word of it can change any more.
    """

    utterance: int
    words: tuple[TranscriptWord, ...]
    settled: bool

    @classmethod
    def of(cls, event: WordsRevised) -> Transcript:
        """What the recogniser said."""
        words = tuple(TranscriptWord(w.text, w.start_s, w.end_s, w.confidence) for w in event.words)
        return cls(event.utterance, words, event.closed)

    @property
    def text(self) -> str:
        """The words joined by spaces."""
        return " ".join(word.text for word in self.words)

    def to_json(self) -> dict[str, Any]:
        """The MQTT form (`schemas/transcript.json`)."""
        form: forms.TranscriptForm = {
            "schema": SCHEMA,
            "utterance": self.utterance,
            "text": self.text,
            "settled": self.settled,
            "words": [
                {
                    "text": word.text,
                    "start_s": round(word.start_s, 3),
                    "end_s": round(word.end_s, 3),
                    "confidence": word.confidence,
                }
                for word in self.words
            ],
        }
        return _plain(form)


def _plain(form: Mapping[str, object]) -> dict[str, Any]:
    """A message as whoever writes or reads JSON takes it."""
    return dict(form)
