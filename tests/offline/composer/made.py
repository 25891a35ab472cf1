"""Material made on the spot, in the forms of FER+, EmoDB and GoEmotions: nobody's face, nobody's voice."""

from __future__ import annotations

import wave
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

EMOTIONS = ("neutral", "joy", "anger", "sadness")


def write_faces(path: Path, count: int, seed: int = 0) -> Path:
    """Noisy blobs with votes: brighter the more are for happiness."""
    random = np.random.default_rng(seed)
    votes = random.multinomial(10, [0.3, 0.3, 0.1, 0.1, 0.1, 0.04, 0.03, 0.03], count)
    votes = np.hstack([votes, np.zeros((count, 2), np.int64)]).astype(np.uint8)
    light = 80 + 12 * votes[:, 1, None, None]
    images = np.clip(light + random.normal(0, 20, (count, 48, 48)), 0, 255).astype(np.uint8)
    np.savez(path, images=images, votes=votes, numbers=np.arange(count))
    return path


def write_voices(folder: Path, speakers: int = 7) -> Path:
    """Tones that are louder and higher for anger than for sadness."""
    folder.mkdir()
    for speaker in range(speakers):
        for letter, pitch in (("N", 150), ("W", 320), ("T", 110)):
            times = np.arange(int(1.4 * 16_000)) / 16_000
            tone = 0.3 * np.sin(2 * np.pi * (pitch + 9 * speaker) * times) * (np.sin(9 * times) > -0.5)
            with wave.open(str(folder / f"{speaker + 3:02d}a01{letter}a.wav"), "wb") as file:
                file.setnchannels(1)
                file.setsampwidth(2)
                file.setframerate(16_000)
                file.writeframes((tone * 32767).astype(np.int16).tobytes())
    return folder


def write_texts(folder: Path, count: int = 120) -> Path:
    """Short comments, each of one emotion."""
    folder.mkdir(exist_ok=True)
    (folder / "labels.txt").write_text("\n".join(EMOTIONS) + "\n")
    words = ("fine", "great", "awful", "lost")
    lines = []
    for k in range(count):
        word = words[k % 4]
        text = f"that is so {word} said number {k}" if k % 2 else f"{word} it was {k}"
        lines.append(f"{text}\t{k % 4}\tid{k}")
    path = folder / "train.tsv"
    path.write_text("\n".join(lines) + "\n")
    return path
