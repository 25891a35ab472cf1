"""What frozen encoders say of a trial, computed once and kept as memory-mapped `.npy`.

The backbone's feature maps under a few fixed crops (`--cache-trunk`) and the audio encoder's embeddings. The
trunk's maps are kept as float16; those behind units of the tail, which stay frozen until their group is released,
as they come of these. Entries appear whole or not at all, so several folds may fill one cache at a time; a
folder's name holds what its content depends on, so a stale entry is never found.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from offline.data.whole_trials import embed_sound
from offline.data.windows import CropAugmentation, chunks, take_pixels
from offline.files import save_array

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from models.audio.vggish import Vggish
    from models.spec import CropSpec
    from models.visual.backbone import Backbone
    from offline.data.store import TrialRecord

CHUNK_FRAMES = 50
"""Frames a frozen encoder takes at once: IR-50's widest map of so many is 20 MB."""


def weights_hash(module: nn.Module) -> str:
    """A short hash of a module's weights and buffers."""
    digest = hashlib.sha256()
    for name, value in module.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


@torch.no_grad()
def trunk_maps(backbone: Backbone, pixels: Tensor) -> Tensor:
    """The frozen trunk over pixels (N, 3, S, S), chunk by chunk: (N, C, h, w)."""
    return torch.cat([backbone.trunk(pixels[a:b]) for a, b in chunks(len(pixels), CHUNK_FRAMES)])


class MapCache:
    """A frozen backbone's maps of whole trials under fixed augmentations: the trunk's, or of the tail's units."""

    def __init__(
        self,
        folder: Path,
        backbone: Backbone,
        augmentations: tuple[CropAugmentation, ...],
        spec: CropSpec,
        store_hash: str,
    ) -> None:
        """`backbone` is in eval mode, on the device where it is to run."""
        self.augmentations = augmentations
        self._backbone = backbone
        self._spec = spec
        self._folder = folder
        self._name = f"{weights_hash(backbone)}-{store_hash}"

    def fill(self, trials: Iterable[TrialRecord], units: int) -> Iterator[None]:
        """Compute what is missing; yields after every entry, there or made."""
        for trial in trials:
            for variant in range(len(self.augmentations)):
                self.maps(trial, variant, units)
                yield

    def maps(self, trial: TrialRecord, variant: int, units: int) -> NDArray[Any]:
        """A trial's maps (N, C, h, w) under augmentation `variant` behind `units` of the tail's units, memory-mapped:
        float16 of the trunk itself, else float32.
        """
        path = self._path(trial, variant, units)
        if not path.is_file():
            save_array(path, self._compute(trial, variant, units))
        return _mapped(path)

    def _path(self, trial: TrialRecord, variant: int, units: int) -> Path:
        augmentation = self.augmentations[variant]
        room = f"units{units}-{self._name}" if units else f"trunk-{self._name}"
        file = f"{augmentation.top}-{augmentation.left}{'-mirrored' if augmentation.flip else ''}.npy"
        return self._folder / room / trial.name / file

    @torch.no_grad()
    def _compute(self, trial: TrialRecord, variant: int, units: int) -> NDArray[Any]:
        device = next(self._backbone.parameters()).device
        kept = _mapped(path) if (path := self._path(trial, variant, 0)).is_file() else None
        parts: list[NDArray[Any]] = []
        for begin, end in chunks(trial.frames, CHUNK_FRAMES):
            if kept is None:
                pixels = torch.from_numpy(
                    take_pixels(trial.crops[begin:end], self.augmentations[variant], self._spec)
                )
                maps = trunk_maps(self._backbone, pixels.to(device)).half()
            else:
                maps = torch.from_numpy(np.array(kept[begin:end])).to(device)
            if units:  # of the rounded maps, as they are when training goes on from those
                maps = self._backbone.advance(maps.float(), units)
            parts.append(maps.cpu().numpy())
        return np.concatenate(parts)


class EmbeddingCache:
    """The audio encoder's embeddings of whole trials, float32."""

    def __init__(self, folder: Path, encoder: Vggish, store_hash: str) -> None:
        """`encoder` is in eval mode, on the device where it is to run."""
        self._encoder = encoder
        self._folder = folder / f"audio-{weights_hash(encoder)}-{store_hash}"

    def fill(self, trials: Iterable[TrialRecord]) -> Iterator[None]:
        """Compute what is missing; yields after every trial."""
        for trial in trials:
            self.embeddings(trial)
            yield

    def embeddings(self, trial: TrialRecord) -> NDArray[np.float32]:
        """A trial's embeddings (N, E), memory-mapped."""
        path = self._folder / f"{trial.name}.npy"
        if not path.is_file():
            save_array(path, embed_sound(trial, self._encoder, CHUNK_FRAMES).cpu().numpy())
        return _mapped(path)


def _mapped(path: Path) -> NDArray[Any]:
    """Mapped anew each time: a cache of a thousand trials must not keep a thousand files open."""
    mapped: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return mapped
