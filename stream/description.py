"""What a run's status says of its parts at the start: the bundle, each input, and what it was not trained with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from models.bundle.manifest import GIVEN_WORDS
from models.parts.recommended import pull_command_for
from models.parts.registry import install_command
from models.visual.detectors import FaceDetector, HaarDetector
from stream.messages import BundleStatus, InputStatus
from stream.options import DEMO_BUNDLE, DEMO_RECORDING
from stream.sources.file_clock import same_rate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from models.bundle.load import Bundle, PartUse
    from models.speech.recogniser import RecogniserChoice
    from stream.options import DetectorChoice
    from stream.sources.events import Source

DRAWN: Final = (
    "a drawn person and a synthetic voice: a bundle for real people shows that it runs, not how good it is"
)
"""Of the demo recording."""


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


def source_notes(source: str, bundle: Bundle) -> tuple[str, ...]:
    """What should be known of a source, by its name, before this bundle's estimates of it are read; a line each."""
    drawn = Path(source) == DEMO_RECORDING
    return (DRAWN,) if drawn and bundle.manifest.name != DEMO_BUNDLE else ()


def input_status(
    bundle: Bundle, source: Source, detector: FaceDetector, recogniser: RecogniserChoice, *, recognises: bool
) -> dict[str, InputStatus]:
    """The state of each input, the recogniser among them, and the way out where one is off.

    Names the parts that the bundle was not trained with. `recognises`: the chosen recogniser is at work.
    """
    recipe = bundle.manifest.recipe
    inputs: dict[str, InputStatus] = dict(source.inputs)
    if recognises:
        same = recipe.recogniser is None or recipe.recogniser.name in (recogniser.name, GIVEN_WORDS)
        inputs["recogniser"] = InputStatus("ok", _name_part(recogniser.name, recipe.recogniser, same=same))
    else:
        reason = recogniser.reason or "there is no sound to recognise"
        inputs["recogniser"] = InputStatus("off", reason, recogniser.way_out)
    deviations = []
    any_detector = recipe.crop.framing == "box"
    if recipe.detector is not None and not any_detector and not is_detector(detector, recipe.detector):
        deviations.append(f"faces by {_name_part(detector.name, recipe.detector, same=False)}")
    frame_rate = source.info.frame_rate
    if not source.live and not same_rate(frame_rate, recipe.frame_rate):
        deviations.append(
            f"{frame_rate:.5g} frames a second (the bundle was trained at {recipe.frame_rate:.5g}: it will take the "
            "person for slower or quicker)"
        )
    if deviations:
        inputs["camera"] = replace(inputs["camera"], detail="; ".join([inputs["camera"].detail, *deviations]))
    for part in bundle.missing:
        inputs[part] = InputStatus("off", "the bundle's branch is off: not installed", install_command(part))
    return inputs


def missing_parts(
    bundle: Bundle,
    detector_choice: DetectorChoice,
    detector: FaceDetector,
    recogniser: RecogniserChoice,
    *,
    has_sound: bool,
) -> dict[str, str]:
    """What is not installed and would serve this bundle, by name: what it would serve for.

    `detector_choice` is what was asked for, `detector` what serves: nothing better than a detector that is named is
    missing. Without sound there are no words to recognise.
    """
    missing: dict[str, str] = {}
    any_detector = detector_choice == "auto" and bundle.manifest.recipe.crop.framing == "box"
    if any_detector and isinstance(detector, HaarDetector):
        missing["yunet"] = "turned and dark faces"
    if has_sound and recogniser.missing is not None:
        missing[recogniser.missing] = "words"
    return missing | dict.fromkeys(bundle.missing, "a branch of the bundle")


def first_lines(
    source: Source,
    inputs: Mapping[str, InputStatus],
    bundle: Bundle,
    detector: FaceDetector,
    accelerator: str,
    *,
    missing: Mapping[str, str],
) -> tuple[str, str, str]:
    """What a live run uses, what is missing with the one command that installs it, what its bundle is good for.

    `inputs` are those of `input_status`, the `missing` parts those of `missing_parts`.
    """
    info, manifest = source.info, bundle.manifest
    recogniser = inputs["recogniser"]
    words = recogniser.detail if recogniser.health == "ok" else "none"
    uses = (
        f"uses {info.name} ({info.width}x{info.height}), {'with' if info.has_audio else 'without'} sound; "
        f"faces: {detector.name}; words: {words}; bundle: {manifest.name}, computed by {accelerator}"
    )
    lacks = "nothing is missing"
    if missing:
        what_for = ", ".join(dict.fromkeys(missing.values()))
        lacks = f"missing for {what_for}: {pull_command_for(list(missing))}"
    return uses, lacks, f"good for: {manifest.note or 'it does not say'} (models-info {manifest.name})"


def is_detector(detector: FaceDetector, use: PartUse) -> bool:
    """Whether it is the one that a recipe names, and finds faces as that one did.

    A YuNet that is not the recipe's is refused with the bundle.
    """
    if detector.name != use.name:
        return False
    return not isinstance(detector, HaarDetector) or use.sha256 in (None, detector.sha256())


def _name_part(name: str, trained_with: PartUse | None, *, same: bool) -> str:
    """The part's name, and what the bundle was trained with where that is not the `same`."""
    if same or trained_with is None:
        return name
    other = "another version of it" if trained_with.name == name else trained_with.name
    return f"{name} (the bundle was trained with {other})"
