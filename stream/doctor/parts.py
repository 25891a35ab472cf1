"""The bundle and the pretrained parts that serve it: there, sound, and what is off without those that are not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.errors import UserError
from models.parts.overview import list_parts
from models.parts.registry import PARTS, install_command
from models.speech.recogniser import open_recogniser
from stream.build import choose_recogniser
from stream.doctor.findings import Finding, failure
from stream.options import DEMO_BUNDLE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.bundle.load import Bundle
    from models.bundle.manifest import Manifest
    from models.parts.overview import PartState


def judge_bundle(bundle: Bundle) -> tuple[Finding, ...]:
    """A bundle that could be loaded, so that all its files are sound, and what it misses."""
    manifest = bundle.manifest
    about = f": {manifest.note}" if manifest.note else ""
    says = f"{len(manifest.folds)} folds, all files sound{about}"
    subject = f"bundle {manifest.name}"
    found = [
        Finding(subject, "ok", says)
        if manifest.trained
        else Finding(subject, "warning", says, f"name a trained one: --bundle {DEMO_BUNDLE}")
    ]
    for name in bundle.missing:
        says = f"{PARTS[name].purpose}: not installed, and the branch of this bundle that needs it is off"
        found.append(Finding(f"part {name}", "warning", says, install_command(name)))
    return tuple(found)


def examine_recogniser(choice: str, manifest: Manifest | None, *, heard: bool = True) -> Finding:
    """Which recogniser hears words, loaded where there is sound to be `heard`; never raises for what a user can mend.

    Blocks while it loads.
    """
    try:
        chosen = choose_recogniser(choice, manifest)
        if chosen.folder is not None and heard:
            open_recogniser(chosen.folder, live=True)
    except UserError as error:
        return failure("recogniser", error)
    if manifest is not None and manifest.spec.language is None:
        return Finding("recogniser", "ok", f"none: the bundle {manifest.name} does without words")
    if chosen.missing is not None:
        says = f"{chosen.reason}: words are not heard, estimates go by face and voice"
        return Finding("recogniser", "warning", says, install_command(chosen.missing))
    return Finding("recogniser", "ok", chosen.reason if chosen.folder is None else chosen.name)


def judge_detector(choice: str, states: Sequence[PartState]) -> Finding:
    """Which face detector serves, of the one that is asked for, or that the bundle was trained with; `haar` is always
    there.
    """
    yunet = next(state for state in states if state.name == "yunet")
    if choice == "haar" or (choice == "auto" and not yunet.installed and not yunet.trouble):
        mend = "" if choice == "haar" else yunet.install
        says = "haar, which comes with OpenCV: sees faces from the front"
        says += "" if choice == "haar" else "; yunet sees turned, dark and small ones too"
        return Finding("face detector", "ok" if choice == "haar" else "warning", says, mend)
    if yunet.installed:
        return Finding("face detector", "ok", "yunet, hash as published")
    return Finding("face detector", "failed", yunet.trouble or "yunet is not installed", yunet.install)


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
