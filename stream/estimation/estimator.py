"""From frame features and words to estimates: a provisional one at once, a settled one when nothing can change.

Two tracks run over the same frames. The *settled* track takes each frame once, in order, with its final words:
a causal pass that an offline prediction repeats exactly. The *provisional* track runs ahead of it with the
words known so far; when words change, it is run again from the settled track's end. Sight and sound are known
at the frame, so their encodings are computed once and serve both. New frames come one by one or a few at once:
what is computed is the same, and a few cost little more than one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from models.accelerate.runtime import Runtime
from models.accelerate.select import Preference, serve
from models.bundle.load import Bundle
from models.centering import CenteredFrame
from models.networks.ensemble import BranchState, Ensemble
from models.networks.subset import can_rest, first_folds, first_networks, narrow, widen
from models.spec import TARGETS, Modality
from models.speech.timeline import WordTimeline
from models.speech.words import Settled, SpeechEvent
from models.text.embedder import TextEmbedder
from stream.estimation.active_folds import ActiveFolds, FoldMerge, MergeState, next_active_folds
from stream.estimation.batching import Moment, runs, whole_batches
from stream.estimation.embedding import Embedded, FrameEmbedding
from stream.estimation.window import RevisableWindow
from stream.flow.ladder import FULL
from stream.messages import Affect, Estimate, Present
from stream.perception.features import FrameFeatures

Encodings = dict[Modality, Tensor]

RETURNING: Final = "folds-returning"
"""What an estimate says it lacks while folds that rested are called back but do not serve yet."""

_NO_WORDS: Final[NDArray[np.float32]] = np.zeros(0, np.float32)

FoldOutputs = NDArray[np.float64]
"""Every fold's outputs (F, T, K); what those that rest give means nothing."""


