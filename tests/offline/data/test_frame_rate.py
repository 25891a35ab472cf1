"""The frame rate of a data set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from offline.data.frame_rate import USUAL_RATE, usual_rate

if TYPE_CHECKING:
    from pathlib import Path


def test_it_is_what_most_recordings_have(fixtures: Path) -> None:
    clips = fixtures / "clips"
    grid = [clips / name for name in ("swiz3n.mpg", "lbax4n.mpg", "pwij3p.mpg")]
    assert usual_rate(grid) == 25
    assert usual_rate([*grid, clips / "weekly_address_5s.mp4"]) == 25


def test_ntsc_is_thirty(fixtures: Path) -> None:
    assert usual_rate([fixtures / "clips" / "weekly_address_5s.mp4"]) == 30
    assert usual_rate([fixtures / "clips" / "1001_DFA_HAP_XX.flv"]) == 30


def test_what_tells_no_rate_does_not_count(fixtures: Path, tmp_path: Path) -> None:
    (tmp_path / "x.mp4").write_bytes(b"no video")
    assert usual_rate([tmp_path / "x.mp4", tmp_path / "absent.mp4"]) == USUAL_RATE
    assert usual_rate([tmp_path / "x.mp4", fixtures / "clips" / "swiz3n.mpg"]) == 25
    assert usual_rate([]) == USUAL_RATE
