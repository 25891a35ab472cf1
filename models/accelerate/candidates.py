"""A part on a back-end: built, compared with eager on the probe input, and measured."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from statistics import median
from typing import TYPE_CHECKING, Final

import torch

from models.accelerate.backend import EAGER, Backend, BuildContext, Precision, Runner, Unavailable
from models.accelerate.build import accelerate
from models.accelerate.parity import LIMITS, Agreement, Reference, compare, compare_tensors, estimate
from models.accelerate.parts import ModelPart, eager_runner, frame_dim
from models.accelerate.runtime import TEXT, VISUAL, BatchedPart, TextPart
from models.accelerate.steps import StepOutputs, Steps, build_steps, random_states, run_sequence
from models.spec import Modality

if TYPE_CHECKING:
    from collections.abc import Mapping

    from models.bundle.load import Bundle

_MEASURED_CALLS: Final = 5


@dataclass(frozen=True, eq=False)
class Candidate:
    """A part built on a back-end, in agreement with eager; `ms` is None where nothing had to be measured."""

    backend: Backend
    runners: Mapping[int, Runner]
    ms: float | None = None
    agreement: Agreement | None = None


@dataclass(eq=False)
class Attempt:
    """The search for one part's back-end: the candidates so far, and in `notes` why other back-ends are none.

    `eager` is among the candidates unless the user named a back-end (`insist`). `taken` is the one that an earlier
    start chose; it then serves however quick it is today.
    """

    part: ModelPart
    eager: Candidate
    insist: bool = False
    accepted: list[Candidate] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    taken: Candidate | None = None

    def best(self) -> Candidate:
        """The one to serve: `taken`, else the fastest."""
        if self.taken is not None:
            return self.taken
        found = self.accepted if self.insist and self.accepted else [self.eager, *self.accepted]
        return min(found, key=lambda c: c.ms or 0.0)


class CandidateBuilder:
    """Builds a part on a back-end, compares it with eager on the probe, and measures it."""

    def __init__(self, bundle: Bundle, reference: Reference, context: BuildContext) -> None:
        self.bundle = bundle
        self.reference = reference
        self._context = context

    def try_backend(self, attempt: Attempt, backend: Backend) -> None:
        """Add a candidate to the attempt where the part can be built and agrees with eager; else a note that says
        why not.

        Words, which cost nothing per frame, go by the back-end's float32 where a lower precision cannot serve.
        """
        part = attempt.part
        if backend == EAGER or any(c.backend == backend for c in attempt.accepted):
            return
        exact = Backend(backend.name)
        if part.name == TEXT and backend.precision == "int8":  # there are no inputs to calibrate words on
            self.try_backend(attempt, exact)
            return
        try:
            runners = {size: self._build(part, size, backend) for size in part.sizes}
            agreement = self.agreement(part, runners, backend.precision)
        except Unavailable as e:
            attempt.notes.append(f"{backend} does not serve: {e}")
            return
        if not agreement.holds:
            attempt.notes.append(
                f"{backend} does not serve, it disagreed with eager on the probe: {agreement}"
            )
            if part.name == TEXT and backend != exact:
                self.try_backend(attempt, exact)
            return
        attempt.accepted.append(Candidate(backend, runners, measure(part, runners), agreement))

    def agreement(self, part: ModelPart, runners: Mapping[int, Runner], precision: Precision) -> Agreement:
        """The part's fast path beside eager on the probe; the worst of its sizes. Raises Unavailable where it
        fails there.
        """
        try:
            if part.modality is None:
                found = [self._compare_text(part, runners, n, precision) for n in part.text_lengths()]
            else:
                found = [self._compare(part, part.modality, {n: r}, precision) for n, r in runners.items()]
        except (RuntimeError, ValueError) as e:
            raise Unavailable(f"it fails on the probe: {e}") from e
        return Agreement(max(a.features for a in found), max(a.estimates for a in found), LIMITS[precision])

    def build_steps(self, frames: int, backend: Backend) -> Steps:
        """What follows the embeddings of so many frames, on a back-end. Raises Unavailable."""
        ensemble = self.bundle.ensemble
        return Steps(ensemble, build_steps(ensemble, frames, backend, self._context_of("steps")))

    def agreement_of_steps(self, steps: Steps, frames: int) -> Agreement:
        """Estimates, encodings and next states beside eager's over the probe, from random states and with every
        set of inputs missing at some frame. Raises Unavailable where it fails there.
        """
        try:
            expected, found = (self._run_probe(s, frames) for s in (Steps(self.bundle.ensemble), steps))
        except (RuntimeError, ValueError) as e:
            raise Unavailable(f"it fails on the probe: {e}") from e
        return compare_tensors(found.tensors, expected.tensors, "float32")

    def measure_steps(self, steps: Steps, frames: int) -> float:
        """Milliseconds a frame over the probe."""
        times = []
        for _ in range(_MEASURED_CALLS):
            began = time.perf_counter()
            self._run_probe(steps, frames)
            times.append(time.perf_counter() - began)
        return 1e3 * median(times) / self._probe_length(frames)

    @torch.inference_mode()
    def _run_probe(self, steps: Steps, frames: int) -> StepOutputs:
        ensemble, count = self.bundle.ensemble, self._probe_length(frames)
        each = torch.arange(count)
        embeddings = {m: x[:, each % x.shape[1]] for m, x in self.reference.embeddings.items()}
        # Frame number n lacks the inputs whose bits are set in n: every set of them is missing once.
        bits = 2 ** torch.arange(len(ensemble.modalities))
        available = (each[:, None] & bits) == 0
        states = random_states(ensemble, torch.Generator().manual_seed(0))
        return run_sequence(steps, ensemble, states, embeddings, available, frames)

    def _probe_length(self, frames: int) -> int:
        """Frames of a run over the probe: whole calls, two at least, and every set of missing inputs."""
        least = max(2 * frames, 1 << len(self.bundle.ensemble.modalities))
        return -(-least // frames) * frames

    def _build(self, part: ModelPart, size: int, backend: Backend) -> Runner:
        calibration = part.calibration_inputs(size) if backend.precision == "int8" else []
        context = replace(self._context_of(part.name), calibration=calibration)
        return accelerate(part.graph(), part.example(size), backend, context)

    def _context_of(self, part: str) -> BuildContext:
        """The build context, with the part's name in front of each line of progress."""
        report = self._context.progress
        return replace(self._context, progress=lambda message: report(f"{part}: {message}"))

    def _compare(
        self, part: ModelPart, modality: Modality, runners: Mapping[int, Runner], precision: Precision
    ) -> Agreement:
        found = BatchedPart(runners, frame_dim(part))(part.frames[0])
        own = found if part.name == VISUAL else found.unsqueeze(0)
        return compare(self.bundle.ensemble, self.reference, {modality: own}, precision)

    def _compare_text(
        self, part: ModelPart, runners: Mapping[int, Runner], length: int, precision: Precision
    ) -> Agreement:
        """Word vectors of a fixed utterance as the language branch's embeddings: eager's beside those that the
        runners serve, padded and masked.
        """
        ids, mask = (x[:, :length].contiguous() for x in part.frames)
        eager = eager_runner(part)
        expected, found = TextPart({}, eager)(ids, mask), TextPart(runners, eager)(ids, mask)
        embeddings = {m: x[:, :1].expand(-1, length, -1) for m, x in self.reference.embeddings.items()}
        embeddings[Modality.LANGUAGE] = expected
        reference = Reference(embeddings, estimate(self.bundle.ensemble, embeddings))
        return compare(self.bundle.ensemble, reference, {Modality.LANGUAGE: found}, precision)


def eager_candidate(part: ModelPart) -> Candidate:
    """Eager as a candidate, measured: what the others are compared with."""
    runners = {0: eager_runner(part)}
    return Candidate(EAGER, runners, measure(part, runners))


def unmeasured(part: ModelPart) -> Candidate:
    """Eager as a candidate, not measured: where there is nothing to choose."""
    return Candidate(EAGER, {0: eager_runner(part)})


def measure(part: ModelPart, runners: Mapping[int, Runner]) -> float:
    """Milliseconds a frame (an utterance, for text) at the smallest size: the median of a few calls.

    A live source's frames come mostly one by one; a recording's batches have one size.
    """
    size = min(part.sizes)
    inputs = part.example(size)
    runner = runners[size] if size in runners else runners[0]
    runner(*inputs)
    times = []
    for _ in range(_MEASURED_CALLS):
        began = time.perf_counter()
        runner(*inputs)
        times.append(time.perf_counter() - began)
    return 1e3 * median(times) / (size if part.per_frame else 1)
