"""From frame features and words to estimates: a provisional one at once, a settled one when nothing can change.

Two tracks run over the same frames. The *settled* track takes each frame once, in order, with its final words:
a causal pass that an offline prediction repeats exactly. The *provisional* track runs ahead of it with the
words known so far; when words change, it is run again from the settled track's end. Sight and sound are known
at the frame, so their encodings are computed once and serve both.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.bundle import Bundle
from models.centering import CenteredFrame, RunningCentering, RunningState
from models.ensemble import BranchState
from models.language.embedder import TextEmbedder
from models.language.timeline import WordTimeline
from models.language.words import Event as SpeechEvent
from models.language.words import Settled
from models.spec import TARGETS, Modality
from models.visual.alignment import network_input
from stream.features import FrameFeatures
from stream.messages import Affect, Estimate, Present
from stream.window import RevisableWindow

Encodings = dict[Modality, Tensor]

_NO_WORDS: Final[NDArray[np.float32]] = np.zeros(0, np.float32)


@dataclass(frozen=True, eq=False)
class PendingFrame:
    """A frame whose words may still change: its features' facts, what is final of it, and its latest word vector.

    `encodings` holds sight's and sound's, (S, 1, C) each; `vector` (E,) is the word vector that the
    provisional track used.
    """

    features: FrameFeatures
    encodings: Encodings
    vector: NDArray[np.float32]

    @property
    def time_s(self) -> float:
        """Media time."""
        return self.features.time_s


@dataclass(frozen=True, eq=False)
class Track:
    """One pass over the frames: the language branch's state and the running centering's."""

    language: BranchState | None
    centering: RunningState


@dataclass(frozen=True, eq=False)
class EstimatorState:
    """Everything between two frames; immutable, so any of them is a snapshot."""

    branches: dict[Modality, BranchState]
    settled: Track
    provisional: Track
    window: RevisableWindow[PendingFrame]
    timeline: WordTimeline
    settled_early: int = 0


@dataclass(frozen=True)
class Answer:
    """What a step gives: the new frame's provisional estimate, if there was a frame, and what has settled."""

    provisional: Estimate | None
    settled: tuple[Estimate, ...]


