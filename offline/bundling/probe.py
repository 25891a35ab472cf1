"""A bundle's probe input from a store: what accelerators are calibrated on and held to eager by.

Drawn noise shows whether a fast path computes the same; how far lower precision drifts on faces and voices, only
faces and voices show. They leave with the bundle, so they are taken only where the user says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import Tensor

from models.bundle.save import draw_probe
from models.errors import UserError
from offline.data.windows import centre_crop, take_pixels

if TYPE_CHECKING:
    from models.audio.vggish import Vggish
    from models.spec import NetworkSpec
    from offline.data.store import Store, TrialRecord

FRAMES: Final = 24


@torch.no_grad()
def store_probe(store: Store, spec: NetworkSpec, encoder: Vggish | None) -> dict[str, Tensor]:
    """A probe of `FRAMES` frames in which a face was found, spread over the store's training trials.

    `encoder` makes the audio embeddings; without one they are the store's, or drawn where it has none. Raises
    UserError where the store has no training trial with a face.
    """
    picked = _pick(store)
    probe = draw_probe(spec, frames=len(picked))
    if spec.visual is not None:
        crop = store.recipe.crop
        pixels = [take_pixels(t.crops[k : k + 1], centre_crop(crop), crop) for t, k in picked]
        probe["crops"] = torch.from_numpy(np.concatenate(pixels))
    if spec.audio is not None:
        probe["patches"] = torch.from_numpy(np.concatenate([t.patches(k, k + 1) for t, k in picked]))
        if encoder is not None:
            probe["audio"] = encoder(probe["patches"])
        elif store.recipe.audio_encoder is not None:
            probe["audio"] = _rows([(t.audio, k) for t, k in picked])
    if spec.language is not None:
        probe["language"] = _rows([(t.language, k) for t, k in picked])
    return probe


def _pick(store: Store) -> list[tuple[TrialRecord, int]]:
    """(trial, frame), the trials in turn, each later in its own time."""
    with_face = [(t, np.flatnonzero(t.faces)) for t in store.trials("train") if t.facts.with_face]
    if not with_face:
        raise UserError(
            f"the store {store.folder} has no training trial with a face, so no probe can come of it",
            way_out="give another store, or leave --probe-from out",
        )
    picked = []
    for n in range(FRAMES):
        trial, frames = with_face[n % len(with_face)]
        picked.append((trial, int(frames[len(frames) * (2 * n + 1) // (2 * FRAMES)])))
    return picked


def _rows(picked: list[tuple[Any, int]]) -> Tensor:
    return torch.from_numpy(np.stack([array[place] for array, place in picked]))
