"""From what the user asked for to an engine that is ready to run: the one place that chooses the parts.

`load` opens and loads everything that can fail, `assemble` puts an engine together of that and of sinks.
`stream.session` runs it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, get_args

import torch

from models.accelerate.cache import ArtifactCache
from models.accelerate.select import Preference, serve
from models.accelerate.shared import SharedRuntime
from models.bundle.load import Bundle, load_bundle
from models.bundle.manifest import read_manifest
from models.bundle.shipped import resolve_bundle, shipped_bundles
from models.errors import UserError
from models.parts.registry import PARTS, InstalledPart, find_part
from models.spec import WindowSpec
from models.speech.recogniser import RecogniserChoice, RecogniserFactory, find_recogniser, open_recogniser
from models.text.embedder import TextEmbedder
from models.visual.detectors import FaceDetector, make_detector
from models.visual.tracker import FaceTracker
from stream.description import bundle_status, first_lines, input_status, missing_parts, source_notes
from stream.engine import Engine
from stream.estimation.batching import batch_sizes, frames_at_once
from stream.estimation.estimator import Estimator
from stream.flow.ladder import AUTO, FULL, find_rung
from stream.options import (
    DEFAULT_BUNDLE,
    LATENCY_TARGET_MS,
    DetectorChoice,
    EngineSettings,
    InputOptions,
    Pace,
)
from stream.perception.features import Perception
from stream.perception.speech import Speech, transcriber_settings
from stream.sources.open import open_source
from stream.status import RunFacts
from stream.telemetry import resident_mib

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence

    from models.accelerate.runtime import Runtime
    from models.bundle.manifest import Manifest
    from stream.messages import InputStatus
    from stream.shared_bundle import SharedBundle
    from stream.sinks.base import Sink
    from stream.sources.events import Source

T = TypeVar("T")


@dataclass(frozen=True)
class LoadedParts:
    """Everything that a run needs, open and loaded.

    Weights that an accelerator computes with are in `runtime` alone: the bundle's own copies are given up.
    `resident_mib` is the process's memory in MiB after each stage of loading, by counter name; `notes` say, a line
    each, what should be known of this source and this bundle together. `detector_choice` is what was asked for.
    """

    source: Source
    bundle: Bundle
    detector: FaceDetector
    recogniser: RecogniserChoice
    new_recogniser: RecogniserFactory | None
    embedder: TextEmbedder | None
    runtime: Runtime
    resident_mib: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    detector_choice: DetectorChoice = "auto"

    def input_status(self) -> dict[str, InputStatus]:
        """Each input's state at the start; parts that the bundle was not trained with are named."""
        recognises = self.new_recogniser is not None
        return input_status(self.bundle, self.source, self.detector, self.recogniser, recognises=recognises)

    def first_lines(self) -> tuple[str, str, str]:
        """What a live run says before its first frame (`stream.description.first_lines`)."""
        return first_lines(
            self.source,
            self.input_status(),
            self.bundle,
            self.detector,
            self.runtime.name,
            missing=missing_parts(
                self.bundle,
                self.detector_choice,
                self.detector,
                self.recogniser,
                has_sound=self.source.info.has_audio,
            ),
        )


def load(
    options: InputOptions,
    tell: Callable[[str], None] = lambda message: None,
    *,
    source: Source | None = None,
    shared: SharedBundle | None = None,
    keep_eager: bool = False,
) -> LoadedParts:
    """Opens and loads everything that the options name; blocking. Raises UserError for the first that fails.

    `tell` is told, in one line, before something that takes long begins. A `source` that is open already is taken in
    place of the options'; a `shared` bundle in place of theirs, computed by its own accelerator. `keep_eager` keeps
    eager weights beside accelerated ones: torch.compile may need them again where a process runs more than once.
    """
    rung = find_rung(options.budget)
    preference = Preference.parse(options.accelerator if shared is None else shared.accelerator)
    source = source or open_source(
        options.source,
        microphone=options.microphone,
        size=options.size,
        frame_rate=options.frame_rate,
        tick_rate=trained_frame_rate(options, shared),
    )
    try:
        if not source.live and rung not in (None, FULL):
            raise UserError(f"a recording is never degraded: --budget {options.budget} is for live sources")
        return _load_beside(source, options, preference, tell, shared, keep_eager)
    except BaseException:
        source.close()
        raise


