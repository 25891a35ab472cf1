"""The recording that ships (stream/assets/demo.mp4): half a minute of one performed person, trajectory known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from offline.files import write_text
from offline.performer.performance import FULLY_EXPRESSIVE, Performance, perform, script_text
from offline.performer.person import DEMO_PERSON
from offline.performer.recording import write_recording
from offline.performer.trajectory import composed_trajectory, to_text

if TYPE_CHECKING:
    from pathlib import Path

FRAME_RATE: Final = 30.0
DURATION_S: Final = 32.0
SIZE: Final = (640, 480)
SEED: Final = 2

# Time in seconds, valence, arousal: at ease, delighted, taken aback, furious, sad, consoled, glad.
KNOTS: Final = (
    (0.0, 0.10, -0.20),
    (2.0, 0.20, -0.10),
    (4.0, 0.80, 0.50),
    (8.0, 0.90, 0.80),
    (10.0, 0.30, 0.40),
    (12.0, -0.70, 0.65),
    (15.0, -0.85, 0.85),
    (18.0, -0.70, -0.35),
    (22.5, -0.75, -0.65),
    (25.5, 0.35, -0.65),
    (28.0, 0.50, -0.50),
    (30.0, 0.80, 0.35),
    (32.0, 0.75, 0.40),
)


def perform_demo() -> Performance:
    """The demo's performance."""
    labels = composed_trajectory(KNOTS, round(DURATION_S * FRAME_RATE), FRAME_RATE)
    return perform(DEMO_PERSON, labels, seed=SEED, frame_rate=FRAME_RATE, expressiveness=FULLY_EXPRESSIVE)


def write_demo(video: Path) -> Performance:
    """Write the recording, and its trajectory beside it as `.txt` in Aff-Wild2's form; what is said as `.csv`.

    Raises UserError where espeak-ng is missing or the files cannot be written.
    """
    performance = perform_demo()
    write_recording(video, performance, SIZE, quality=25, preset="slow")
    write_text(video.with_suffix(".txt"), to_text(performance.labels))
    write_text(video.with_suffix(".csv"), script_text(performance))
    return performance
