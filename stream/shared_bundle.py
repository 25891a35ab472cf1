"""A bundle loaded once for any number of runs side by side, with what they load beside it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, TypeVar

from models.accelerate.select import Preference
from models.bundle.load import load_bundle as read_bundle
from stream.options import InputOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from pathlib import Path

    from models.bundle.load import Bundle

T = TypeVar("T")


class SharedBundle:
    """What runs over one bundle have in common: networks, text encoder, runtimes and recognisers' models, each loaded
    by the first run that needs it and kept as long as this object.

    A run's own are its source, its face detector and tracker, its recogniser's state and its estimator's state.
    `accelerator` is how the bundle's networks are computed (`stream-run --help` lists the names); eager weights are
    kept beside accelerated ones.
    """

    def __init__(self, bundle: Bundle, accelerator: str) -> None:
        self.bundle = bundle
        self.accelerator = accelerator
        self._kept: dict[tuple[Hashable, ...], Any] = {}
        self._loading = threading.Lock()

    @property
    def name(self) -> str:
        """What the bundle calls itself."""
        return self.bundle.manifest.name

    @property
    def folder(self) -> Path:
        """Where it is."""
        return self.bundle.folder

    @property
    def folds(self) -> int:
        """How many folds it has."""
        return self.bundle.ensemble.folds

    @property
    def frame_rate(self) -> float:
        """Frames a second that it was trained at, at which live sources tick."""
        return self.bundle.manifest.recipe.frame_rate

    @property
    def note(self) -> str:
        """What it says it is good for."""
        return self.bundle.manifest.note

    def once(self, what: tuple[Hashable, ...], load: Callable[[], T]) -> T:
        """What `load` gives: loaded the first time, the same from then on. Blocks while another thread loads."""
        with self._loading:
            if what not in self._kept:
                self._kept[what] = load()
            kept: T = self._kept[what]
            return kept

    def kept(self, kind: str) -> tuple[Any, ...]:
        """What was loaded of a kind: `runtime`, `recogniser` or `text encoder`."""
        with self._loading:
            return tuple(x for key, x in self._kept.items() if key[0] == kind)

    def __repr__(self) -> str:
        return f"<SharedBundle {self.name}: {self.folds} folds, {self.accelerator}>"


def load_bundle(name_or_path: str | Path | None = None, *, accelerator: str = "auto") -> SharedBundle:
    """Loads a bundle, to be given to several runs: the shipped one of a name, or any by its folder.

    None is the bundle that a run takes where none is named. Parts that are not installed leave their branch off, as
    in a run. Raises UserError where there is no such bundle or accelerator, and where the bundle is damaged.
    """
    Preference.parse(accelerator)
    name = InputOptions("").bundle if name_or_path is None else name_or_path
    return SharedBundle(read_bundle(name, missing_parts="tolerate"), accelerator)
