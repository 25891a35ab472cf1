"""Picture and sound as they were used: on the right times, playable after a kill, and never in the engine's way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest

from stream.session_folder import media
from stream.session_folder.media import MediaKeeper
from stream.sources.events import SAMPLE_RATE, AudioChunk, NoPicture, VideoFrame
from tests.stream.sessions import INFO


def picture(index: int, time_s: float | None = None, *, repeated: bool = False) -> VideoFrame:
    """A grey that gets lighter, of a size that is not even."""
    rgb = np.full((49, 65, 3), 20 + 2 * index, np.uint8)
    return VideoFrame(index, index / 30 if time_s is None else time_s, 0.0, rgb, repeated)


def sound(start_s: float, seconds: float) -> AudioChunk:
    samples = np.full(int(seconds * SAMPLE_RATE), 0.25, np.float32)
    return AudioChunk(int(start_s * SAMPLE_RATE), samples)


def pictures_of(path: Path) -> list[tuple[float, float]]:
    """The time and the mean grey of every picture."""
    with av.open(str(path)) as container:
        return [
            (float(f.time or 0), float(f.to_ndarray(format="gray").mean())) for f in container.decode(video=0)
        ]


def test_every_picture_is_at_its_time_and_the_sound_at_its_own(tmp_path: Path) -> None:
    keeper = MediaKeeper(tmp_path / "media.mkv", INFO, live=False)
    keeper.start()
    times = [0.0, 0.0333, 0.0336, 0.1, 2.0]
    for index, time_s in enumerate(times):
        keeper.offer(picture(10 * index, time_s))
    keeper.offer(NoPicture(5, 2.1, 0.0))
    keeper.offer(picture(99, 2.2, repeated=True))
    keeper.offer(sound(0.5, 0.25))
    keeper.offer(sound(1.5, 0.5))
    keeper.close()
    assert keeper.failure is None
    assert keeper.drops == {}
    assert keeper.frames == 5
    assert keeper.sound_s == 0.75
    found = pictures_of(tmp_path / "media.mkv")
    assert [time_s for time_s, _ in found] == pytest.approx(times, abs=0.0015)
    greys = [grey for _, grey in found]
    assert greys == sorted(greys)
    with av.open(str(tmp_path / "media.mkv")) as container:
        heard = [(float(f.time or 0), f.samples) for f in container.decode(audio=0)]
    assert heard[0][0] == pytest.approx(0.5, abs=0.002)
    assert sum(samples for _, samples in heard) == 0.75 * SAMPLE_RATE
    assert any(time_s == pytest.approx(1.5, abs=0.002) for time_s, _ in heard)


def test_a_live_source_is_never_held_up_and_what_was_dropped_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media, "MOST_WAITING_BYTES", 3 * picture(0).rgb.nbytes)
    slow = media._Writer.write

    def write_slowly(self: media._Writer, event: VideoFrame | AudioChunk) -> None:
        time.sleep(0.05)
        slow(self, event)

    monkeypatch.setattr(media._Writer, "write", write_slowly)
    for live in (True, False):
        keeper = MediaKeeper(tmp_path / f"{live}.mkv", INFO, live=live)
        keeper.start()
        began_s = time.monotonic()
        for index in range(20):
            keeper.offer(picture(index))
        offered_s = time.monotonic() - began_s
        keeper.close()
        if live:
            assert offered_s < 0.05
            assert keeper.drops["session_media_busy"] + keeper.frames == 20
            assert keeper.drops["session_media_busy"] > 0
        else:
            assert offered_s > 0.5
            assert keeper.drops == {}
            assert keeper.frames == 20


def test_nothing_of_a_person_is_kept_while_a_live_run_is_paused(tmp_path: Path) -> None:
    keeper = MediaKeeper(tmp_path / "media.mkv", INFO, live=True)
    keeper.start()
    for index in range(9):
        keeper.hold(3 <= index < 6)
        keeper.offer(picture(index))
        keeper.offer(sound(index / 30, 1 / 30))
    keeper.close()
    times = [time_s for time_s, _ in pictures_of(tmp_path / "media.mkv")]
    assert times == pytest.approx([index / 30 for index in (0, 1, 2, 6, 7, 8)], abs=0.002)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("path", ["/dev/full", "/nowhere/media.mkv"])
def test_a_full_disk_is_counted_and_said(path: str) -> None:
    keeper = MediaKeeper(Path(path), INFO, live=True)
    keeper.start()
    for index in range(100):
        keeper.offer(picture(index))
        time.sleep(0.002)
    keeper.close()
    assert keeper.failure
    assert keeper.drops["session_media_failed"] > 0


KEEPER = """
import sys, time
from pathlib import Path
from tests.stream.session_folder.test_media import INFO, picture, sound
from stream.session_folder.media import MediaKeeper

keeper = MediaKeeper(Path(sys.argv[1]), INFO, live=False)
keeper.start()
for index in range(300):
    keeper.offer(picture(index % 100, index / 30))
    keeper.offer(sound(index / 30, 1 / 30))
while keeper.frames < 300:
    time.sleep(0.01)
print("there", flush=True)
time.sleep(60)
"""


def test_a_kill_costs_at_most_two_seconds(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", KEEPER, str(tmp_path / "media.mkv")],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "there\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert len(pictures_of(tmp_path / "media.mkv")) >= 300 - 60
