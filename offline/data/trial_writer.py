"""The arrays of a trial on their way to disk."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from models.speech.words import SpeechEvent, VoiceDecided, Word
from models.visual.alignment import zero_crop
from offline.data.arrays import RowWriter, write_rows
from offline.data.extraction import PatchRows, SettledWords

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from offline.data.aff_wild2 import DistributedCrops
    from offline.data.extractors import Extractors
    from stream.perception.features import FrameFeatures

Floats = NDArray[np.float32]

_ENCODED_PATCHES: Final = 32
"""Patches that the audio encoder takes at once."""


class TrialWriter:
    """The arrays of a trial on their way to disk: the memory it takes does not grow with pictures and vectors.

    The trial has as many frames as labels, or as decoded pictures where there are no labels.
    """

    def __init__(
        self, folder: Path, extractors: Extractors, crops: DistributedCrops | None, labels: Floats | None
    ) -> None:
        recipe = extractors.parts.recipe
        self.decoded = 0
        self.faces: list[bool] = []
        self._folder = folder
        self._distributed = crops
        self._labels = labels
        self._words = SettledWords(extractors.embedder, extractors.parts.text_width)
        self._patches = PatchRows(recipe.logmel)
        self._encoder = extractors.audio_encoder
        self._unencoded_patches: list[Floats] = []
        self._zero = zero_crop(recipe.crop)
        self._times: list[float] = []
        self._ends: list[int] = []
        self._voiced_s: list[tuple[float, float]] = []
        with ExitStack() as stack:
            self._crops = stack.enter_context(RowWriter(folder / "crops.npy", self._zero.shape, np.uint8))
            self._log_mel = stack.enter_context(
                RowWriter(folder / "logmel.npy", (recipe.logmel.bands,), np.float32)
            )
            self._language = stack.enter_context(
                RowWriter(folder / "language.npy", (extractors.parts.text_width,), np.float32)
            )
            self._audio: RowWriter | None = None
            if self._encoder is not None:
                width = self._encoder.spec.embedding
                self._audio = stack.enter_context(RowWriter(folder / "audio.npy", (width,), np.float32))
            self._files = stack.pop_all()

    def __enter__(self) -> TrialWriter:
        return self

    def __exit__(self, *raised: Any) -> None:
        self._files.__exit__(*raised)

    @property
    def frames(self) -> int:
        """N, once a frame has been decoded."""
        return self.decoded if self._labels is None else len(self._labels)

    @property
    def annotated(self) -> int:
        """Frames with a label."""
        return 0 if self._labels is None else int((~np.isnan(self._labels[:, 0])).sum())

    def add(self, features: FrameFeatures | None, events: Iterable[SpeechEvent]) -> None:
        """Takes the next frame in, with what was said (None: the end). Frames beyond the labels are only counted."""
        if features is not None:
            self.decoded += 1
            if self.decoded <= self.frames:
                self._write_features(features)
        events = list(events)
        self._voiced_s += [
            (e.start_s, e.end_s) for e in events if isinstance(e, VoiceDecided) and e.gate_open
        ]
        for vector in self._words.step(None if features is None else features.time_s, events):
            if self._language.rows < self.frames:
                self._language.append(vector[None])

    def finish(self, step_s: float) -> None:
        """Repeats the last features up to the labels' length, the time going on, and writes what is left."""
        self._encode_patches()
        missing = self.frames - len(self._times)
        self._times += [self._times[-1] + step_s * n for n in range(1, missing + 1)]
        self._ends += [self._ends[-1]] * missing
        for writer in (self._language, self._audio):
            if writer is not None:
                writer.repeat_last(missing)
        if self._distributed is None:
            self._crops.repeat_last(missing)
            self.faces += [self.faces[-1]] * missing
        else:
            for _ in range(missing):
                self._write_crop(self._distributed.crop(len(self.faces)))
        labels = self._labels
        if labels is None:
            labels = np.full((self.frames, 2), np.nan, np.float32)
        write_rows(self._folder / "labels.npy", labels)
        write_rows(self._folder / "faces.npy", np.array(self.faces, np.bool_))
        write_rows(self._folder / "voices.npy", self._voices())
        write_rows(self._folder / "times.npy", np.array(self._times, np.float64))
        write_rows(self._folder / "patch_ends.npy", np.array(self._ends, np.int32))
        words = [[_word_json(word) for word in utterance] for utterance in self._words.utterances]
        (self._folder / "words.json").write_text(json.dumps(words) + "\n", encoding="utf-8")

    def _voices(self) -> NDArray[np.bool_]:
        """Whether a voice was heard at each frame, (N,)."""
        heard = np.zeros(len(self._times), np.bool_)
        for start_s, end_s in self._voiced_s:
            begin, end = np.searchsorted(self._times, (start_s, end_s))
            heard[begin:end] = True
        return heard

    def _write_features(self, features: FrameFeatures) -> None:
        rows, end = self._patches.add(features.patch, features.time_s)
        self._log_mel.append(rows)
        self._ends.append(end)
        self._times.append(features.time_s)
        if self._distributed is None:
            self._write_crop(features.crop if features.face else None)
        else:
            self._write_crop(self._distributed.crop(features.index))
        if self._encoder is not None:
            self._unencoded_patches.append(features.patch)
            if len(self._unencoded_patches) == _ENCODED_PATCHES:
                self._encode_patches()

    def _write_crop(self, crop: NDArray[np.uint8] | None) -> None:
        self._crops.append((self._zero if crop is None else crop)[None])
        self.faces.append(crop is not None)

    @torch.inference_mode()
    def _encode_patches(self) -> None:
        if self._encoder is None or self._audio is None or not self._unencoded_patches:
            return
        self._audio.append(self._encoder(torch.from_numpy(np.stack(self._unencoded_patches))).numpy())
        self._unencoded_patches = []


def _word_json(word: Word) -> dict[str, Any]:
    return {"text": word.text, "start_s": word.start_s, "end_s": word.end_s, "confidence": word.confidence}
