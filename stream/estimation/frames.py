"""What is known of a frame between its features and its estimate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from models.centering import CenteredFrame
    from models.spec import Modality
    from stream.estimation.active_folds import ActiveFolds
    from stream.perception.features import FrameFeatures


@dataclass(frozen=True, eq=False, repr=False)
class PendingFrame:
    """A frame whose words may still change.

    `encodings` are final: sight's and sound's, (S, 1, C) each, zeros for folds that rest. `vector` (E,) is the
    word vector that the provisional track used, (0,) without a language branch. `active` are the folds at work.
    """

    features: FrameFeatures
    encodings: dict[Modality, Tensor]
    vector: NDArray[np.float32]
    active: ActiveFolds

    @property
    def time_s(self) -> float:
        """Media time."""
        return self.features.time_s


@dataclass(frozen=True, eq=False, repr=False)
class MergedFrame:
    """A frame with the outputs (F', K) of the folds that serve it, unclipped, and their centered merge."""

    frame: PendingFrame
    outputs: NDArray[np.float64]
    centered: CenteredFrame
