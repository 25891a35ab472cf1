"""A recording's settled estimates as arrays, a table or a picture."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from models.errors import UserError
from models.spec import TARGETS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stream.messages import Estimate, Status, TranscriptWord

COLOURS: Final = ("tab:blue", "tab:orange")


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """A recording's settled estimates. N frames, F folds; columns are valence and arousal.

    `estimates` are the engine's own, in order; the arrays are made of them. `words` is what was said, with times and
    the recogniser's confidence. `status` is how the run stood at its end: bundle, inputs and what they lacked.
    """

    source: str
    estimates: tuple[Estimate, ...]
    words: tuple[TranscriptWord, ...]
    status: Status

    def __len__(self) -> int:
        return len(self.estimates)

    def __repr__(self) -> str:
        return f"<Result {self.source}: {len(self)} frames, {self.times[-1]:.1f} s, {len(self.words)} words>"

    @cached_property
    def times(self) -> NDArray[np.float64]:
        """(N,) media times in seconds from the first frame."""
        return np.array([e.time_s for e in self.estimates])

    @cached_property
    def values(self) -> NDArray[np.float64]:
        """(N, 2) valence and arousal in [-1, 1]: all folds, centered and merged."""
        return np.array([e.value.pair for e in self.estimates])

    @property
    def valence(self) -> NDArray[np.float64]:
        """(N,) in [-1, 1], unpleasant to pleasant."""
        return self.values[:, 0]

    @property
    def arousal(self) -> NDArray[np.float64]:
        """(N,) in [-1, 1], calm to excited."""
        return self.values[:, 1]

    @cached_property
    def spread(self) -> NDArray[np.float64]:
        """(N, 2) standard deviation between the centered folds; of a calibrated bundle, the error to expect."""
        return np.array([e.spread.pair for e in self.estimates])

    @cached_property
    def folds(self) -> NDArray[np.float64]:
        """(F, N, 2) each fold's own output, neither centered nor clipped."""
        return np.array([[fold.pair for fold in e.folds] for e in self.estimates]).transpose(1, 0, 2)

    @cached_property
    def face(self) -> NDArray[np.bool_]:
        """(N,) whether there was a face in the picture."""
        return np.array([e.present.face for e in self.estimates])

    @cached_property
    def voice(self) -> NDArray[np.bool_]:
        """(N,) whether there was a voice in the sound."""
        return np.array([e.present.voice for e in self.estimates])

    @cached_property
    def speaking(self) -> NDArray[np.bool_]:
        """(N,) whether a recognised word was being said."""
        return np.array([e.present.words for e in self.estimates])

    @property
    def text(self) -> str:
        """All words, joined by spaces."""
        return " ".join(word.text for word in self.words)

    def to_pandas(self) -> Any:
        """A `pandas.DataFrame` with a row for each frame, indexed by `time_s`.

        Columns: `frame`, `valence`, `arousal`, `valence_spread`, `arousal_spread`, `fold0_valence`, `fold0_arousal`
        and so on, `face`, `voice`, `speaking`, `word`. Raises UserError where pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise UserError("a table needs pandas: pip install 'affectstream[analysis]'") from None
        columns: dict[str, Sequence[Any] | NDArray[Any]] = {"frame": [e.frame for e in self.estimates]}
        for n, target in enumerate(TARGETS):
            columns[str(target)] = self.values[:, n]
        for n, target in enumerate(TARGETS):
            columns[f"{target}_spread"] = self.spread[:, n]
        for fold, outputs in enumerate(self.folds):
            for n, target in enumerate(TARGETS):
                columns[f"fold{fold}_{target}"] = outputs[:, n]
        columns |= {"face": self.face, "voice": self.voice, "speaking": self.speaking}
        columns["word"] = [e.words for e in self.estimates]
        return pandas.DataFrame(columns, index=pandas.Index(self.times, name="time_s"))

    def plot(self, axes: Any = None) -> Any:
        """Draws valence and arousal over time with their spread, and beneath them what was there to go by.

        Takes three `matplotlib` axes, or makes a figure of them, and returns them: `result.plot()[0].figure` is the
        figure. Raises UserError where matplotlib is not installed.
        """
        return _draw_result(self, axes)


def _draw_result(result: Result, axes: Any) -> Any:
    try:
        from matplotlib import pyplot
    except ImportError:
        raise UserError("a plot needs matplotlib: pip install 'affectstream[analysis]'") from None
    if axes is None:
        _, axes = pyplot.subplots(
            3, sharex=True, figsize=(10, 6), height_ratios=(3, 3, 1), layout="constrained"
        )
    for n, (target, colour) in enumerate(zip(TARGETS, COLOURS, strict=True)):
        value, spread = result.values[:, n], result.spread[:, n]
        axes[n].fill_between(result.times, value - spread, value + spread, color=colour, alpha=0.25, lw=0)
        axes[n].plot(result.times, value, color=colour)
        axes[n].axhline(0, color="0.8", lw=0.8, zorder=0)
        axes[n].set(ylabel=str(target), ylim=(-1.05, 1.05))
    axes[0].set_title(f"{result.source}, bundle {result.status.bundle.name}")
    _draw_presence(axes[2], result)
    return axes


def _draw_presence(axis: Any, result: Result) -> None:
    there = {"words": result.speaking, "voice": result.voice, "face": result.face}
    for height, present in enumerate(there.values()):
        axis.fill_between(
            result.times, height - 0.35, height + 0.35, where=present, step="post", color="0.5", lw=0
        )
    axis.set(yticks=range(len(there)), yticklabels=list(there), ylim=(-0.6, 2.6), xlabel="seconds")
