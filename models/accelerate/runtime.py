"""What the engine calls to compute a frame: the same shapes in and out, by whichever weights and back-end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional

from models.accelerate.backend import EAGER, Backend, Runner
from models.networks.subset import can_rest, first_folds, narrow, widen

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from models.accelerate.parity import Agreement
    from models.accelerate.steps import Steps
    from models.networks.ensemble import BranchState, Ensemble
    from models.spec import Modality

VISUAL: Final = "visual"
AUDIO: Final = "audio"
TEXT: Final = "text"
STEPS: Final = "steps"


@dataclass(frozen=True)
class PartReport:
    """How one part serves, and why: for the status topic, the log and the benchmark.

    Times are the medians of a short measurement, in milliseconds a frame (a call, for text), None where nothing
    was measured; `agreement` is None for eager. `notes` say in one line each what was tried and did not serve.
    """

    part: str
    backend: Backend
    ms: float | None
    eager_ms: float | None
    agreement: Agreement | None = None
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        text = f"{self.part}: {self.backend}"
        if self.ms is not None and self.eager_ms is not None:
            text += f", {self.ms:.2f} ms (eager {self.eager_ms:.2f})"
        return text if self.agreement is None else f"{text}; {self.agreement}"


@runtime_checkable
class AsyncRunner(Protocol):
    """A runner that can be begun and waited for later: several run side by side."""

    def start(self, *inputs: Tensor) -> Callable[[], tuple[Tensor, ...]]:
        """Begin; the returned function waits for the outputs."""
        ...


class BatchedPart:
    """A part as runners of fixed batch sizes: any number of frames, the last chunk padded where none fits.

    `frame_dim` is the outputs' dimension of frames. A runner of size 0 takes any number.
    """

    def __init__(self, runners: Mapping[int, Runner], frame_dim: int) -> None:
        self._any = runners.get(0)
        self._runners = dict(sorted(((n, r) for n, r in runners.items() if n), reverse=True))
        self._frame_dim = frame_dim

    def __call__(self, frames: Tensor) -> Tensor:
        """Frames (N, ...) to outputs with N in the dimension `frame_dim`; N at least 1."""
        return self.start(frames)()

    def start(self, frames: Tensor) -> Callable[[], Tensor]:
        """Begin where the back-end can, else compute; the returned function gives the outputs."""
        runner = self._any or self._runners.get(len(frames))
        if isinstance(runner, AsyncRunner):
            wait = runner.start(frames)
            return lambda: wait()[0]
        found = self._run_in_chunks(frames) if runner is None else runner(frames)[0]
        return lambda: found

    def _run_in_chunks(self, frames: Tensor) -> Tensor:
        outputs: list[Tensor] = []
        at = 0
        while at < len(frames):
            left = len(frames) - at
            size = next((n for n in self._runners if n <= left), min(self._runners))
            chunk = frames[at : at + size]
            if len(chunk) < size:
                chunk = torch.cat([chunk, chunk[-1:].expand(size - len(chunk), *chunk.shape[1:])])
            outputs.append(self._runners[size](chunk)[0].narrow(self._frame_dim, 0, min(size, left)))
            at += size
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=self._frame_dim)


class TextPart:
    """The text encoder as runners of fixed lengths, for one utterance at a time; longer ones run eagerly."""

    def __init__(self, runners: Mapping[int, Runner], eager: Runner) -> None:
        self._runners = dict(sorted(runners.items()))
        self._eager = eager

    def __call__(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Piece ids and mask (N, L) int64 to the last layers' sum (N, L, E)."""
        length = ids.shape[1]
        fitting = next((n for n in self._runners if n >= length), None)
        if fitting is None:
            return self._eager(ids, mask)[0]
        padding = (0, fitting - length)
        ids, mask = functional.pad(ids, padding), functional.pad(mask, padding)
        rows = [self._runners[fitting](ids[i : i + 1], mask[i : i + 1])[0] for i in range(len(ids))]
        return torch.cat(rows)[:, :length]


