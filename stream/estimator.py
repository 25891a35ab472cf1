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
from torch.nn import functional

from models.bundle import Bundle
from models.centering import CenteredFrame
from models.ensemble import BranchState, Ensemble
from models.language.embedder import TextEmbedder
from models.language.timeline import WordTimeline
from models.language.words import Event as SpeechEvent
from models.language.words import Settled
from models.leading import can_rest, leading_folds, leading_networks, narrow, widen
from models.spec import TARGETS, Modality
from models.visual.alignment import network_input
from stream.features import FrameFeatures
from stream.ladder import FULL
from stream.messages import Affect, Estimate, Present
from stream.roster import FoldMerge, MergeState, Roster, next_roster
from stream.window import RevisableWindow

Encodings = dict[Modality, Tensor]

RETURNING: Final = "folds-returning"
"""What an estimate says it lacks while folds that rested are called back but do not serve yet."""

_NO_WORDS: Final[NDArray[np.float32]] = np.zeros(0, np.float32)


@dataclass(frozen=True, eq=False, repr=False)
class PendingFrame:
    """A frame whose words may still change: its features' facts, what is final of it, and its latest word vector.

    `encodings` holds sight's and sound's, (S, 1, C) each, zeros for folds that rest; `vector` (E,) is the
    word vector that the provisional track used.
    """

    features: FrameFeatures
    encodings: Encodings
    vector: NDArray[np.float32]
    roster: Roster

    @property
    def time_s(self) -> float:
        """Media time."""
        return self.features.time_s


@dataclass(frozen=True, eq=False, repr=False)
class Track:
    """One pass over the frames: the language branch's state and the merge's."""

    language: BranchState | None
    merge: MergeState


@dataclass(frozen=True, eq=False, repr=False)
class Embedded:
    """The newest embedding of a branch, and what it is of: the same crop or patch is not embedded again."""

    what: NDArray[np.generic]
    embedding: Tensor


