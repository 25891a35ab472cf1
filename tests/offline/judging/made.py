"""Material made from the demo recording: its drawn person's face, and their synthetic voice."""

from __future__ import annotations

import csv
import wave
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING

import av
import cv2
import numpy as np

from models.visual.detectors import HaarDetector
from stream.options import DEMO_RECORDING
from stream.sources.events import SAMPLE_RATE, AudioChunk
from stream.sources.file import MediaFile

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

VOTES = np.array(
    [[10, 0, 0, 0, 0, 0, 0, 0, 0, 0], [0, 10, 0, 0, 0, 0, 0, 0, 0, 0], [0, 0, 4, 6, 0, 0, 0, 0, 0, 0]]
)


@cache
def faces(count: int = 2) -> NDArray[np.uint8]:
    """Grey pictures (count, 48, 48) of the drawn person, a second apart."""
    detector, pictures = HaarDetector(), []
    with av.open(str(DEMO_RECORDING)) as container:
        for frame in islice(container.decode(video=0), 30, None, 30):
            rgb = frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
            found = detector.detect(rgb)
            if not found:
                continue
            x, y, width, height = (int(value) for value in found[0].box)
            margin = width // 4
            face = rgb[max(0, y - margin) : y + height + margin, max(0, x - margin) : x + width + margin]
            grey = cv2.cvtColor(np.ascontiguousarray(face), cv2.COLOR_RGB2GRAY)
            pictures.append(cv2.resize(grey, (48, 48), interpolation=cv2.INTER_AREA))
            if len(pictures) == count:
                break
    return np.stack(pictures)


def write_faces(path: Path) -> Path:
    """Two faces and a picture of none, as FER+ has them."""
    nobody = np.random.default_rng(0).integers(120, 136, (1, 48, 48), np.uint8)
    np.savez(path, images=np.concatenate([faces(), nobody]), votes=VOTES.astype(np.uint8))
    return path


@cache
def voice() -> NDArray[np.float32]:
    """Two seconds of the synthetic voice, (n,) at 16 kHz."""
    source = MediaFile(DEMO_RECORDING)
    chunks = [event for event in source.events() if isinstance(event, AudioChunk)]
    samples = np.zeros(chunks[-1].end_sample, np.float32)
    for chunk in chunks:
        samples[chunk.start_sample : chunk.end_sample] = chunk.samples
    loudness = np.abs(samples[: len(samples) // 1600 * 1600]).reshape(-1, 1600).mean(axis=1)
    begin = 1600 * int(np.argmax(np.convolve(loudness, np.ones(20), "valid")))
    return samples[begin : begin + 2 * SAMPLE_RATE]


def write_sound(path: Path, samples: NDArray[np.float32], rate: int = SAMPLE_RATE) -> Path:
    """A 16-bit mono WAV."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return path


def write_voices(folder: Path) -> Path:
    """A sentence played happily, and silence, as EmoDB has them."""
    folder.mkdir()
    write_sound(folder / "03a01Fa.wav", voice())
    write_sound(folder / "08b02Ta.wav", np.zeros(SAMPLE_RATE, np.float32))
    return folder


def write_texts(path: Path, texts: dict[str, tuple[float, float]]) -> Path:
    """Sentences with their ratings, as EmoBank has them."""
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "split", "V", "A", "D", "text"])
        rows.writerows([f"t{i}", "dev", v, a, 3, text] for i, (text, (v, a)) in enumerate(texts.items()))
    return path
