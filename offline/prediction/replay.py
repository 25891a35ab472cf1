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
from offline.data.recipe import DISTRIBUTED, FeatureParts
from offline.data.store import TrialRecord, bundle_recipe
from offline.prediction.predict import Prediction
from stream.broker.connection import run
from stream.build import LoadedParts, assemble
from stream.description import is_detector
from stream.sinks.collect import CollectSink
from stream.sources.file_clock import same_rate

if TYPE_CHECKING:
    from collections.abc import Callable

    from stream.messages import Estimate


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
        raise UserError(
            f"{parts.source.info.name} has no frame that could be decoded: give another recording"
        )
    return prediction_of(sink.settled, Path(parts.source.info.name).stem)


def prediction_of(settled: list[Estimate], name: str) -> Prediction:
    """Settled estimates, at least one, in order from the first frame, as a prediction."""
    frames = len(settled)
    folds = np.array([[f.pair for f in e.folds] for e in settled])
    return Prediction(
        trial=name,
        context="stream",
        targets=TARGETS,
        times=np.array([e.time_s for e in settled]),
        folds=folds.transpose(1, 0, 2),
        value=np.array([e.value.pair for e in settled]),
        spread=np.array([e.spread.pair for e in settled]),
        labels=np.full((frames, len(TARGETS)), np.nan),
    )


def feature_mismatches(parts: LoadedParts) -> list[str]:
    """Where a recording's features are made by other parts than those that the bundle was trained on."""
    recipe = parts.bundle.manifest.recipe
    # Crops about a box are alike whichever detector finds the face.
    used = {"detector": parts.detector.name} if recipe.crop.framing == "landmarks" else {}
    if parts.new_recogniser is not None:
        used["recogniser"] = parts.recogniser.name
    wanted = {role: recipe.parts[role].name for role in used if role in recipe.parts}
    notes = []
    for role, name in wanted.items():
        if name != used[role]:
            way_out = "no recording brings them" if name == DISTRIBUTED else f"give --{role} {name}"
            notes.append(
                f"the {role} is {used[role]}, but the bundle was trained on features of {name}: {way_out}"
            )
    if wanted.get("detector") == parts.detector.name and not is_detector(
        parts.detector, recipe.parts["detector"]
    ):
        notes.append(
            f"the bundle was trained with another version of the detector {used['detector']}, whose crops differ"
        )
    frame_rate = parts.source.info.frame_rate
    if not same_rate(frame_rate, recipe.frame_rate):
        notes.append(
            f"the recording has {frame_rate:.5g} frames a second, but the bundle was trained at "
            f"{recipe.frame_rate:.5g}: it takes the person for slower or quicker"
        )
    return notes


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
        raise UserError(
            f"{e.problem} ({TOLERANCE_FRAMES} frames more or fewer are taken): give the labels of this recording"
        ) from e
    return TrialRecord(trial_folder(trial, folder), facts, recipe)
