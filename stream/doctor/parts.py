"""The bundle and the pretrained parts that serve it: there, sound, and what is off without those that are not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from models.errors import UserError
from models.parts.overview import list_parts
from models.parts.registry import PARTS, find_part
from models.speech.recogniser import PREFERRED, find_recogniser
from stream.doctor.findings import Finding, failure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.bundle.load import Bundle
    from models.bundle.manifest import Manifest
    from models.parts.overview import PartState
    from models.parts.registry import InstalledPart

RECOMMENDED: Final = "models-pull recommended"


def judge_bundle(bundle: Bundle) -> tuple[Finding, ...]:
    """A bundle that could be loaded, so that all its files are sound, and what it misses."""
    manifest = bundle.manifest
    about = f": {manifest.note}" if manifest.note else ""
    says = f"{len(manifest.folds)} folds, all files sound{about}"
    state, mend = ("ok", "") if manifest.trained else ("warning", "name a trained one: --bundle demo")
    found = [Finding(f"bundle {manifest.name}", "ok" if state == "ok" else "warning", says, mend)]
    for name in bundle.missing:
        says = f"{PARTS[name].purpose}: not installed, and the branch of this bundle that needs it is off"
        found.append(Finding(f"part {name}", "warning", says, f"models-pull {name}"))
    return tuple(found)


def examine_recogniser(choice: str, manifest: Manifest | None) -> Finding:
    """Which recogniser hears words; never raises for what a user can mend."""
    unused = manifest is not None and (
        manifest.spec.language is None or (choice == "auto" and manifest.recipe.recogniser is None)
    )
    if manifest is not None and unused:
        return Finding("recogniser", "ok", f"none: the bundle {manifest.name} does without words")
    try:
        chosen = find_recogniser(choice, _find_registered)
    except UserError as error:
        return failure("recogniser", error, mend=RECOMMENDED)
    if chosen.folder is None and choice != "none":
        says = f"{chosen.reason}: words are not heard, estimates go by face and voice"
        return Finding("recogniser", "warning", says, f"models-pull {PREFERRED[-1]}")
    return Finding("recogniser", "ok", chosen.name if chosen.folder is not None else "switched off")


def _find_registered(name: str) -> InstalledPart | None:
    return find_part(name) if name in PARTS else None


def judge_detector(choice: str, states: Sequence[PartState]) -> Finding:
    """Which face detector serves, of the one that is asked for, or that the bundle was trained with; `haar` is always
    there.
    """
    yunet = next(state for state in states if state.name == "yunet")
    if choice == "haar" or (choice == "auto" and not yunet.installed and not yunet.trouble):
        mend = "" if choice == "haar" else "models-pull yunet"
        says = "haar, which comes with OpenCV: sees faces from the front"
        says += "" if choice == "haar" else "; yunet sees turned, dark and small ones too"
        return Finding("face detector", "ok" if choice == "haar" else "warning", says, mend)
    if yunet.installed:
        return Finding("face detector", "ok", "yunet, hash as published")
    return Finding("face detector", "failed", yunet.trouble or "yunet is not installed", "models-pull yunet")


def examine_parts(detector: str) -> tuple[Finding, ...]:
    """The face detector, and every installed part that is damaged. Reads and hashes what is installed."""
    states = list_parts()
    damaged = [
        Finding(f"part {state.name}", "warning", state.trouble, state.install)
        for state in states
        if state.trouble and state.name != "yunet"
    ]
    installed = [state.name for state in states if state.installed]
    all_sound = Finding("parts", "ok", f"installed and sound: {', '.join(installed)}")
    return (judge_detector(detector, states), *(damaged or [all_sound]))
