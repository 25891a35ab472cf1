"""One runtime for several estimators at once, each in a thread of its own.

A runtime is called from one thread at a time, so a lock lies around it. Pictures and sounds that wait for that lock
are embedded together: whoever gets it computes for all who wait, in one call. Weights are read once for them all, and
nobody ever waits for a batch to fill.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from models.accelerate.runtime import Runtime, RuntimeView
from models.accelerate.steps import Steps
from models.networks.subset import first_folds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from models.networks.ensemble import BranchState, Ensemble
    from models.spec import Modality

Embeddings = tuple["Tensor | None", "Tensor | None"]


class SharedRuntime(Runtime):
    """A runtime that any number of threads may call; it computes what `served` computes.

    `together`: what several threads want embedded at the same time is embedded in one call, and then the last bits of
    an embedding may depend on what else was in it. For recordings, whose replay repeats to the byte, leave it off.

    `calls` counts calls for embeddings that were computed, `requests` those that were asked for.
    """

    def __init__(self, served: Runtime, *, together: bool) -> None:
        self.ensemble = served.ensemble
        self.reports = served.reports
        self.steps = _LockedSteps(served.steps, self)
        self.calls = self.requests = 0
        self.lock = threading.Lock()
        self._served = served
        self._together = together
        self._waiting: list[_Request] = []
        self._waiting_lock = threading.Lock()
        self._views: dict[int, RuntimeView] = {}

    def at(self, folds: int) -> RuntimeView:
        """The runtime while only the first `folds` folds compute."""
        with self._waiting_lock:
            if folds not in self._views:
                self._views[folds] = _SharedView(self, first_folds(self.ensemble, folds), folds)
            return self._views[folds]

    def embed_visual(self, crops: Tensor) -> Tensor:
        """As `Runtime.embed_visual`."""
        with self.lock:
            return self._served.embed_visual(crops)

    def embed_audio(self, patches: Tensor) -> Tensor:
        """As `Runtime.embed_audio`."""
        with self.lock:
            return self._served.embed_audio(patches)

    def start_audio(self, patches: Tensor) -> Callable[[], Tensor]:
        """Computes at once: nothing may be begun that another thread could come between."""
        found = self.embed_audio(patches)
        return lambda: found

    def encode_text(self, ids: Tensor, mask: Tensor) -> Tensor:
        """As `Runtime.encode_text`."""
        with self.lock:
            return self._served.encode_text(ids, mask)

    def embed_with_others(self, folds: int, crops: Tensor | None, patches: Tensor | None) -> Embeddings:
        """As `RuntimeView.embed` of so many folds, in one call with whatever else waits for it."""
        request = _Request(folds, crops, patches)
        with self._waiting_lock:
            self._waiting.append(request)
            self.requests += 1
        with self.lock:
            if request.found is None and request.error is None:
                self._embed_all(self._take_waiting(request))
        if request.error is not None:
            raise request.error
        assert request.found is not None
        return request.found

    def _take_waiting(self, request: _Request) -> list[_Request]:
        """This request, and with it those of as many folds that wait too."""
        with self._waiting_lock:
            taken = [
                r for r in self._waiting if r is request or (self._together and r.folds == request.folds)
            ]
            self._waiting = [r for r in self._waiting if r not in taken]
        return taken

    def _embed_all(self, requests: Sequence[_Request]) -> None:
        self.calls += 1
        try:
            crops = _joined([r.crops for r in requests])
            patches = _joined([r.patches for r in requests])
            visual, audio = self._served.at(requests[0].folds).embed(crops, patches)
        except Exception as error:
            for request in requests:
                request.error = error
            return
        visuals = _parted(visual, [r.crops for r in requests])
        audios = _parted(audio, [r.patches for r in requests])
        for request, *found in zip(requests, visuals, audios, strict=True):
            request.found = (found[0], found[1])


@dataclass(eq=False)
class _Request:
    """What one thread wants embedded, and then what came of it."""

    folds: int
    crops: Tensor | None
    patches: Tensor | None
    found: Embeddings | None = None
    error: Exception | None = None


class _SharedView(RuntimeView):
    """Some folds of a shared runtime."""

    def __init__(self, runtime: SharedRuntime, ensemble: Ensemble, folds: int) -> None:
        super().__init__(runtime, ensemble)
        self._shared = runtime
        self._folds = folds

    def embed(self, crops: Tensor | None, patches: Tensor | None) -> Embeddings:
        """As `RuntimeView.embed`."""
        return self._shared.embed_with_others(self._folds, crops, patches)


class _LockedSteps(Steps):
    """The steps of a runtime, one thread at a time: each caller has a state of its own."""

    def __init__(self, steps: Steps, runtime: SharedRuntime) -> None:
        self._steps = steps
        self._runtime = runtime

    @property
    def eager(self) -> bool:
        """As `Steps.eager`."""
        return self._steps.eager

    def sense(
        self,
        ensemble: Ensemble,
        embeddings: Mapping[Modality, Tensor],
        branches: Mapping[Modality, BranchState],
        available: Mapping[Modality, Tensor],
    ) -> tuple[dict[Modality, BranchState], dict[Modality, Tensor]]:
        """As `Steps.sense`."""
        with self._runtime.lock:
            return self._steps.sense(ensemble, embeddings, branches, available)

    def fuse(
        self,
        encodings: Mapping[Modality, Tensor],
        available: Tensor,
        language: BranchState | None,
        words: Tensor | None,
    ) -> tuple[BranchState | None, Tensor]:
        """As `Steps.fuse`."""
        with self._runtime.lock:
            return self._steps.fuse(encodings, available, language, words)


def _joined(inputs: Sequence[Tensor | None]) -> Tensor | None:
    """Everybody's frames (N, ...) one after another; None where nobody has any."""
    given = [x for x in inputs if x is not None]
    return torch.cat(given) if len(given) > 1 else next(iter(given), None)


def _parted(found: Tensor | None, inputs: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Embeddings (S', N, E) of everybody's frames back to each: (S', n, E), None for those who had none."""
    if found is None:
        return [None] * len(inputs)
    pieces = iter(torch.split(found, [len(x) for x in inputs if x is not None], dim=1))
    return [None if x is None else next(pieces) for x in inputs]