class Estimator:
    """The ensemble of a bundle over a stream of frames and speech events.

    Pure: `step(state, features, events) -> (state, answer)`. Blocking and CPU-bound: the engine runs it in a
    thread of its own. `embedder` may be None where the language branch is off.
    """

    def __init__(
        self,
        bundle: Bundle,
        embedder: TextEmbedder | None,
        *,
        window: int = 300,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._ensemble = bundle.ensemble
        self._audio_encoder = bundle.audio_encoder
        self._embedder = embedder
        self._spec = bundle.ensemble.spec
        self._crop = bundle.manifest.recipe.crop
        self._capacity = window
        self._clock = clock
        self._centering = RunningCentering(self._ensemble.folds, window, len(TARGETS))
        present = set(self._ensemble.modalities)
        if self._audio_encoder is None:
            present.discard(Modality.AUDIO)
        if embedder is None:
            present.discard(Modality.LANGUAGE)
        self._serving = present

    def initial_state(self) -> EstimatorState:
        """Before the first frame."""
        modalities = self._ensemble.modalities
        language = (
            self._ensemble.initial_state(Modality.LANGUAGE, 1) if Modality.LANGUAGE in modalities else None
        )
        track = Track(language, self._centering.initial_state())
        return EstimatorState(
            branches={
                m: self._ensemble.initial_state(m, 1) for m in modalities if m is not Modality.LANGUAGE
            },
            settled=track,
            provisional=track,
            window=RevisableWindow(self._capacity),
            timeline=WordTimeline(),
        )

    @torch.inference_mode()
    def step(
        self, state: EstimatorState, features: FrameFeatures | None, events: Sequence[SpeechEvent] = ()
    ) -> tuple[EstimatorState, Answer]:
        """Takes speech events and then a frame in; either may be missing."""
        state = self._listen(state, events)
        provisional = None
        if features is not None:
            state, provisional = self._estimate(state, features)
        state, settled = self._settle(state)
        return state, Answer(provisional, settled)

    def finish(self, state: EstimatorState) -> tuple[EstimatorState, Answer]:
        """The stream has ended: nothing can change any more."""
        return self.step(state, None, (Settled(float("inf")),))

    def recenter(self, state: EstimatorState) -> EstimatorState:
        """Forgets the centering window: the merge begins anew with the next frame."""
        empty = self._centering.initial_state()
        return replace(
            state,
            settled=replace(state.settled, centering=empty),
            provisional=replace(state.provisional, centering=empty),
        )

    def _listen(self, state: EstimatorState, events: Sequence[SpeechEvent]) -> EstimatorState:
        """Applies speech events, and runs the provisional track again where they changed a frame's words."""
        timeline, window = state.timeline, state.window
        changed_s = float("inf")
        for event in events:
            timeline, from_s = timeline.apply(event)
            changed_s = changed_s if from_s is None else min(changed_s, from_s)
            if isinstance(event, Settled):
                window = window.advance(event.until_s)
        state = replace(state, timeline=timeline, window=window)
        first = window.first_at_or_after(changed_s)
        if first == len(window.frames):
            return state
        revised = tuple(replace(f, vector=self._vector(timeline, f.time_s)) for f in window.frames[first:])
        if all(
            np.array_equal(a.vector, b.vector) for a, b in zip(revised, window.frames[first:], strict=True)
        ):
            return state
        frames = (*window.frames[:first], *revised)
        return self._run_again(replace(state, window=replace(window, frames=frames)))

    def _run_again(self, state: EstimatorState) -> EstimatorState:
        """The provisional track over all frames not yet settled, from the settled track's end."""
        frames = state.window.frames
        language = state.settled.language
        encodings = {m: torch.stack([f.encodings[m] for f in frames], dim=2) for m in frames[0].encodings}
        if language is not None:
            vectors = torch.from_numpy(np.stack([f.vector for f in frames]))[None, None]
            available = torch.tensor([[self._is_available(f.features, Modality.LANGUAGE) for f in frames]])
            language, encodings[Modality.LANGUAGE] = self._ensemble.run_branch(
                Modality.LANGUAGE, vectors, language, available
            )
        masks = torch.stack([self._mask(f.features) for f in frames], dim=1)
        outputs = self._ensemble.fuse(encodings, masks)[:, 0].double().numpy()
        centering = state.settled.centering
        for t in range(len(frames)):
            centering, _ = self._centering.step(centering, outputs[:, t].T)
        return replace(state, provisional=Track(language, centering))

    def _estimate(self, state: EstimatorState, features: FrameFeatures) -> tuple[EstimatorState, Estimate]:
        """Sight and sound of a new frame, once and for all, and its provisional estimate."""
        branches = dict(state.branches)
        encodings: Encodings = {}
        for modality, branch in state.branches.items():
            embedding = self._embed(modality, features)
            available = torch.tensor([self._is_available(features, modality)])
            branches[modality], encodings[modality] = self._ensemble.step_branch(
                modality, embedding, branch, available
            )
        frame = PendingFrame(features, encodings, self._vector(state.timeline, features.time_s))
        track, outputs, centered = self._advance(state.provisional, frame, frame.vector)
        state = replace(state, branches=branches, provisional=track, window=state.window.push(frame))
        return state, self._estimate_of(frame, state.timeline, outputs, centered, settled=False)

    def _settle(self, state: EstimatorState) -> tuple[EstimatorState, tuple[Estimate, ...]]:
        """The settled track over all frames that nothing can change any more."""
        window, leaving, early = state.window.settle()
        if not leaving:
            return state, ()
        track = state.settled
        estimates = []
        for frame in leaving:
            track, outputs, centered = self._advance(track, frame, frame.vector)
            estimates.append(self._estimate_of(frame, state.timeline, outputs, centered, settled=True))
        timeline = state.timeline.forget_before(leaving[-1].time_s)
        state = replace(
            state, settled=track, window=window, timeline=timeline, settled_early=state.settled_early + early
        )
        return state, tuple(estimates)

    def _advance(
        self, track: Track, frame: PendingFrame, vector: NDArray[np.float32]
    ) -> tuple[Track, NDArray[np.float64], CenteredFrame]:
        """One frame further: the new track, each fold's outputs (F, K), and the centered frame."""
        encodings = dict(frame.encodings)
        language = track.language
        if language is not None:
            embedding = torch.tensor(vector)[None, None]
            available = torch.tensor([self._is_available(frame.features, Modality.LANGUAGE)])
            language, encodings[Modality.LANGUAGE] = self._ensemble.step_branch(
                Modality.LANGUAGE, embedding, language, available
            )
        outputs = self._ensemble.fuse(encodings, self._mask(frame.features))[:, 0].double().numpy()
        centering, centered = self._centering.step(track.centering, outputs.T)
        return Track(language, centering), outputs, centered

    def _embed(self, modality: Modality, features: FrameFeatures) -> Tensor:
        """The embedding of one frame, (S or 1, 1, E); zeros where the branch has nothing to serve it."""
        if modality is Modality.VISUAL:
            crop = torch.from_numpy(network_input(features.crop[None], self._crop))
            return self._ensemble.embed_visual(crop)
        if self._audio_encoder is None:
            return torch.zeros(1, 1, self._spec.branch(modality).embedding)
        embedding: Tensor = self._audio_encoder(torch.from_numpy(features.patch)[None])
        return embedding[None]

    def _vector(self, timeline: WordTimeline, time_s: float) -> NDArray[np.float32]:
        """The vector of the word being said at a time: zeros where there is none, (0,) with no language branch."""
        if Modality.LANGUAGE not in self._ensemble.modalities:
            return _NO_WORDS
        placed = None if self._embedder is None else timeline.word_at(time_s)
        if placed is None:
            return np.zeros(self._spec.branch(Modality.LANGUAGE).embedding, np.float32)
        assert self._embedder is not None
        vector: NDArray[np.float32] = self._embedder.embed(placed.texts)[placed.index]
        return vector

    def _is_available(self, features: FrameFeatures, modality: Modality) -> bool:
        return modality in self._serving and features.available.of(modality)

    def _mask(self, features: FrameFeatures) -> Tensor:
        """Which branches fusion may attend to at a frame: (1, M)."""
        return torch.tensor([[self._is_available(features, m) for m in self._ensemble.modalities]])

    def _estimate_of(
        self,
        frame: PendingFrame,
        timeline: WordTimeline,
        outputs: NDArray[np.float64],
        centered: CenteredFrame,
        *,
        settled: bool,
    ) -> Estimate:
        features = frame.features
        placed = timeline.word_at(features.time_s)
        voice = timeline.voice_at(features.time_s)
        valence, arousal = np.clip(centered.value, -1.0, 1.0)
        return Estimate(
            frame=features.index,
            time_s=features.time_s,
            captured_at=features.captured_at,
            value=Affect(float(valence), float(arousal)),
            spread=Affect(*map(float, centered.spread)),
            folds=tuple(Affect(float(v), float(a)) for v, a in outputs),
            present=Present(features.face, voice is not None and voice.gate_open, placed is not None),
            settled=settled,
            latency_ms=None if settled or features.repeated else (self._clock() - features.captured_at) * 1e3,
            words="" if placed is None else placed.word.text,
        )
