"""The pretraining task of each of a slim preset's encoders."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.errors import UserError
from offline.pretraining.audio import AudioTask
from offline.pretraining.language import LanguageTask
from offline.pretraining.visual import VisualTask

if TYPE_CHECKING:
    from offline.pretraining.base import EncoderName, PretrainingTask
    from offline.training.options import PretrainOptions


def make_task(part: EncoderName, options: PretrainOptions) -> PretrainingTask:
    """The task of one part of the options' preset. Raises UserError where the preset has none."""
    spec = options.network
    if part == "visual" and spec.visual is not None:
        return VisualTask(spec.visual, options)
    if part == "audio" and spec.audio is not None:
        return AudioTask(spec.audio, options)
    if part == "language" and spec.language is not None:
        return LanguageTask(spec.language, options)
    raise UserError(
        f"the {options.preset} preset has no {part} branch", way_out=f"leave {part} out of --parts"
    )
