"""Whole trials through networks: their embeddings, and one causal pass or one window after another over these.

Training validates one fold's network so, and prediction runs all folds as one: tensors have the axes (..., B, T, E),
where the leading ones are the ensemble's networks or folds and are absent for a single network.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from models.spec import Modality
from models.visual.alignment import network_input
from offline.data.windows import average_windows, chunks, cut_windows

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from numpy.typing import NDArray

    from models.spec import CropSpec, WindowSpec
    from offline.data.store import TrialRecord

WINDOWS_AT_ONCE: Final = 8

State = TypeVar("State")


class CausalNetwork(Protocol[State]):
    """One fold's network or the ensemble, from `models.networks`."""

    def run(
        self,
        embeddings: Mapping[Modality, Tensor],
        state: State | None = None,
        available: Tensor | None = None,
    ) -> tuple[State, Tensor]:
        """A chunk: embeddings (..., B, T, E_m), `available` (B, T, M) to (next state, estimates (..., B, T, K))."""


@dataclass(frozen=True, eq=False)
class TrialEmbeddings:
    """A trial as the temporal branches take it.

    `embeddings` of each of the network's modalities are (..., 1, N, E); `missing` are those that were not there,
    whose embeddings do not count.
    """

    embeddings: dict[Modality, Tensor]
    missing: frozenset[Modality] = frozenset()

    @property
    def frames(self) -> int:
        """N."""
        return int(next(iter(self.embeddings.values())).shape[-2])

    @property
    def available(self) -> Tensor:
        """Which modalities are there at each frame: (1, N, M) bool, in fusion's order."""
        device = next(iter(self.embeddings.values())).device
        return availability(self.embeddings, self.missing, self.frames, device)[None]

    def without(self, modality: Modality | None) -> TrialEmbeddings:
        """The same with one branch masked, as where its input is gone; None masks nothing more."""
        return self if modality is None else replace(self, missing=self.missing | {modality})


def availability(
    modalities: Iterable[Modality], missing: Collection[Modality], frames: int, device: torch.device
) -> Tensor:
    """The mask (frames, M) bool of a network with these branches, in fusion's order: False where one is missing."""
    known = set(modalities)
    there = [m not in missing for m in Modality if m in known]
    return torch.tensor(there, device=device).expand(frames, -1)


def unrecorded(trial: TrialRecord) -> frozenset[Modality]:
    """What a trial's recording or its store never had: both sound and words without a sound track, words without a
    recogniser. That is not the same as silence.
    """
    if not trial.facts.has_sound:
        return frozenset({Modality.AUDIO, Modality.LANGUAGE})
    return frozenset() if trial.recipe.recogniser is not None else frozenset({Modality.LANGUAGE})


@torch.no_grad()
def embed_crops(
    trial: TrialRecord,
    spec: CropSpec,
    encode: Callable[[Tensor], Tensor],
    device: torch.device,
    chunk_frames: int,
) -> Tensor:
    """A trial's crops through `encode`, which takes pixels (n, 3, S, S) to (..., n, E): (..., N, E)."""
    parts = [
        encode(torch.from_numpy(network_input(trial.crops[begin:end], spec)).to(device))
        for begin, end in chunks(trial.frames, chunk_frames)
    ]
    return torch.cat(parts, dim=-2)


@torch.no_grad()
def embed_sound(trial: TrialRecord, encoder: nn.Module, chunk_frames: int) -> Tensor:
    """A trial's log-mel patches through an audio encoder, on the encoder's device: (N, E)."""
    device = next(encoder.parameters()).device
    parts = [
        encoder(torch.from_numpy(trial.patches(begin, end)).to(device))
        for begin, end in chunks(trial.frames, chunk_frames)
    ]
    return torch.cat(parts)


def stored_embeddings(rows: NDArray[np.float32], device: torch.device) -> Tensor:
    """A copy of what a store or a cache keeps of a trial, (N, E) float32."""
    return torch.from_numpy(np.array(rows, np.float32)).to(device)


@torch.no_grad()
def run_stream(
    network: CausalNetwork[State], trial: TrialEmbeddings, chunk_frames: int | None = None
) -> NDArray[np.float32]:
    """Estimates (..., N, K), not clipped, of one causal pass: in chunks, or of all frames at once."""
    state: State | None = None
    available = trial.available
    parts = []
    for begin, end in chunks(trial.frames, chunk_frames or trial.frames):
        chunk = {m: x[..., begin:end, :] for m, x in trial.embeddings.items()}
        state, estimates = network.run(chunk, state, available[:, begin:end])
        parts.append(estimates.squeeze(-3).float().cpu().numpy())
    return np.concatenate(parts, axis=-2)


@torch.no_grad()
def run_windows(
    network: CausalNetwork[State], trial: TrialEmbeddings, spec: WindowSpec
) -> NDArray[np.float32]:
    """Estimates (..., N, K), not clipped, of windows from a fresh state each, averaged where they overlap."""
    windows = cut_windows(trial.frames, spec)
    available = trial.available
    estimates: list[Tensor] = []
    for i in range(0, len(windows), WINDOWS_AT_ONCE):
        some = windows[i : i + WINDOWS_AT_ONCE]
        # A short trial goes in as it is: the network is causal, zeros behind the end would change nothing.
        batch = {
            m: torch.cat([x[..., w.start : w.stop, :] for w in some], dim=-3)
            for m, x in trial.embeddings.items()
        }
        masks = torch.cat([available[:, w.start : w.stop] for w in some])
        estimates += network.run(batch, None, masks)[1].float().cpu().unbind(-3)
    return average_windows(windows, [y.numpy() for y in estimates], trial.frames)
