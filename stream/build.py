"""From what the user asked for to an engine that is ready to run: the one place that chooses the parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import get_args

import torch

from models.accelerate.cache import ArtifactCache
from models.accelerate.runtime import Runtime
from models.accelerate.select import Preference, serve
from models.bundle.load import Bundle, PartUse, load_bundle, resolve_bundle
from models.bundle.manifest import read_manifest
from models.errors import UserError
from models.parts.registry import PARTS, InstalledPart, find_part
from models.spec import WindowSpec
from models.speech.recogniser import RecogniserChoice, RecogniserFactory, find_recogniser, open_recogniser
from models.text.embedder import TextEmbedder
from models.visual.detectors import FaceDetector, HaarDetector, make_detector
from models.visual.tracker import FaceTracker
from stream.engine import Engine, EngineSettings
from stream.estimation.batching import batch_sizes, frames_at_once
from stream.estimation.estimator import Estimator
from stream.flow.ladder import AUTO, FULL, find_rung
from stream.messages import BundleStatus, InputStatus
from stream.options import LATENCY_TARGET_MS, DetectorChoice, InputOptions, Pace
from stream.perception.features import Perception
from stream.perception.speech import Speech, transcriber_settings
from stream.sinks.base import Sink
from stream.sources.events import Source
from stream.sources.file_clock import same_rate
from stream.sources.open import open_source
from stream.telemetry import resident_mib


@dataclass(frozen=True)
class LoadedParts:
    """Everything loaded, before there is an engine: what can fail has not failed.

    What is accelerated has its weights in `served` alone: the bundle's own are given up. `resident_mib` is the
    process's memory after each stage of loading.
    """

    source: Source
    bundle: Bundle
    detector: FaceDetector
    recogniser: RecogniserChoice
    new_recogniser: RecogniserFactory | None
    embedder: TextEmbedder | None
    served: Runtime
    resident_mib: Mapping[str, float] = field(default_factory=dict)


def load(choices: InputOptions, tell: Callable[[str], None] = lambda message: None) -> LoadedParts:
    """Opens and loads everything the choices name; blocking. Raises UserError for the first that fails.

    `tell` is told, in one line, before something that takes long begins.
    """
    rung = find_rung(choices.budget)
    preference = Preference.parse(choices.accelerator)
    source = open_source(
        choices.source,
        microphone=choices.microphone,
        size=choices.size,
        frame_rate=choices.frame_rate,
        tick_rate=read_manifest(resolve_bundle(choices.bundle)).recipe.frame_rate,
    )
    if not source.live and rung not in (None, FULL):
        raise UserError(f"a recording is never degraded: --budget {choices.budget} is for live sources")
    bundle = load_bundle(choices.bundle, missing_parts="tolerate")
    resident = {"resident_mib_bundle": resident_mib()}
    detector = make_detector(_detector(choices.detector, bundle))
    recogniser = _recogniser(choices.recogniser, bundle)
    new_recogniser = embedder = None
    if source.info.has_audio and recogniser.folder is not None:
        new_recogniser = open_recogniser(recogniser.folder, live=source.live)
        language = bundle.ensemble.spec.language
        if bundle.text_encoder_folder is not None and language is not None:
            embedder = TextEmbedder(bundle.text_encoder_folder, expected_width=language.embedding)
    served = serve(
        bundle,
        preference=preference,
        text_model=None if embedder is None else embedder.model,
        cache=ArtifactCache(),
        threads=torch.get_num_threads(),
        batches=batch_sizes(
            frames_at_once(choices.latency_target_ms, source.info.frame_rate), live=source.live
        ),
        # The source's at either pace: a route chosen by pace would change a replay's record.
        frame_rate=source.info.frame_rate,
        progress=tell,
        keep_eager=False,
        repeatable=not source.live,
    )
    if embedder is not None:
        embedder = embedder.run_by(served.encode_text)
    resident["resident_mib_parts"] = resident_mib()
    return LoadedParts(source, bundle, detector, recogniser, new_recogniser, embedder, served, resident)


def assemble(
    parts: LoadedParts,
    sinks: Sequence[Sink],
    *,
    pace: Pace = "live",
    budget: str = AUTO,
    latency_target_ms: float = LATENCY_TARGET_MS,
) -> Engine:
    """An engine over the loaded parts. Raises UserError for a `budget` that is no rung of `stream.flow.ladder`."""
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
        Estimator(
            parts.bundle,
            parts.embedder,
            served=parts.served,
            # Live, what is paused or dropped must hold up nothing.
            settle_at_once=1 if parts.source.live else frames_at_once(latency_target_ms, info.frame_rate),
            window=window.length,
        ),
        sinks,
        bundle=bundle_status(parts.bundle),
        inputs=input_status(parts),
        settings=EngineSettings(
            pace=pace,
            budget=budget,
            latency_target_ms=latency_target_ms,
            detector=parts.detector.name,
            accelerator=parts.served.name,
            notes=parts.served.notes,
            measures=parts.resident_mib,
        ),
    )


def _detector(choice: DetectorChoice, bundle: Bundle) -> DetectorChoice:
    """The detector asked for; `auto` is the one whose crops the bundle was trained on."""
    trained_on = bundle.manifest.recipe.detector
    if choice != "auto" or trained_on is None:
        return choice
    return next((name for name in get_args(DetectorChoice) if name == trained_on.name), choice)


def _recogniser(choice: str, bundle: Bundle) -> RecogniserChoice:
    """The recogniser asked for; `auto` is none for a bundle whose language branch has never seen words."""
    manifest = bundle.manifest
    if choice == "auto" and manifest.spec.language is not None and manifest.recipe.recogniser is None:
        return RecogniserChoice(
            "none", None, reason=f"the bundle '{manifest.name}' was trained without words"
        )
    return find_recogniser(choice, _find)


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


def input_status(parts: LoadedParts) -> dict[str, InputStatus]:
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
    said = []
    if recipe.detector is not None and not is_detector(parts.detector, recipe.detector):
        said.append(f"faces by {_beside(parts.detector.name, recipe.detector, same=False)}")
    frame_rate = parts.source.info.frame_rate
    if not parts.source.live and not same_rate(frame_rate, recipe.frame_rate):
        said.append(
            f"{frame_rate:.5g} frames a second (the bundle was trained at {recipe.frame_rate:.5g}: it will take the "
            "person for slower or quicker)"
        )
    if said:
        inputs["camera"] = replace(inputs["camera"], detail="; ".join([inputs["camera"].detail, *said]))
    for part in parts.bundle.missing:
        inputs[part] = InputStatus("off", "the bundle's branch is off: not installed", f"models-pull {part}")
    return inputs


def is_detector(detector: FaceDetector, use: PartUse) -> bool:
    """Whether it is the one that a recipe names, and finds faces as that one did. (A YuNet that is not the recipe's
    is refused with the bundle.)
    """
    if detector.name != use.name:
        return False
    return not isinstance(detector, HaarDetector) or use.sha256 in (None, detector.sha256())


def _beside(name: str, trained: PartUse | None, *, same: bool | None = None) -> str:
    """`same`: whether it is the part trained with, where its name alone does not tell."""
    if trained is None or (trained.name == name if same is None else same):
        return name
    other = "another version of it" if trained.name == name else trained.name
    return f"{name} (the bundle was trained with {other})"


def _find(name: str) -> InstalledPart | None:
    return find_part(name) if name in PARTS else None
