"""A recording through the live engine, or through its extractors alone.

The engine's settled estimates are a recording's predictions in the stream context: not an equal computation, the
same one. Windows and masked branches need the features themselves, so for those a recording is made into a trial.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from models.errors import UserError
from models.spec import TARGETS
from offline.data.aff_wild2 import TOLERANCE_FRAMES, SourceTrial
from offline.data.extractors import Extractors
from offline.data.preprocess import LengthsDiffer, preprocess_trial, trial_folder
from offline.data.recipe import FeatureParts
from offline.data.store import TrialRecord, bundle_recipe
from offline.prediction.predict import Prediction
from stream.build import LoadedParts, assemble
from stream.mqtt.connection import run
from stream.sinks.collect import CollectSink

if TYPE_CHECKING:
    from collections.abc import Callable

    from stream.messages import Affect, Estimate


def replay(parts: LoadedParts, progress: Callable[[int], None] | None = None) -> Prediction:
    """All settled estimates of the loaded recording, without labels; closes its source.

    Raises UserError as the engine does, and where there was no frame.
    """
    sink = CollectSink(progress)
    try:
        run(assemble(parts, [sink], pace="fast").run())
    finally:
        parts.source.close()
    if not sink.settled:
        raise UserError(f"{parts.source.info.name} has no frame that could be decoded")
    return prediction_of(sink.settled, Path(parts.source.info.name).stem)


def prediction_of(settled: list[Estimate], name: str) -> Prediction:
    """Settled estimates, at least one, in order from the first frame, as a prediction."""

    def pair(affect: Affect) -> tuple[float, float]:
        return affect.valence, affect.arousal

    frames = len(settled)
    folds = np.array([[pair(f) for f in e.folds] for e in settled])
    return Prediction(
        trial=name,
        context="stream",
        targets=TARGETS,
        times=np.array([e.time_s for e in settled]),
        folds=folds.transpose(1, 0, 2),
        value=np.array([pair(e.value) for e in settled]),
        spread=np.array([pair(e.spread) for e in settled]),
        labels=np.full((frames, len(TARGETS)), np.nan),
    )


def extract(
    recording: Path,
    parts: LoadedParts,
    folder: Path,
    labels: Path | None,
    progress: Callable[[int], None] | None = None,
) -> TrialRecord:
    """The recording's features as a trial in `folder`, made by the parts that the engine would use.

    Raises UserError where the recording or the labels cannot be used, or do not belong together.
    """
    recipe = bundle_recipe(parts.bundle.manifest).model_copy(update={"audio_encoder": None})
    if parts.new_recogniser is None:
        recipe = recipe.model_copy(update={"recogniser": None})
    extractors = Extractors(
        parts=FeatureParts(
            recipe=recipe,
            detector="auto",
            recogniser=None,
            text_encoder=None,
            text_width=0 if parts.embedder is None else parts.embedder.width,
            audio_encoder=None,
        ),
        detector=parts.detector,
        new_recogniser=parts.new_recogniser,
        embedder=parts.embedder,
        audio_encoder=None,
    )
    trial = SourceTrial(recording.stem, "test", recording.stem, recording, labels=labels)

    def tell() -> None:
        if progress is not None:
            progress(1)

    try:
        facts = preprocess_trial(trial, folder, extractors, on_frame=tell)
    except LengthsDiffer as e:
        # What it advises is an option of offline-preprocess alone.
        raise UserError(f"{e.problem} ({TOLERANCE_FRAMES} frames more or fewer are taken)") from e
    return TrialRecord(trial_folder(trial, folder), facts, recipe)