@dataclass(frozen=True, eq=False, repr=False)
class PendingFrame:
    """A frame whose words may still change: its features' facts, what is final of it, and its latest word vector.

    `encodings` holds sight's and sound's, (S, 1, C) each, zeros for folds that rest; `vector` (E,) is the
    word vector that the provisional track used.
    """

    features: FrameFeatures
    encodings: Encodings
    vector: NDArray[np.float32]
    roster: ActiveFolds

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
class EstimatorState:
    """Everything between two frames; immutable, so any of them is a snapshot."""

    branches: dict[Modality, BranchState]
    embedded: dict[Modality, Embedded]
    roster: ActiveFolds
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

    Pure: `answer(state, moments) -> (state, estimates)` gives the frames' provisional estimates,
    `settle(state, limit) -> (state, estimates)` what has settled, `step` both for one frame. Blocking and
    CPU-bound: the engine runs it in a thread of its own. `embedder` may be None where the language branch is
    off; `served` computes sight and sound, the bundle's own parts where it is None. So many frames as
    `settle_at_once` settle together, cut by their numbers, never by when they could.

    Folds rest where a frame's `rung` says so, and return as `stream.estimation.active_folds` tells; those of an
    ensemble whose folds differ in shape never do.
    """

    def __init__(
        self,
        bundle: Bundle,
        embedder: TextEmbedder | None,
        *,
        served: Runtime | None = None,
        settle_at_once: int = 1,
        window: int = 300,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._ensemble = bundle.ensemble
        served = served or serve(bundle, preference=Preference("eager"))
        self._embedding = FrameEmbedding(served, bundle.manifest.recipe.crop)
        self._steps = served.steps
        self._embedder = embedder
        self._spec = bundle.ensemble.spec
        self._settle_at_once = settle_at_once
        self._capacity = window
        self._clock = clock
        self._merge = FoldMerge(self._ensemble.folds, window, len(TARGETS))
        self._can_rest = can_rest(self._ensemble)
        self._leading = {self._ensemble.folds: self._ensemble}
        self._memory = max(self._spec.branch(m).temporal.receptive_field for m in self._spec.modalities) - 1
        present = set(self._ensemble.modalities)
        if bundle.audio_encoder is None:
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
            roster=ActiveFolds.of(self._ensemble.folds),
            settled=track,
            provisional=track,
            window=RevisableWindow(self._capacity),
            timeline=WordTimeline(),
        )

    def step(
        self, state: EstimatorState, features: FrameFeatures | None, events: Sequence[SpeechEvent] = ()
    ) -> tuple[EstimatorState, Answer]:
        """One frame, or None for words without a frame, and all that settled with it."""
        state, provisional = self.answer(state, (Moment(features, tuple(events)),))
        state, settled = self.settle(state)
        return state, Answer(provisional[0] if provisional else None, settled)

    @torch.inference_mode()
    def answer(
        self, state: EstimatorState, moments: Sequence[Moment]
    ) -> tuple[EstimatorState, tuple[Estimate, ...]]:
        """Takes everything said in some moments in a row, then their frames, and estimates each.

        What settles stays in the window until `settle` takes it out.
        """
        state = self._listen(state, [event for moment in moments for event in moment.events])
        frames = [moment.features for moment in moments if moment.features is not None]
        estimates: list[Estimate] = []
        for run in runs(self._rostered(state.roster, frames), lambda rostered: rostered[1].stepping):
            state, found = self._estimate(state, [f for f, _ in run], [r for _, r in run])
            estimates += found
        return state, tuple(estimates)

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
        language, outputs = self._run_words(state.settled.language, frames)
        merge = state.settled.merge
        for t, frame in enumerate(frames):
            merge = self._merge.absorb(merge, outputs[:, t], frame.roster)
        return replace(state, provisional=Track(language, merge))

    def _estimate(
        self, state: EstimatorState, frames: Sequence[FrameFeatures], rosters: Sequence[ActiveFolds]
    ) -> tuple[EstimatorState, list[Estimate]]:
        """Sight and sound of new frames, once and for all, and their provisional estimates; the same folds step in
        all of them.
        """
        state = self._call(state, rosters[0])
        ensemble = self._of(rosters[0])
        serving = {m: [self._is_available(f, m) for f in frames] for m in state.branches}
        embedded, embeddings = self._embedding.embed(state.embedded, frames, serving, ensemble)
        branches, encodings = self._steps.sense(
            ensemble,
            {m: x.unsqueeze(1) for m, x in embeddings.items()},
            state.branches,
            {m: torch.tensor([there]) for m, there in serving.items()},
        )
        if resting := self._ensemble.networks - ensemble.networks:
            encodings = {m: functional.pad(x, (0, 0, 0, 0, 0, 0, 0, resting)) for m, x in encodings.items()}
        pending = [
            PendingFrame(
                features,
                {m: x[:, :, t] for m, x in encodings.items()},
                self._vector(state.timeline, features.time_s),
                roster,
            )
            for t, (features, roster) in enumerate(zip(frames, rosters, strict=True))
        ]
        track, answers = self._advance(state.provisional, pending)
        window = state.window
        for frame in pending:
            window = window.push(frame)
        state = replace(
            state, branches=branches, embedded=embedded, roster=rosters[-1], provisional=track, window=window
        )
        return state, [self._estimate_of(*answer, state.timeline, settled=False) for answer in answers]

    def _rostered(
        self, before: ActiveFolds, frames: Sequence[FrameFeatures]
    ) -> list[tuple[FrameFeatures, ActiveFolds]]:
        """Each frame with the folds at work on it."""
        found: list[tuple[FrameFeatures, ActiveFolds]] = []
        for features in frames:
            if self._can_rest:
                wanted = features.rung.folds(self._ensemble.folds)
                before = next_active_folds(before, wanted, self._memory, self._capacity)
            found.append((features, before))
        return found

    def _call(self, state: EstimatorState, roster: ActiveFolds) -> EstimatorState:
        """The branches' states of the folds that are to step from now on."""
        if roster.stepping == state.roster.stepping:
            return state
        networks = first_networks(self._ensemble, roster.stepping)
        branches = {
            m: narrow(branch, networks)
            if roster.stepping < state.roster.stepping
            else widen(branch, self._of(roster).initial_state(m, 1))
            for m, branch in state.branches.items()
        }
        return replace(state, branches=branches, embedded={})

    def _of(self, roster: ActiveFolds) -> Ensemble:
        if roster.stepping not in self._leading:
            self._leading[roster.stepping] = first_folds(self._ensemble, roster.stepping)
        return self._leading[roster.stepping]

    @torch.inference_mode()
    def settle(
        self, state: EstimatorState, limit: int | None = None
    ) -> tuple[EstimatorState, tuple[Estimate, ...]]:
        """The settled track over the frames that nothing can change any more: the oldest `limit` or so, or all."""
        batches = self._settling(state.window, limit)
        if not batches:
            return state, ()
        window, leaving, early = state.window.settle(sum(batches))
        track, rest = state.settled, iter(leaving)
        estimates = []
        for size in batches:
            track, answers = self._advance(track, list(islice(rest, size)))
            estimates += [self._estimate_of(*answer, state.timeline, settled=True) for answer in answers]
        timeline = state.timeline.forget_before(leaving[-1].time_s)
        state = replace(
            state, settled=track, window=window, timeline=timeline, settled_early=state.settled_early + early
        )
        return state, tuple(estimates)

    def can_settle(self, state: EstimatorState) -> bool:
        """Whether `settle` would give anything. Cheap: for the caller to ask before it hands over to a thread."""
        return bool(self._settling(state.window, 1))

    def _settling(self, window: RevisableWindow[PendingFrame], limit: int | None) -> list[int]:
        """The lengths of the batches that settle next."""
        ready = window.ready
        if not ready:
            return []
        indices = [frame.features.index for frame in window.frames[: ready + 1]]
        return whole_batches(indices, ready, self._settle_at_once, limit, ended=window.ended)

    def _advance(
        self, track: Track, frames: Sequence[PendingFrame]
    ) -> tuple[Track, list[tuple[PendingFrame, FoldOutputs, CenteredFrame]]]:
        """Some frames further: the new track, and for each frame the outputs (F, K) of the folds that serve and
        their merge.
        """
        language, outputs = self._run_words(track.language, frames)
        merge = track.merge
        answers: list[tuple[PendingFrame, FoldOutputs, CenteredFrame]] = []
        for t, frame in enumerate(frames):
            merge, centered = self._merge.step(merge, outputs[:, t], frame.roster)
            answers.append((frame, outputs[: frame.roster.serving, t], centered))
        return Track(language, merge), answers

    def _run_words(
        self, language: BranchState | None, frames: Sequence[PendingFrame]
    ) -> tuple[BranchState | None, FoldOutputs]:
        """The language branch over T frames from a state, and every fold's outputs (F, T, K) with it."""
        encodings = {m: torch.stack([f.encodings[m] for f in frames], dim=2) for m in frames[0].encodings}
        words = None
        if language is not None:
            words = torch.from_numpy(np.stack([f.vector for f in frames]))[None, None]
        masks = [[self._is_available(f.features, m) for m in self._ensemble.modalities] for f in frames]
        language, outputs = self._steps.fuse(encodings, torch.tensor([masks]), language, words)
        return language, outputs[:, 0].double().numpy()

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

    def _estimate_of(
        self,
        frame: PendingFrame,
        outputs: FoldOutputs,
        centered: CenteredFrame,
        timeline: WordTimeline,
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
