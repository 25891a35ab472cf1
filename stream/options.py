"""What the user asked for: the input side and the output side of a run, and of the input side the engine's part."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, cast, get_args

from models.errors import UserError
from stream.flow.ladder import AUTO

LATENCY_TARGET_MS: Final = 70.0
"""How long a recording's frame may wait to be estimated with others: for two more at 30 frames a second."""

DEFAULT_BUNDLE: Final = "people"
"""Served unless another is named: it learned from real people."""

DEMO_BUNDLE: Final = "demo"
"""Served with the demo recording unless another is named: it learned from drawn people, as the one in that is."""

Pace = Literal["live", "fast"]
DetectorChoice = Literal["auto", "haar", "yunet"]
ViewChoice = Literal["auto", "full", "plain", "none"]

LSL_NAME: Final = "affectstream"
"""The stream's name over LSL, unless another is given."""

DEMO_RECORDING: Final = Path(__file__).parent / "assets" / "demo.mp4"


@dataclass(frozen=True)
class InputOptions:
    """What a run is made of, by the names that `stream-run --help` explains.

    The reference, eager, computes unless another accelerator is named; `stream-run` itself asks for `auto`.
    """

    source: str
    bundle: str = DEFAULT_BUNDLE
    pace: Pace = "live"
    detector: DetectorChoice = "auto"
    recogniser: str = "auto"
    microphone: str | None = None
    size: tuple[int, int] | None = None
    frame_rate: float | None = None
    threads: int | None = None
    budget: str = AUTO
    accelerator: str = "eager"
    latency_target_ms: float = LATENCY_TARGET_MS


@dataclass(frozen=True)
class EngineSettings:
    """How the engine runs.

    `pace` concerns recordings: `live` waits for each frame's time, `fast` for nothing. `budget` concerns live
    sources: `auto`, or the rung of `stream.flow.ladder` to stay on. `latency_target_ms` is how long a recording's
    frame may wait for others to be estimated with; it bounds how many of a live source's are.
    """

    pace: Pace = "live"
    budget: str = AUTO
    latency_target_ms: float = LATENCY_TARGET_MS


@dataclass(frozen=True)
class OutputOptions:
    """Where estimates go.

    `broker` is an address, `embedded`, `embedded://host:port` or `none`; `rate` the most provisional estimates a
    second that are published (None: all); `labels` a file with the recording's true valence and arousal, to show
    beside the estimates. `client_cert` and `client_key` (PEM) say to a broker with TLS who we are,
    `broker_password_file` holds the password there. With `home_assistant` the publisher is announced under that one's
    discovery prefix. `lsl` publishes over LSL, as `lsl_name`; `lsl_markers` takes markers from there; `metrics` is
    where they are served. `page` serves the page, at `page_address` (HOST:PORT) and to those who show `page_token`;
    `preview` shows the face crop on it (`stream.page.options`). `session` is a new folder for everything that came of
    the run, with `participant` and `notes` written down, and, where `keep_media`, picture and sound.
    """

    broker: str = "none"
    ca_file: Path | None = None
    publisher_id: str | None = None
    record: Path | None = None
    overwrite: bool = False
    rate: float | None = None
    publish_transcript: bool = False
    labels: Path | None = None
    view: ViewChoice = "auto"
    client_cert: Path | None = None
    client_key: Path | None = None
    broker_password_file: Path | None = None
    home_assistant: bool = False
    home_assistant_prefix: str = "homeassistant"
    lsl: bool = False
    lsl_name: str | None = None
    lsl_markers: bool = False
    metrics: str | None = None
    page: bool = False
    page_address: str | None = None
    page_token: str | None = field(default=None, repr=False)
    preview: bool = False
    session: Path | None = None
    participant: str | None = None
    notes: str | None = None
    keep_media: bool = False


def parse_detector(name: str) -> DetectorChoice:
    """The face detector of a name. Raises UserError for another."""
    for choice in get_args(DetectorChoice):
        if name == choice:
            return cast("DetectorChoice", choice)
    raise UserError(f"unknown face detector '{name}': choose auto, haar or yunet")
