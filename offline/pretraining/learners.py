"""What pretraining trains: a slim preset's encoders, each under what is thrown away afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.errors import UserError
from offline.pretraining.audio import AudioLearner
from offline.pretraining.language import LanguageLearner
from offline.pretraining.visual import VisualLearner

if TYPE_CHECKING:
    from offline.pretraining.base import EncoderName, Learner
    from offline.training.options import PretrainOptions


def make_learner(part: EncoderName, options: PretrainOptions) -> Learner:
    """The part of the options' preset, and what it learns with. Raises UserError where the preset has none."""
    spec = options.network
    if part == "visual" and spec.visual is not None:
        return VisualLearner(spec.visual, options)
    if part == "audio" and spec.audio is not None:
        return AudioLearner(spec.audio, options)
    if part == "language" and spec.language is not None:
        return LanguageLearner(spec.language, options)
    raise UserError(f"the {options.preset} preset has no {part} branch")
