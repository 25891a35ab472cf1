"""From frame features and words to estimates: a provisional one at once, a settled one when nothing can change.

Two tracks run over the same frames. The *settled* track takes each frame once, in order, with its final words:
a causal pass that an offline prediction repeats exactly. The *provisional* track runs ahead of it with the
words known so far; when words change, it is run again from the settled track's end. Sight and sound are known
at the frame, so their encodings are computed once and serve both. New frames come one by one or a few at once:
what is computed is the same, and a few cost little more than one.

A frame is embedded, goes through the temporal branches of sight and sound, and on each track through the language
branch and fusion to every fold's outputs, which are centered and merged. Which weights compute that is the business
of `models.accelerate.runtime`; what an estimate says, of `stream.estimation.estimates`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import torch

from models.accelerate.select import Preference, serve
from models.spec import TARGETS, Modality, WindowSpec
from models.speech.timeline import WordTimeline
from models.speech.words import Settled, SpeechEvent
from stream.estimation.active_folds import ActiveFolds, FoldMerge, MergeState, next_active_folds
from stream.estimation.batching import Moment, runs, whole_batches
from stream.estimation.embedding import Embedded, FrameEmbedding, WordEmbedding
from stream.estimation.estimates import make_estimate
from stream.estimation.frames import MergedFrame, PendingFrame
from stream.estimation.window import RevisableWindow

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from models.accelerate.runtime import Runtime
    from models.bundle.load import Bundle
    from models.networks.ensemble import BranchState
    from models.text.embedder import TextEmbedder
    from stream.messages import Estimate
    from stream.perception.features import FrameFeatures


@dataclass(frozen=True, eq=False, repr=False)
class Track:
    """One pass over the frames: the state of the language branch and of the merge."""

    language: BranchState | None
    merge: MergeState


@dataclass(frozen=True, eq=False, repr=False)
class EstimatorState:
    """Everything between two frames; immutable, so any of them is a snapshot."""

    branches: dict[Modality, BranchState]
    embedded: dict[Modality, Embedded]
    active: ActiveFolds
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
    off; `runtime` computes, the bundle's own parts eagerly where it is None. `settle_at_once` frames settle
    together: batches are cut by frame numbers, never by when frames could settle.

    Folds rest where a frame's `rung` says so, and return as `stream.estimation.active_folds` tells; those of an
    ensemble whose folds differ in shape never do.
    """

    def __init__(
        self,
        bundle: Bundle,
        embedder: TextEmbedder | None,
        *,
        runtime: Runtime | None = None,
        settle_at_once: int = 1,
        window: int = WindowSpec().length,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._runtime = runtime or serve(bundle, preference=Preference("eager"))
        self._settle_at_once = settle_at_once
        self._window = window
        self._clock = clock
        ensemble, spec = bundle.ensemble, bundle.ensemble.spec
        self._folds = ensemble.folds
        self._calibration = bundle.manifest.spread
        self._modalities = ensemble.modalities
        self._computed = set(ensemble.modalities)
        if bundle.audio_encoder is None:
            self._computed.discard(Modality.AUDIO)
        if embedder is None:
            self._computed.discard(Modality.LANGUAGE)
        width = spec.branch(Modality.LANGUAGE).embedding if Modality.LANGUAGE in ensemble.modalities else 0
        self._embedding = FrameEmbedding(bundle.manifest.recipe.crop)
        self._words = WordEmbedding(embedder, width)
        self._merge = FoldMerge(ensemble.folds, window, len(TARGETS))
        self._memory = max(spec.branch(m).temporal.receptive_field for m in spec.modalities) - 1

    def initial_state(self) -> EstimatorState:
        """Before the first frame."""
        ensemble = self._runtime.ensemble
        branches = {m: ensemble.initial_state(m, 1) for m in self._modalities}
        track = Track(branches.pop(Modality.LANGUAGE, None), self._merge.initial_state())
        return EstimatorState(
            branches=branches,
            embedded={},
            active=ActiveFolds.of(self._folds),
            settled=track,
            provisional=track,
            window=RevisableWindow(self._window),
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
        state = self._apply_events(state, [event for moment in moments for event in moment.events])
        frames = [moment.features for moment in moments if moment.features is not None]
        estimates: list[Estimate] = []
        for run in runs(self._with_active_folds(state.active, frames), lambda pair: pair[1].stepping):
            state, found = self._take_frames(state, [f for f, _ in run], [a for _, a in run])
            estimates += found
        return state, tuple(estimates)

    def recenter(self, state: EstimatorState) -> EstimatorState:
        """Forgets the centering window: the merge begins anew with the next frame."""

        def anew(track: Track) -> Track:
            return replace(track, merge=self._merge.restarted(track.merge))

        return replace(state, settled=anew(state.settled), provisional=anew(state.provisional))

    @torch.inference_mode()
    def settle(
        self, state: EstimatorState, limit: int | None = None
    ) -> tuple[EstimatorState, tuple[Estimate, ...]]:
        """The settled track over the frames that nothing can change any more: the oldest `limit` or so, or all."""
        batches = self._settling_batches(state.window, limit)
        if not batches:
            return state, ()
        window, leaving, early = state.window.settle(sum(batches))
        track, rest = state.settled, iter(leaving)
        estimates = []
        for size in batches:
            track, merged = self._fuse_and_merge(track, list(islice(rest, size)))
            estimates += [self._estimate(m, state.timeline, ready_at=None) for m in merged]
        timeline = state.timeline.forget_before(leaving[-1].time_s)
        state = replace(
            state, settled=track, window=window, timeline=timeline, settled_early=state.settled_early + early
        )
        return state, tuple(estimates)

    def can_settle(self, state: EstimatorState) -> bool:
        """Whether `settle` would give anything. Cheap: for the caller to ask before it hands over to a thread."""
        return bool(self._settling_batches(state.window, 1))

    def _apply_events(self, state: EstimatorState, events: Sequence[SpeechEvent]) -> EstimatorState:
        """Applies speech events, and runs the provisional track again where they changed a frame's words."""
        timeline, window = state.timeline, state.window
        changed_s = float("inf")
        for event in events:
            timeline, from_s = timeline.step(event)
            changed_s = changed_s if from_s is None else min(changed_s, from_s)
            if isinstance(event, Settled):
                window = window.advance(event.until_s)
        state = replace(state, timeline=timeline, window=window)
        first = window.first_at_or_after(changed_s)
        if first == len(window.frames):
            return state
        before = window.frames[first:]
        revised = tuple(replace(f, vector=self._words.vector_at(timeline, f.time_s)) for f in before)
        if all(np.array_equal(a.vector, b.vector) for a, b in zip(revised, before, strict=True)):
            return state
        frames = (*window.frames[:first], *revised)
        return self._rerun_provisional(replace(state, window=replace(window, frames=frames)))

    def _rerun_provisional(self, state: EstimatorState) -> EstimatorState:
        """The provisional track over all frames not yet settled, from the settled track's end."""
        frames = state.window.frames
        language, outputs = self._fuse(state.settled.language, frames)
        merge = state.settled.merge
        for t, frame in enumerate(frames):
            merge = self._merge.absorb(merge, outputs[:, t], frame.active)
        return replace(state, provisional=Track(language, merge))

    def _with_active_folds(
        self, before: ActiveFolds, frames: Sequence[FrameFeatures]
    ) -> list[tuple[FrameFeatures, ActiveFolds]]:
        """Each frame with the folds at work on it."""
        found: list[tuple[FrameFeatures, ActiveFolds]] = []
        for features in frames:
            if self._runtime.can_rest:
                wanted = features.rung.folds(self._folds)
                before = next_active_folds(before, wanted, self._memory, self._window)
            found.append((features, before))
        return found

    def _take_frames(
        self, state: EstimatorState, frames: Sequence[FrameFeatures], active: Sequence[ActiveFolds]
    ) -> tuple[EstimatorState, list[Estimate]]:
        """New frames, in all of which the same folds step, and their provisional estimates."""
        state, encodings = self._encode(state, frames, active)
        pending = [
            PendingFrame(
                features,
                {m: x[:, :, t] for m, x in encodings.items()},
                self._words.vector_at(state.timeline, features.time_s),
                at_work,
            )
            for t, (features, at_work) in enumerate(zip(frames, active, strict=True))
        ]
        track, merged = self._fuse_and_merge(state.provisional, pending)
        window = state.window
        for frame in pending:
            window = window.push(frame)
        state = replace(state, provisional=track, window=window)
        return state, [self._estimate(m, state.timeline, ready_at=self._clock()) for m in merged]

    def _encode(
        self, state: EstimatorState, frames: Sequence[FrameFeatures], active: Sequence[ActiveFolds]
    ) -> tuple[EstimatorState, dict[Modality, torch.Tensor]]:
        """Sight and sound of T frames, once and for all: encodings (S, 1, T, C), zeros for folds that rest."""
        view = self._runtime.at(active[0].stepping)
        branches, newest = state.branches, state.embedded
        if active[0].stepping != state.active.stepping:
            branches, newest = view.resize(branches), {}
        available = {m: [self._is_available(f, m) for f in frames] for m in branches}
        embedded, embeddings = self._embedding.embed(view, newest, frames, available)
        branches, encodings = view.sense(
            {m: x.unsqueeze(1) for m, x in embeddings.items()},
            branches,
            {m: torch.tensor([there]) for m, there in available.items()},
        )
        return replace(state, branches=branches, embedded=embedded, active=active[-1]), encodings

    def _fuse_and_merge(
        self, track: Track, frames: Sequence[PendingFrame]
    ) -> tuple[Track, list[MergedFrame]]:
        """A track some frames further, and these frames merged."""
        language, outputs = self._fuse(track.language, frames)
        merge = track.merge
        merged: list[MergedFrame] = []
        for t, frame in enumerate(frames):
            merge, centered = self._merge.step(merge, outputs[:, t], frame.active)
            merged.append(MergedFrame(frame, outputs[: frame.active.serving, t], centered))
        return Track(language, merge), merged

    def _fuse(
        self, language: BranchState | None, frames: Sequence[PendingFrame]
    ) -> tuple[BranchState | None, NDArray[np.float64]]:
        """The language branch over T frames from a state, and with it every fold's outputs (F, T, K); those of folds
        that rest mean nothing.
        """
        encodings = {m: torch.stack([f.encodings[m] for f in frames], dim=2) for m in frames[0].encodings}
        words = None
        if language is not None:
            words = torch.from_numpy(np.stack([f.vector for f in frames]))[None, None]
        masks = [[self._is_available(f.features, m) for m in self._modalities] for f in frames]
        language, outputs = self._runtime.steps.fuse(encodings, torch.tensor([masks]), language, words)
        return language, outputs[:, 0].double().numpy()

    def _settling_batches(self, window: RevisableWindow[PendingFrame], limit: int | None) -> list[int]:
        """The lengths of the batches that settle next."""
        ready = window.ready
        if not ready:
            return []
        indices = [frame.features.index for frame in window.frames[: ready + 1]]
        return whole_batches(indices, ready, self._settle_at_once, limit, ended=window.ended)

    def _is_available(self, features: FrameFeatures, modality: Modality) -> bool:
        return modality in self._computed and features.available.of(modality)

    def _estimate(self, merged: MergedFrame, timeline: WordTimeline, *, ready_at: float | None) -> Estimate:
        return make_estimate(
            merged, timeline, folds=self._folds, ready_at=ready_at, calibration=self._calibration
        )