def _load_beside(
    source: Source,
    options: InputOptions,
    preference: Preference,
    tell: Callable[[str], None],
    shared: SharedBundle | None,
    keep_eager: bool,
) -> LoadedParts:
    """Everything but the source, as it needs it."""

    def once(what: tuple[Hashable, ...], load_it: Callable[[], T]) -> T:
        return load_it() if shared is None else shared.once(what, load_it)

    bundle = shared.bundle if shared else load_bundle(options.bundle, missing_parts="tolerate")
    resident = {"resident_mib_bundle": resident_mib()}
    detector = make_detector(
        choose_detector(options.detector, bundle), framing=bundle.manifest.recipe.crop.framing
    )
    recogniser = choose_recogniser(options.recogniser, bundle.manifest)
    new_recogniser = embedder = None
    if source.info.has_audio and (folder := recogniser.folder) is not None:
        new_recogniser = once(
            ("recogniser", folder, source.live), lambda: open_recogniser(folder, live=source.live)
        )
        language, encoder = bundle.ensemble.spec.language, bundle.text_encoder_folder
        if encoder is not None and language is not None:
            width = language.embedding
            embedder = once(("text encoder",), lambda: TextEmbedder(encoder, expected_width=width))
    most_at_once = frames_at_once(options.latency_target_ms, source.info.frame_rate)
    text_model = None if embedder is None else embedder.model
    # Recordings' average rates differ in their last digits: a runtime for each would never be shared.
    whole_rate = max(1, round(source.info.frame_rate))

    def serve_bundle() -> Runtime:
        runtime = serve(
            bundle,
            preference=preference,
            text_model=text_model,
            cache=ArtifactCache(),
            threads=torch.get_num_threads(),
            batches=batch_sizes(most_at_once, live=source.live),
            # The source's at either pace: a route chosen by pace would change a replay's record.
            frame_rate=whole_rate,
            progress=tell,
            keep_eager=keep_eager or shared is not None,
            repeatable=not source.live,
        )
        return runtime if shared is None else SharedRuntime(runtime, together=source.live)

    served_for = (text_model is not None, most_at_once, whole_rate, source.live)
    runtime = once(("runtime", *served_for), serve_bundle)
    if embedder is not None:
        embedder = embedder.run_by(runtime.encode_text)
    resident["resident_mib_parts"] = resident_mib()
    return LoadedParts(
        source,
        bundle,
        detector,
        recogniser,
        new_recogniser,
        embedder,
        runtime,
        resident,
        source_notes(options.source, bundle),
        options.detector,
    )


def find_bundle(name_or_path: str) -> Path:
    """The folder of a bundle, as `models.bundle.shipped.resolve_bundle` finds it.

    Raises UserError where there is none, with the way out where it is the default one that is not there.
    """
    absent = name_or_path not in shipped_bundles() and not Path(name_or_path).is_dir()
    if name_or_path == DEFAULT_BUNDLE and absent:
        raise UserError(
            f"the bundle '{DEFAULT_BUNDLE}', which serves unless another is named, is not in this installation: name "
            "a bundle's folder, or the one for drawn people with --bundle demo"
        )
    return resolve_bundle(name_or_path)


def find_manifest(name_or_path: str, shared: SharedBundle | None = None) -> Manifest:
    """What the bundle that a run takes says of itself: the `shared` one, else that of the name.

    Raises UserError where there is none.
    """
    return shared.bundle.manifest if shared else read_manifest(find_bundle(name_or_path))


def trained_frame_rate(options: InputOptions, shared: SharedBundle | None = None) -> float:
    """Frames a second that the bundle was trained at. Raises UserError where there is none."""
    return find_manifest(options.bundle, shared).recipe.frame_rate


def choose_detector(choice: DetectorChoice, bundle: Bundle) -> DetectorChoice:
    """The detector asked for; `auto` is the one whose crops the bundle was trained on, or the best one installed for
    a bundle that takes the same crop from any.
    """
    recipe = bundle.manifest.recipe
    trained_on = recipe.detector
    if choice != "auto" or trained_on is None or recipe.crop.framing == "box":
        return choice
    return next((name for name in get_args(DetectorChoice) if name == trained_on.name), choice)


def choose_recogniser(choice: str, manifest: Manifest | None) -> RecogniserChoice:
    """The recogniser asked for; `auto` is none for a bundle whose language branch has never seen words.

    `manifest` is that bundle's; None: of no bundle in particular. Raises UserError as `find_recogniser` does.
    """
    spoken = None if manifest is None else manifest.spec.language
    if (
        choice == "auto"
        and manifest is not None
        and spoken is not None
        and manifest.recipe.recogniser is None
    ):
        return RecogniserChoice(
            "none", None, reason=f"the bundle '{manifest.name}' was trained without words"
        )
    return find_recogniser(choice, _find_registered_part)


def _find_registered_part(name: str) -> InstalledPart | None:
    return find_part(name) if name in PARTS else None


def assemble(
    parts: LoadedParts,
    sinks: Sequence[Sink],
    *,
    pace: Pace = "live",
    budget: str = AUTO,
    latency_target_ms: float = LATENCY_TARGET_MS,
) -> Engine:
    """An engine over the loaded parts. Raises UserError for a `budget` that is no rung of `stream.flow.ladder`."""
    source, window_frames = parts.source, WindowSpec().length
    frame_rate, has_sound = source.info.frame_rate, source.info.has_audio
    return Engine(
        source,
        Perception(FaceTracker(parts.detector, parts.bundle.manifest.recipe.crop)),
        Speech(parts.new_recogniser, transcriber_settings(window_frames, frame_rate), has_sound=has_sound),
        Estimator(
            parts.bundle,
            parts.embedder,
            runtime=parts.runtime,
            # A live source settles frame by frame: frames that were dropped or passed while paused hold up nothing.
            settle_at_once=1 if source.live else frames_at_once(latency_target_ms, frame_rate),
            window=window_frames,
        ),
        sinks,
        facts=RunFacts(
            bundle=bundle_status(parts.bundle),
            accelerator=parts.runtime.name,
            detector=parts.detector.name,
            notes=(*parts.notes, *parts.runtime.notes),
            measures=parts.resident_mib,
        ),
        inputs=parts.input_status(),
        settings=EngineSettings(pace, budget, latency_target_ms),
    )