class Runtime:
    """A bundle's parts, ready to serve: it decides which weights compute what. Call it from one thread at a time.

    A part that the bundle does not have, or whose encoder is not installed, is None; calling for it raises
    ValueError. `steps` is what follows the embeddings. Sizes are those of `models.networks.ensemble`.
    """

    def __init__(
        self,
        ensemble: Ensemble,
        *,
        visual: BatchedPart | None,
        audio: BatchedPart | None,
        text: TextPart | None,
        steps: Steps,
        reports: tuple[PartReport, ...],
    ) -> None:
        self.ensemble = ensemble
        self._visual, self._audio, self._text = visual, audio, text
        self.steps = steps
        self.reports = reports
        self._views: dict[int, RuntimeView] = {}

    @property
    def name(self) -> str:
        """How frames are computed, for people: `openvino int8`, or by part where parts differ."""
        backends = {r.part: str(r.backend) for r in self.reports if r.part in (VISUAL, AUDIO)}
        if len(set(backends.values())) == 1:
            return next(iter(backends.values()))
        return ", ".join(f"{part} {backend}" for part, backend in backends.items()) or str(EAGER)

    def is_eager(self, part: str) -> bool:
        """Whether a part (`visual`, `audio`, `text`) runs as it is, its weights in the bundle."""
        return all(r.backend == EAGER for r in self.reports if r.part == part)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was tried and does not serve, one line each."""
        return tuple(f"{r.part}: {note}" for r in self.reports for note in r.notes)

    @property
    def can_rest(self) -> bool:
        """Whether folds can rest: there are several, and all are of one shape."""
        return can_rest(self.ensemble)

    def at(self, folds: int) -> RuntimeView:
        """The runtime while only the first `folds` folds compute.

        Raises ValueError where there are not so many, or where folds cannot rest.
        """
        if folds not in self._views:
            self._views[folds] = RuntimeView(self, first_folds(self.ensemble, folds))
        return self._views[folds]

    def embed_visual(self, crops: Tensor) -> Tensor:
        """Crops (N, 3, S, S) in normalised pixels to visual embeddings (S, N, E)."""
        return _require(self._visual, VISUAL)(crops)

    def embed_audio(self, patches: Tensor) -> Tensor:
        """Log-mel patches (N, 96, 64) to embeddings (N, E)."""
        return _require(self._audio, AUDIO)(patches)

    def start_audio(self, patches: Tensor) -> Callable[[], Tensor]:
        """Begin with patches (N, 96, 64) where the back-end can, beside what the caller does meanwhile; the returned
        function, which must be called before the next one begins, gives the embeddings (N, E).
        """
        return _require(self._audio, AUDIO).start(patches)

    def encode_text(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Piece ids and mask (N, L) int64 to the sum of the encoder's last four layers (N, L, E)."""
        if self._text is None:
            raise ValueError("no text encoder is served")
        return self._text(ids, mask)


class RuntimeView:
    """A runtime while only its first folds compute and the others rest; S' are the networks of these folds.

    The eager picture encoder computes only these networks. An accelerated one computes all S and the result is cut:
    it may hold the only weights there are, and a machine so slow that folds rest embeds only every third picture.
    """

    def __init__(self, runtime: Runtime, ensemble: Ensemble) -> None:
        self._runtime = runtime
        self.ensemble = ensemble

    def embed(self, crops: Tensor | None, patches: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """Crops (N, 3, S, S) to embeddings (S', N, E) and patches (P, 96, 64) to (1, P, E), side by side where the
        back-end can; None to None.
        """
        wait = None if patches is None else self._runtime.start_audio(patches)
        visual = audio = None
        try:
            if crops is not None:
                visual = self._embed_visual(crops)
        finally:
            if wait is not None:
                audio = wait()[None]
        return visual, audio

    def _embed_visual(self, crops: Tensor) -> Tensor:
        if self._runtime.is_eager(VISUAL):
            return self.ensemble.embed_visual(crops)
        return self._runtime.embed_visual(crops)[: self.ensemble.networks]

    def sense(
        self,
        embeddings: Mapping[Modality, Tensor],
        branches: Mapping[Modality, BranchState],
        available: Mapping[Modality, Tensor],
    ) -> tuple[dict[Modality, BranchState], dict[Modality, Tensor]]:
        """T frames of sight and sound through their temporal branches: embeddings (S' or 1, 1, T, E), the branches'
        states and masks (1, T) to the next states and encodings (S, 1, T, C), zeros for networks that rest.
        """
        branches, encodings = self._runtime.steps.sense(self.ensemble, embeddings, branches, available)
        if resting := self._runtime.ensemble.networks - self.ensemble.networks:
            encodings = {m: functional.pad(x, (0, 0, 0, 0, 0, 0, 0, resting)) for m, x in encodings.items()}
        return branches, encodings

    def resize(self, branches: Mapping[Modality, BranchState]) -> dict[Modality, BranchState]:
        """The states of some branches for these folds: those of folds that rest from now on are left out, folds that
        are called back begin anew. Folds must be able to rest.
        """
        return {m: self._resize_branch(m, state) for m, state in branches.items()}

    def _resize_branch(self, modality: Modality, state: BranchState) -> BranchState:
        if state.networks == self.ensemble.networks:
            return state
        if state.networks > self.ensemble.networks:
            return narrow(state, self.ensemble.networks)
        return widen(state, self.ensemble.initial_state(modality, 1))


def _require(part: BatchedPart | None, name: str) -> BatchedPart:
    if part is None:
        raise ValueError(f"no {name} encoder is served")
    return part
