"""From what the user asked for to an engine that is ready to run: the one place that chooses the parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import get_args

from models.bundle import Bundle, PartUse, load_bundle
from models.errors import UserError
from models.language.embedder import TextEmbedder
from models.language.recogniser import RecogniserChoice, RecogniserFactory, find_recogniser, open_recogniser
from models.parts import PARTS, InstalledPart, find_part
from models.spec import WindowSpec
from models.visual.detectors import FaceDetector, make_detector
from models.visual.face import FaceTracker
from stream.choices import Choices, DetectorChoice, Pace
from stream.engine import Engine, EngineSettings
from stream.estimator import Estimator
from stream.features import Perception
from stream.ladder import AUTO, FULL, find_rung
from stream.media import Source, open_source
from stream.messages import BundleStatus, InputStatus
from stream.sinks import Sink
from stream.speech import Speech, transcriber_settings


@dataclass(frozen=True)
class Parts:
    """Everything loaded, before there is an engine: what can fail has not failed."""

    source: Source
    bundle: Bundle
    detector: FaceDetector
    recogniser: RecogniserChoice
    new_recogniser: RecogniserFactory | None
    embedder: TextEmbedder | None


def load(choices: Choices) -> Parts:
    """Opens and loads everything the choices name; blocking. Raises UserError for the first that fails."""
    rung = find_rung(choices.budget)
    source = open_source(
        choices.source, microphone=choices.microphone, size=choices.size, frame_rate=choices.frame_rate
    )
    if not source.live and rung not in (None, FULL):
        raise UserError(f"a recording is never degraded: --budget {choices.budget} is for live sources")
    bundle = load_bundle(choices.bundle, missing_parts="tolerate")
    detector = make_detector(_detector(choices.detector, bundle))
    recogniser = find_recogniser(choices.recogniser, _find)
    new_recogniser = embedder = None
    if source.info.has_audio and recogniser.folder is not None:
        new_recogniser = open_recogniser(recogniser.folder)
        language = bundle.ensemble.spec.language
        if bundle.text_encoder_folder is not None and language is not None:
            embedder = TextEmbedder(bundle.text_encoder_folder, expected_width=language.embedding)
    return Parts(source, bundle, detector, recogniser, new_recogniser, embedder)


def assemble(parts: Parts, sinks: Sequence[Sink], *, pace: Pace = "live", budget: str = AUTO) -> Engine:
    """An engine over the loaded parts. Raises UserError for a `budget` that is no rung of `stream.ladder`."""
    window = WindowSpec()
    info = parts.source.info
    speech = Speech(
        parts.new_recogniser,
        transcriber_settings(window.length, info.frame_rate),
        has_sound=info.has_audio,
    )
    return Engine(
        parts.source,
        Perception(FaceTracker(parts.detector)),
        speech,
        Estimator(parts.bundle, parts.embedder, window=window.length),
        sinks,
        bundle=bundle_status(parts.bundle),
        inputs=input_status(parts),
        settings=EngineSettings(pace=pace, budget=budget, detector=parts.detector.name),
    )


def _detector(choice: DetectorChoice, bundle: Bundle) -> DetectorChoice:
    """The detector asked for; `auto` is the one whose crops the bundle was trained on."""
    trained_on = bundle.manifest.recipe.detector
    if choice != "auto" or trained_on is None:
        return choice
    return next((name for name in get_args(DetectorChoice) if name == trained_on.name), choice)


def bundle_status(bundle: Bundle) -> BundleStatus:
    """What the bundle says of itself."""
    manifest = bundle.manifest
    return BundleStatus(
        name=manifest.name,
        preset=manifest.preset,
        folds=bundle.ensemble.folds,
        trained=manifest.trained,
        note=manifest.note,
    )


def input_status(parts: Parts) -> dict[str, InputStatus]:
    """Each input's state at the start, and the way out where one is off; parts that the bundle was not trained
    with are named.
    """
    recipe = parts.bundle.manifest.recipe
    inputs: dict[str, InputStatus] = dict(parts.source.inputs)
    if parts.new_recogniser is not None:
        inputs["recogniser"] = InputStatus("ok", _beside(parts.recogniser.name, recipe.recogniser))
    else:
        reason = parts.recogniser.reason or "there is no sound to recognise"
        inputs["recogniser"] = InputStatus("off", reason, parts.recogniser.way_out)
    if recipe.detector is not None and recipe.detector.name != parts.detector.name:
        camera = inputs["camera"]
        detail = f"{camera.detail}; faces by {_beside(parts.detector.name, recipe.detector)}"
        inputs["camera"] = replace(camera, detail=detail)
    for part in parts.bundle.missing:
        inputs[part] = InputStatus("off", "the bundle's branch is off: not installed", f"models-pull {part}")
    return inputs


def _beside(name: str, trained: PartUse | None) -> str:
    return (
        name
        if trained is None or trained.name == name
        else f"{name} (the bundle was trained with {trained.name})"
    )


def _find(name: str) -> InstalledPart | None:
    return find_part(name) if name in PARTS else None
