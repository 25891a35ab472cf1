"""Live inputs from outside this process: a stream over UDP whose sender dies, speech through a virtual microphone."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest

from stream.sources.events import SAMPLE_RATE, NoPicture, SourceEvent, VideoFrame
from stream.sources.live import LiveSource, open_live
from tests.stream.sources.live_inputs import (
    TICK,
    health_of,
    picture,
    sound_of,
    watch,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


BROADCAST = """
import av, sys, time
from fractions import Fraction
import numpy as np
with av.open(sys.argv[1], "w", format="mpegts") as out:
    stream = out.add_stream("mpeg2video", rate=30)
    stream.width, stream.height, stream.pix_fmt, stream.gop_size = 160, 120, "yuv420p", 5
    began = time.monotonic()
    for index in range(100_000):
        frame = av.VideoFrame.from_ndarray(np.full((120, 160, 3), index % 200, np.uint8), format="rgb24")
        frame.pts, frame.time_base = index, Fraction(1, 30)
        for packet in stream.encode(frame):
            out.mux(packet)
        time.sleep(max(0.0, began + index / 30 - time.monotonic()))
"""


@pytest.mark.slow
def test_a_network_stream_from_another_process_that_dies_and_comes_back() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"udp://127.0.0.1:{port}"

    def broadcast() -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", BROADCAST, f"{url}?pkt_size=1316"])

    sender = broadcast()
    try:
        source = open_live(url)
        events: list[SourceEvent] = []
        running: Any = source.events()
        for event in running:
            events.append(event)
            if isinstance(event, VideoFrame | NoPicture):
                if event.index == 30:
                    sender.kill()
                    sender.wait()
                if event.index == 150:
                    sender = broadcast()
                if event.index > 160 and isinstance(event, VideoFrame) and not event.repeated:
                    break
                assert event.index < 900, "it did not come back"
        running.close()
    finally:
        sender.kill()
        sender.wait()
    assert {"waiting", "lost"} <= set(health_of(events, "camera"))
    assert health_of(events, "camera")[-1] == "ok"
    ticks = [e for e in events if isinstance(e, VideoFrame | NoPicture)]
    assert [e.index for e in ticks] == list(range(len(ticks)))
    assert ticks[-1].time_s > 5.0


@pytest.fixture
def virtual_microphone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], Any]]:
    """A PulseAudio of the test's own with a null sink whose monitor is the default microphone; gives a
    player.
    """
    if not all(shutil.which(tool) for tool in ("pulseaudio", "pactl", "paplay")):
        pytest.skip("no virtual microphone: install pulseaudio and pulseaudio-utils")
    if not [*Path("/usr/lib").glob("**/alsa-lib/libasound_module_pcm_pulse.so")]:
        pytest.skip("no virtual microphone: install libasound2-plugins")
    for name in ("HOME", "XDG_RUNTIME_DIR", "PULSE_RUNTIME_PATH", "PULSE_STATE_PATH"):
        monkeypatch.setenv(name, str(tmp_path))
    server = subprocess.Popen(
        [
            "pulseaudio",
            "-n",
            "--daemonize=no",
            "--exit-idle-time=-1",
            "--disable-shm=yes",
            "--load=module-native-protocol-unix",
            "--load=module-null-sink sink_name=played",
            "--load=module-remap-source master=played.monitor source_name=heard",
        ],
        env=dict(os.environ),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(50):
            done = subprocess.run(["pactl", "set-default-source", "heard"], capture_output=True, check=False)
            if done.returncode == 0:
                break
            time.sleep(0.1)
        else:
            pytest.skip("no virtual microphone: PulseAudio does not start here")
        yield lambda path: subprocess.Popen(["paplay", "--device=played", str(path)])
    finally:
        server.terminate()
        server.wait(10)


@pytest.mark.slow
def test_speech_through_a_virtual_microphone(
    fixtures: Path, virtual_microphone: Callable[[Path], subprocess.Popen[bytes]]
) -> None:
    from stream.sources.devices import microphone_address

    spoken_path = fixtures / "speech" / "vosk_test_digits.wav"
    with av.open(str(spoken_path)) as container:
        spoken = np.concatenate([f.to_ndarray().reshape(-1) for f in container.decode(audio=0)]) / 32768
    source = LiveSource(picture(), microphone_address("default"))
    player = virtual_microphone(spoken_path)
    try:
        events = watch(source, 240)
    finally:
        player.kill()
        player.wait()
    assert health_of(events, "microphone")[-1] == "ok"
    sound = sound_of(events)
    heard = np.zeros(sound[-1].end_sample, np.float64)
    for chunk in sound:
        heard[chunk.start_sample : chunk.end_sample] = chunk.samples
    # The sound is as long as the ticks last, however many of them a busy host made the source drop.
    last_tick = [e for e in events if isinstance(e, VideoFrame | NoPicture)][-1]
    assert len(heard) / SAMPLE_RATE == pytest.approx(last_tick.time_s + TICK, abs=0.4)
    # Each second of speech is found where the one before it says it should be: nothing lost, moved or torn.
    # By loudness in steps of 5 ms: following a clock sample by sample changes a waveform more than what is
    # heard.
    said, came = loudness(spoken), loudness(heard)
    lags = []
    for at in range(200, 900, 100):
        part = said[at : at + 200] - said[at : at + 200].mean()
        likeness = [
            float(np.dot(part, came[k : k + 200] - came[k : k + 200].mean()))
            / float(
                np.linalg.norm(part) * np.linalg.norm(came[k : k + 200] - came[k : k + 200].mean()) + 1e-9
            )
            for k in range(len(came) - 200)
        ]
        place = int(np.argmax(likeness))
        assert likeness[place] > 0.9
        lags.append((place - at) * 0.005)
    assert max(lags) - min(lags) < 0.03


def loudness(samples: np.ndarray) -> np.ndarray:
    """Root mean square over 40 ms, every 5 ms: wide enough not to see single periods of a voice."""
    pieces = samples[: len(samples) // 80 * 80].reshape(-1, 80)
    return np.sqrt(np.convolve((pieces.astype(np.float64) ** 2).mean(axis=1), np.full(8, 1 / 8), "same"))