@dataclass(frozen=True, eq=False, repr=False)
class EstimatorState:
    """Everything between two frames; immutable, so any of them is a snapshot."""

    branches: dict[Modality, BranchState]
    embedded: dict[Modality, Embedded]
    roster: Roster
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

    Pure: `answer(state, features, events) -> (state, estimate)` gives a frame's provisional estimate,
    `settle(state, limit) -> (state, estimates)` what has settled, `step` both. Blocking and CPU-bound: the
    engine runs it in a thread of its own. `embedder` may be None where the language branch is off.

    Folds rest where a frame's `rung` says so, and return as `stream.roster` tells; those of an ensemble whose
    folds differ in shape never do.
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
        self._merge = FoldMerge(self._ensemble.folds, window, len(TARGETS))
        self._can_rest = can_rest(self._ensemble)
        self._leading = {self._ensemble.folds: self._ensemble}
        self._memory = max(self._spec.branch(m).temporal.receptive_field for m in self._spec.modalities) - 1
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
        track = Track(language, self._merge.initial_state())
        return EstimatorState(
            branches={
                m: self._ensemble.initial_state(m, 1) for m in modalities if m is not Modality.LANGUAGE
            },
            embedded={},
            roster=Roster.of(self._ensemble.folds),
            settled=track,
            provisional=track,
            window=RevisableWindow(self._capacity),
            timeline=WordTimeline(),
        )

    def step(
        self, state: EstimatorState, features: FrameFeatures | None, events: Sequence[SpeechEvent] = ()
    ) -> tuple[EstimatorState, Answer]:
        """`answer`, and all that settled with it."""
        state, provisional = self.answer(state, features, events)
        state, settled = self.settle(state)
        return state, Answer(provisional, settled)

    @torch.inference_mode()
    def answer(
        self, state: EstimatorState, features: FrameFeatures | None, events: Sequence[SpeechEvent] = ()
    ) -> tuple[EstimatorState, Estimate | None]:
        """Takes the speech events, then the frame they came with; None with None: words without a frame.

        What settles stays in the window until `settle` takes it out.
        """
        state = self._listen(state, events)
        if features is None:
            return state, None
        return self._estimate(state, features)

    def finish(self, state: EstimatorState) -> tuple[EstimatorState, Answer]:
        """The stream has ended: nothing can change any more."""
        return self.step(state, None, (Settled(float("inf")),))

    def recenter(self, state: EstimatorState) -> EstimatorState:
        """Forgets the centering window: the merge begins anew with the next frame."""

        def anew(track: Track) -> Track:
            return replace(track, merge=self._merge.restarted(track.merge))

        return replace(state, settled=anew(state.settled), provisional=anew(state.provisional))

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
        merge = state.settled.merge
        for t, frame in enumerate(frames):
            merge = self._merge.absorb(merge, outputs[:, t], frame.roster)
        return replace(state, provisional=Track(language, merge))

    def _estimate(self, state: EstimatorState, features: FrameFeatures) -> tuple[EstimatorState, Estimate]:
        """Sight and sound of a new frame, once and for all, and its provisional estimate."""
        state = self._call(state, features.rung.folds(self._ensemble.folds))
        ensemble = self._of(state.roster)
        branches, embedded = dict(state.branches), dict(state.embedded)
        encodings: Encodings = {}
        for modality, branch in state.branches.items():
            embedded[modality] = self._embed(modality, features, embedded.get(modality), ensemble)
            available = torch.tensor([self._is_available(features, modality)])
            branches[modality], encoding = ensemble.step_branch(
                modality, embedded[modality].embedding, branch, available
            )
            resting = self._ensemble.networks - ensemble.networks
            encodings[modality] = functional.pad(encoding, (0, 0, 0, 0, 0, resting)) if resting else encoding
        frame = PendingFrame(features, encodings, self._vector(state.timeline, features.time_s), state.roster)
        track, outputs, centered = self._advance(state.provisional, frame)
        state = replace(
            state,
            branches=branches,
            embedded=embedded,
            provisional=track,
            window=state.window.push(frame),
        )
        return state, self._estimate_of(frame, state.timeline, outputs, centered, settled=False)

    def _call(self, state: EstimatorState, wanted: int) -> EstimatorState:
        """The folds at work on the next frame, their branches' states with them."""
        if not self._can_rest:
            return state
        roster = next_roster(state.roster, wanted, self._memory, self._capacity)
        if roster.stepping == state.roster.stepping:
            return state if roster == state.roster else replace(state, roster=roster)
        networks = leading_networks(self._ensemble, roster.stepping)
        branches = {
            m: narrow(branch, networks)
            if roster.stepping < state.roster.stepping
            else widen(branch, self._of(roster).initial_state(m, 1))
            for m, branch in state.branches.items()
        }
        return replace(state, roster=roster, branches=branches, embedded={})

    def _of(self, roster: Roster) -> Ensemble:
        if roster.stepping not in self._leading:
            self._leading[roster.stepping] = leading_folds(self._ensemble, roster.stepping)
        return self._leading[roster.stepping]

    @torch.inference_mode()
    def settle(
        self, state: EstimatorState, limit: int | None = None
    ) -> tuple[EstimatorState, tuple[Estimate, ...]]:
        """The settled track over the frames that nothing can change any more: the oldest `limit`, or all."""
        window, leaving, early = state.window.settle(limit)
        if not leaving:
            return state, ()
        track = state.settled
        estimates = []
        for frame in leaving:
            track, outputs, centered = self._advance(track, frame)
            estimates.append(self._estimate_of(frame, state.timeline, outputs, centered, settled=True))
        timeline = state.timeline.forget_before(leaving[-1].time_s)
        state = replace(
            state, settled=track, window=window, timeline=timeline, settled_early=state.settled_early + early
        )
        return state, tuple(estimates)

    def _advance(self, track: Track, frame: PendingFrame) -> tuple[Track, NDArray[np.float64], CenteredFrame]:
        """One frame further: the new track, the outputs (F, K) of the folds that serve, the centered frame."""
        encodings = dict(frame.encodings)
        language = track.language
        if language is not None:
            embedding = torch.tensor(frame.vector)[None, None]
            available = torch.tensor([self._is_available(frame.features, Modality.LANGUAGE)])
            language, encodings[Modality.LANGUAGE] = self._ensemble.step_branch(
                Modality.LANGUAGE, embedding, language, available
            )
        outputs = self._ensemble.fuse(encodings, self._mask(frame.features))[:, 0].double().numpy()
        merge, centered = self._merge.step(track.merge, outputs, frame.roster)
        return Track(language, merge), outputs[: frame.roster.serving], centered

    def _embed(
        self, modality: Modality, features: FrameFeatures, newest: Embedded | None, ensemble: Ensemble
    ) -> Embedded:
        """The embedding of one frame, (S or 1, 1, E): the newest one where the frame brings nothing new."""
        what = features.crop if modality is Modality.VISUAL else features.patch
        if newest is not None and newest.what is what:
            return newest
        if not self._is_available(features, modality):
            # It will be masked: what it is does not matter.
            return Embedded(_NO_WORDS, torch.zeros(1, 1, ensemble.embedding(modality)))
        if modality is Modality.VISUAL:
            crop = torch.from_numpy(network_input(features.crop[None], self._crop))
            return Embedded(what, ensemble.embed_visual(crop))
        assert self._audio_encoder is not None
        embedding: Tensor = self._audio_encoder(torch.from_numpy(features.patch)[None])
        return Embedded(what, embedding[None])

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
            degraded=self._degraded(frame),
        )

    def _degraded(self, frame: PendingFrame) -> str | None:
        """What the estimate lacks against the whole method: its rung's name."""
        rung = frame.features.rung
        if rung is not FULL:
            return rung.name
        return RETURNING if frame.roster.serving < self._ensemble.folds else None
