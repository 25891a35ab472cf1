"""The published messages, field by field: what each means and may be. The one source of the JSON Schemas.

`stream.messages` builds messages of these types, so that a type checker holds it to them; `stream.schemas.generate`
makes the schemas of them. Annotations are evaluated at run time, by pydantic.
"""

from typing import Annotated, Final, Literal

from pydantic import Field
from typing_extensions import TypedDict

SCHEMA: Final = 1
"""The version of every form."""

MOST_MARKER_CHARACTERS: Final = 200

Version = Annotated[
    Literal[1],
    Field(description="The version of this form. Within a version fields may be added, never changed."),
]
Frame = Annotated[int, Field(ge=0, description="The frame's number in its source, from 0.")]
MediaTime = Annotated[float, Field(description="Media time in seconds from the source's first frame.")]
CaptureTime = Annotated[float, Field(description="Wall-clock capture time, seconds since the epoch.")]
Valence = Annotated[float, Field(ge=-1, le=1, description="Negative (-1) to positive (1).")]
Arousal = Annotated[float, Field(ge=-1, le=1, description="Calm (-1) to excited (1).")]
Count = Annotated[int, Field(ge=0)]
Amount = Annotated[float, Field(ge=0)]

Health = Literal["ok", "off", "waiting", "lost", "ended"]
Phase = Literal["starting", "running", "paused", "stopped"]
Origin = Literal["mqtt", "page", "terminal", "lsl", "python"]


class SpreadForm(TypedDict):
    """A spread per target."""

    valence: Amount
    arousal: Amount


class PresentForm(TypedDict):
    """What there was to go by."""

    face: bool
    voice: bool
    words: bool


Spread = Annotated[
    SpreadForm,
    Field(
        description="Standard deviation between the folds, 0 for one fold: how far they disagree. Of a calibrated "
        "bundle the error to expect."
    ),
]
WhatWasPresent = Annotated[
    PresentForm,
    Field(
        description="What there was to go by: a face in the picture, a voice in the sound, a word being said."
    ),
]
Spared = Annotated[
    str | None,
    Field(
        description="What a live engine that could not keep up spared at this frame: visual-2, visual-3, audio-3, "
        "half-folds, one-fold, or folds-returning; null where nothing."
    ),
]


class FrameForm(TypedDict):
    """What every message of a frame begins with."""

    schema: Version
    frame: Frame
    time_s: MediaTime
    captured_at: CaptureTime
    valence: Valence
    arousal: Arousal
    spread: Spread
    present: WhatWasPresent


class StateForm(FrameForm):
    """The latest provisional estimate, once a second, retained."""

    degraded: Spared


class EstimateForm(FrameForm):
    """One frame's answer as soon as there is one, with the words known so far."""

    settled: Literal[False]
    latency_ms: Annotated[
        Amount | None,
        Field(
            description="Milliseconds from capture until the estimate was ready; null where that has no meaning (a "
            "file replayed faster than it plays)."
        ),
    ]
    degraded: Spared


class SettledForm(FrameForm):
    """One frame's answer when no word can change it any more; every frame once, in order."""

    settled: Literal[True]
    latency_ms: Annotated[None, Field(description="A settled estimate has none.")]
    degraded: Spared


class InputForm(TypedDict):
    """One input."""

    health: Health
    detail: str
    way_out: Annotated[str, Field(description="What would mend it; empty where nothing needs mending.")]


class LatencyForm(TypedDict):
    """Percentiles in milliseconds."""

    p50: Amount | None
    p95: Amount | None
    p99: Amount | None


class BundleForm(TypedDict):
    """The fold models at work."""

    name: str
    preset: str
    folds: Annotated[int, Field(ge=1)]
    trained: Annotated[bool, Field(description="False: the numbers mean nothing.")]
    note: Annotated[str, Field(description="In a sentence: what it is, what it is good for, and what not.")]


class StatusForm(TypedDict):
    """How the publisher is doing, on change and every 5 s, retained."""

    schema: Version
    phase: Phase
    source: Annotated[str, Field(description="What is watched and listened to.")]
    inputs: Annotated[dict[str, InputForm], Field(description="Each input's health, by name.")]
    frames: Annotated[Count, Field(description="Frames estimated so far.")]
    settled: Annotated[Count, Field(description="Frames settled so far.")]
    frame_rate: Annotated[Amount, Field(description="Estimates a second over the last seconds.")]
    latency_ms: Annotated[
        LatencyForm, Field(description="Percentiles over the last frames, null before the first.")
    ]
    drops: Annotated[dict[str, Count], Field(description="What was dropped, by cause.")]
    bundle: Annotated[BundleForm, Field(description="Which fold models are at work.")]
    accelerator: Annotated[str, Field(description="How sight and sound are computed.")]
    detector: str
    version: str
    counters: Annotated[dict[str, float], Field(description="Whatever else is counted, by name.")]
    budget: Annotated[str, Field(description="auto, or the rung of the ladder that it was told to stay on.")]
    degraded: Annotated[
        str | None,
        Field(description="The rung of the ladder it is on, null at full: see `degraded` in estimates."),
    ]
    notes: Annotated[
        list[str],
        Field(
            description="What should be known of the source, and what was asked for and cannot be had, a line each."
        ),
    ]


class WordForm(TypedDict):
    """One word."""

    text: str
    start_s: Annotated[float, Field(description="Media seconds.")]
    end_s: Annotated[float, Field(description="Media seconds.")]
    confidence: Annotated[float, Field(ge=0, le=1)] | None


class TranscriptForm(TypedDict):
    """One utterance as far as it is known; replaces what was said about the same utterance. Published only where the
    user asked for it.
    """

    schema: Version
    utterance: Annotated[int, Field(ge=0, description="Counts from 0 within a run.")]
    text: str
    settled: Annotated[bool, Field(description="Whether no word of it can change any more.")]
    words: list[WordForm]


class MarkerForm(TypedDict):
    """A moment that somebody marked: a stimulus, a question, a change of scene."""

    schema: Version
    text: Annotated[
        str,
        Field(
            min_length=1,
            max_length=MOST_MARKER_CHARACTERS,
            description="What was marked, in one line.",
        ),
    ]
    marked_at: Annotated[
        float, Field(description="The wall-clock time that is marked, seconds since the epoch.")
    ]
    time_s: Annotated[
        float | None,
        Field(
            description="That moment in media seconds from the source's first frame; null before the first estimate."
        ),
    ]
    origin: Annotated[Origin, Field(description="By which way the marker came.")]


class AckForm(TypedDict):
    """The answer to a command under set/: whether it was obeyed."""

    schema: Version
    command: Annotated[str, Field(description="The last level of the command's topic: pause for set/pause.")]
    obeyed: bool
    reason: Annotated[
        str,
        Field(
            description="Why it was not obeyed, or that it changed nothing; empty where there is nothing to say."
        ),
    ]
    correlation: Annotated[
        str | None,
        Field(
            pattern="^([0-9a-f]{2})*$",
            description="The command's MQTT 5 correlation data in hexadecimal; null where it had none.",
        ),
    ]
