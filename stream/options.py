"""What the user asked for: the input side and the output side of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from stream.flow.ladder import AUTO

LATENCY_TARGET_MS: Final = 70.0
"""How long a recording's frame may wait for others: for two more at 30 frames a second."""

Pace = Literal["live", "fast"]
DetectorChoice = Literal["auto", "haar", "yunet"]
ViewChoice = Literal["auto", "full", "plain", "none"]

DEMO_RECORDING: Final = Path(__file__).parent / "assets" / "demo.mp4"


@dataclass(frozen=True)
class InputOptions:
    """What a run is made of, by the names that `stream-run --help` explains.

    The reference, eager, computes unless another accelerator is named; `stream-run` itself asks for `auto`.
    """

    source: str
    bundle: str = "demo"
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
class OutputOptions:
    """Where estimates go. `broker` is an address, `embedded` or `none`; `labels` a known trajectory to show."""

    broker: str = "none"
    ca_file: Path | None = None
    publisher_id: str | None = None
    record: Path | None = None
    overwrite: bool = False
    rate: float | None = None
    publish_transcript: bool = False
    labels: Path | None = None
    view: ViewChoice = "auto"
