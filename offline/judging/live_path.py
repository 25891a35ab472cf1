"""The path that a live source takes, for one item of material at a time: detector, tracker, crop, estimator, settled
estimates.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch

from models.bundle.load import Bundle, load_bundle
from models.errors import UserError
from models.spec import TARGETS, Modality, WindowSpec
from models.speech.words import EVERYTHING_SETTLED
from models.text.embedder import TextEmbedder
from models.visual.detectors import FaceDetector, make_detector
from models.visual.tracker import FaceTracker
from offline.data.extraction import NoFaceDetector
from stream.build import choose_detector
from stream.estimation.batching import MOST_AT_ONCE, Moment
from stream.estimation.estimator import Estimator
from stream.perception.features import Perception

if TYPE_CHECKING:
    from collections.abc import Sequence

    from offline.people.emotions import Floats
    from stream.messages import Estimate
    from stream.options import DetectorChoice


@dataclass(frozen=True)
class JudgeOptions:
    """What is judged, and with which parts: names as `stream-run` takes them."""

    bundle: str
    detector: DetectorChoice = "auto"
    recogniser: str = "auto"


@dataclass(frozen=True, eq=False)
class ItemEstimate:
    """What a bundle says of one item: means over `frames` settled frames, valence and arousal in [-1, 1].

    `centered` (2,) is what is published, `centered_spread` (2,) the published spread; `folds_mean` and `folds_spread`
    are the mean and standard deviation of the folds' own outputs, not centered. `present`: a face, a voice or words,
    whatever the item is judged by, was found.
    """

    frames: int
    present: bool
    centered: Floats
    centered_spread: Floats
    folds_mean: Floats
    folds_spread: Floats


class LivePath:
    """A loaded bundle and the parts to watch and listen with; those that load slowly are loaded when first used."""

    def __init__(self, options: JudgeOptions) -> None:
        """Raises UserError where the bundle cannot be loaded, or does not estimate both valence and arousal."""
        self.options = options
        self.bundle: Bundle = load_bundle(options.bundle, missing_parts="tolerate")
        if set(self.bundle.ensemble.targets) != set(TARGETS):
            raise UserError(
                f"the bundle '{self.bundle.manifest.name}' estimates {self.bundle.ensemble.targets[0]} alone",
                way_out="give one that estimates valence and arousal",
            )

    @property
    def frame_rate(self) -> float:
        """Frames per second: the bundle's own, at which a live source ticks."""
        return self.bundle.manifest.recipe.frame_rate

    @cached_property
    def detector(self) -> FaceDetector:
        """The detector asked for; `auto` chooses as it does live.

        Raises UserError where it is not installed.
        """
        choice = choose_detector(self.options.detector, self.bundle)
        return make_detector(choice, framing=self.bundle.manifest.recipe.crop.framing)

    @cached_property
    def perception(self) -> Perception:
        """Sight and sound, cropped and transformed by the bundle's recipe."""
        recipe = self.bundle.manifest.recipe
        return Perception(FaceTracker(self.detector, recipe.crop), recipe.logmel)

    @cached_property
    def sound_perception(self) -> Perception:
        """Sound alone: no detector is needed."""
        recipe = self.bundle.manifest.recipe
        return Perception(FaceTracker(NoFaceDetector("none"), recipe.crop), recipe.logmel)

    @cached_property
    def estimator_without_words(self) -> Estimator:
        """The estimator with the language branch masked, as it is live without a recogniser."""
        return self._estimator(None)

    @cached_property
    def estimator_with_words(self) -> Estimator:
        """The estimator with the language branch. Raises UserError where the bundle has none that can be used."""
        self.require(Modality.LANGUAGE)
        folder, language = self.bundle.text_encoder_folder, self.bundle.ensemble.spec.language
        assert folder is not None
        assert language is not None
        return self._estimator(TextEmbedder(folder, expected_width=language.embedding))

    def require(self, modality: Modality) -> None:
        """Raises UserError where the bundle has no such branch, or misses the part that it needs."""
        manifest = self.bundle.manifest
        if modality not in self.bundle.ensemble.modalities:
            raise UserError(
                f"the bundle '{manifest.name}' has no {modality.value} branch to judge",
                way_out="leave that material out, or give another bundle",
            )
        there = {
            Modality.VISUAL: True,
            Modality.AUDIO: self.bundle.audio_encoder is not None,
            Modality.LANGUAGE: self.bundle.text_encoder_folder is not None,
        }
        if not there[modality]:
            part = (
                manifest.recipe.audio_encoder if modality is Modality.AUDIO else manifest.recipe.text_encoder
            )
            name = "its encoder" if part is None else part.name
            raise UserError(
                f"the {modality.value} branch of the bundle '{manifest.name}' is off: {name} is not installed "
                f"(`models-pull {name}`)"
            )

    def _estimator(self, embedder: TextEmbedder | None) -> Estimator:
        return Estimator(self.bundle, embedder, settle_at_once=MOST_AT_ONCE, window=WindowSpec().length)


def open_live_path(options: JudgeOptions) -> LivePath:
    """For a worker process: one thread, since others work beside it. Raises UserError as `LivePath`."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    return LivePath(options)


def settle_all(estimator: Estimator, moments: Sequence[Moment]) -> list[Estimate]:
    """The settled estimates of all frames, from a fresh state to the end of the stream."""
    state = estimator.initial_state()
    settled: list[Estimate] = []
    whole = [*moments, Moment(None, (EVERYTHING_SETTLED,))]
    for begin in range(0, len(whole), MOST_AT_ONCE):
        state, _ = estimator.answer(state, whole[begin : begin + MOST_AT_ONCE])
        state, estimates = estimator.settle(state)
        settled += estimates
    return settled


def mean_estimate(estimates: Sequence[Estimate], *, present: bool) -> ItemEstimate:
    """The mean over some settled frames, at least one."""
    folds = np.array([[fold.pair for fold in e.folds] for e in estimates])
    return ItemEstimate(
        frames=len(estimates),
        present=present,
        centered=np.array([e.value.pair for e in estimates]).mean(axis=0),
        centered_spread=np.array([e.spread.pair for e in estimates]).mean(axis=0),
        folds_mean=np.clip(folds.mean(axis=1), -1.0, 1.0).mean(axis=0),
        folds_spread=folds.std(axis=1).mean(axis=0),
    )
