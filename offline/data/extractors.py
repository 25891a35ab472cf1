"""The loaded parts that make features: face detector, recogniser, text encoder and, where there is one, VGGish."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from models.audio.vggish import Vggish, load_vggish_checkpoint
from models.errors import UserError
from models.spec import PAPER
from models.speech.recogniser import RecogniserFactory, open_recogniser
from models.text.embedder import TextEmbedder
from models.visual.detectors import FaceDetector, make_detector

if TYPE_CHECKING:
    from pathlib import Path

    from offline.data.recipe import FeatureParts


@dataclass(frozen=True, eq=False)
class Extractors:
    """The loaded parts. One set serves one process, a trial at a time."""

    parts: FeatureParts
    detector: FaceDetector
    new_recogniser: RecogniserFactory | None
    embedder: TextEmbedder | None
    audio_encoder: Vggish | None

    @classmethod
    def load(cls, parts: FeatureParts) -> Extractors:
        """Loads everything. Raises UserError where a part is damaged."""
        return cls(
            parts=parts,
            detector=make_detector(parts.detector, framing=parts.recipe.crop.framing),
            new_recogniser=None if parts.recogniser is None else open_recogniser(parts.recogniser),
            embedder=None if parts.text_encoder is None else TextEmbedder(parts.text_encoder),
            audio_encoder=None if parts.audio_encoder is None else _open_vggish(parts.audio_encoder),
        )


def _open_vggish(path: Path) -> Vggish:
    assert PAPER.audio is not None
    with torch.random.fork_rng(devices=[]):
        encoder = Vggish(PAPER.audio.encoder)
    report = load_vggish_checkpoint(encoder, path)
    if report.missing:
        raise UserError(
            f"{path} does not fill the audio encoder: {report.missing[0]} is missing",
            way_out="install it again with models-pull vggish",
        )
    return encoder.eval().requires_grad_(False)
