"""Played sentences and labelled comments that nobody recorded or wrote: small, and easy to learn from."""

from __future__ import annotations

import wave
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

SPEAKERS = ("03", "08", "09")
PITCHES = {"W": 700.0, "T": 180.0, "F": 1800.0}
"""By EmoDB's letter: anger, sadness, happiness."""

LABELS = ("joy", "sadness", "neutral")
PHRASES = (
    ("what a happy lovely day", 0),
    ("so glad, this is great!", 0),
    ("i am sad and alone", 1),
    ("how awful, i cry", 1),
    ("the table is in the room", 2),
    ("it's a day of the week", 2),
)


def write_voices(folder: Path, takes: str = "abc", seconds: float = 1.0) -> Path:
    """Each speaker's tone for each emotion, as EmoDB names its files."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(3)
    times = np.arange(int(seconds * 16_000)) / 16_000
    for speaker in SPEAKERS:
        for letter, pitch in PITCHES.items():
            for take in takes:
                tone = 0.3 * np.sin(2 * np.pi * pitch * random.uniform(0.95, 1.05) * times)
                sound = tone + 0.02 * random.standard_normal(len(times))
                with wave.open(str(folder / f"{speaker}a01{letter}{take}.wav"), "wb") as file:
                    file.setnchannels(1)
                    file.setsampwidth(2)
                    file.setframerate(16_000)
                    file.writeframes((sound.clip(-1, 1) * 32767).astype("<i2").tobytes())
    return folder


def write_texts(folder: Path, copies: int = 10) -> Path:
    """train.tsv and labels.txt as GoEmotions has them."""
    folder.mkdir(parents=True)
    (folder / "labels.txt").write_text("\n".join(LABELS) + "\n")
    rows = [f"{text}\t{label}\tid{k}" for k in range(copies) for text, label in PHRASES]
    (folder / "train.tsv").write_text("\n".join(rows) + "\n")
    return folder / "train.tsv"


def write_vectors(path: Path, width: int = 8) -> Path:
    """A word vector for each word of the comments but one, and for a few more."""
    words = sorted(
        {w for text, _ in PHRASES for w in text.replace(",", "").replace("!", "").split()} - {"it's"}
    )
    words += ["sunny", "gloomy", "chair"]
    random = np.random.default_rng(5)
    np.savez(
        path, words=np.array(words), vectors=random.standard_normal((len(words), width)).astype(np.float16)
    )
    return path
