"""The recording that ships: small, as labelled, a face in nearly every frame, words that vosk-tiny hears."""

from __future__ import annotations

import csv
import json
import shutil
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest

from models.labels import read_labels
from models.visual.detectors import HaarDetector, YunetDetector
from offline.performer.demo import perform_demo
from offline.performer.performance import script_text
from offline.performer.recording import draw_performance
from offline.performer.trajectory import to_text
from offline.performer.voice import SAMPLE_RATE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

REPOSITORY = Path(__file__).resolve().parents[3]
ASSETS = REPOSITORY / "stream" / "assets"
VIDEO = ASSETS / "demo.mp4"


def frames(every: int = 1) -> Iterator[NDArray[np.uint8]]:
    with av.open(str(VIDEO)) as container:
        for frame in islice(container.decode(video=0), 0, None, every):
            yield frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)


def sound_16k() -> bytes:
    resampler = av.AudioResampler("s16", "mono", 16_000)
    with av.open(str(VIDEO)) as container:
        parts = [r.to_ndarray() for frame in container.decode(audio=0) for r in resampler.resample(frame)]
    return np.concatenate(parts, axis=1).tobytes()


def word_errors(said: list[str], heard: list[str]) -> int:
    """Levenshtein distance in words."""
    row = list(range(len(heard) + 1))
    for i, a in enumerate(said, start=1):
        diagonal, row[0] = row[0], i
        for j, b in enumerate(heard, start=1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (a != b))
    return row[-1]


def test_it_is_small_and_has_a_label_for_each_frame() -> None:
    assert VIDEO.stat().st_size <= 3_000_000
    assert sum(1 for _ in frames()) == len(read_labels(VIDEO.with_suffix(".txt"))) == 960


def test_its_passages_differ() -> None:
    labels = read_labels(VIDEO.with_suffix(".txt"))
    assert np.all(np.ptp(labels, axis=0) > 1.2)
    quadrants = {(v > 0, a > 0) for v, a in labels if min(abs(v), abs(a)) > 0.3}
    assert len(quadrants) == 4


@pytest.mark.slow
def test_haar_finds_the_face_in_nearly_every_frame() -> None:
    detector = HaarDetector()
    found = [len(detector.detect(frame)) == 1 for frame in frames(every=8)]
    assert sum(found) >= 0.95 * len(found)


def test_yunet_finds_it_too(fixtures: Path) -> None:
    detector = YunetDetector(fixtures / "face" / "face_detection_yunet_2023mar.onnx")
    found = [len(detector.detect(frame)) == 1 for frame in frames(every=8)]
    assert sum(found) >= 0.95 * len(found)


def test_vosk_tiny_hears_the_words() -> None:
    import vosk

    vosk.SetLogLevel(-3)
    recogniser = vosk.KaldiRecognizer(vosk.Model(str(REPOSITORY / "models" / "assets" / "vosk-tiny")), 16_000)
    heard: list[str] = []
    pcm = sound_16k()
    for start in range(0, len(pcm), 8_000):
        if recogniser.AcceptWaveform(pcm[start : start + 8_000]):
            heard += json.loads(recogniser.Result())["text"].split()
    heard += json.loads(recogniser.FinalResult())["text"].split()
    with VIDEO.with_suffix(".csv").open(encoding="utf-8") as script:
        said = [word for row in csv.DictReader(script) for word in row["text"].split()]
    assert len(said) >= 50
    assert word_errors(said, heard) <= 0.05 * len(said)


def sound() -> np.ndarray:
    with av.open(str(VIDEO)) as container:
        return np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])


def brightness_db(samples: np.ndarray) -> np.ndarray:
    """The level from 2 to 8 kHz against that below, of each whole second of 30."""
    spectra = np.abs(np.fft.rfft(samples[: 30 * SAMPLE_RATE].reshape(30, SAMPLE_RATE))) ** 2
    level_db: np.ndarray = 10 * np.log10(
        spectra[:, 2_000:8_000].sum(axis=1) / spectra[:, 80:2_000].sum(axis=1)
    )
    return level_db


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
def test_it_is_what_the_command_makes() -> None:
    performance = perform_demo()
    assert VIDEO.with_suffix(".txt").read_text() == to_text(performance.labels)
    said = [row.split(",")[-1] for row in script_text(performance).splitlines()]
    shipped = VIDEO.with_suffix(".csv").read_text().splitlines()
    assert said == [row.split(",")[-1] for row in shipped]
    for drawn, seen in islice(
        zip(draw_performance(performance, (640, 480)), frames(), strict=True), 0, 200, 20
    ):
        assert np.abs(drawn.astype(int) - seen).mean() < 4
    made_db, shipped_db = (brightness_db(samples) for samples in (performance.samples, sound()))
    assert np.median(np.abs(made_db - shipped_db)) < 0.5
