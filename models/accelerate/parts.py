"""The parts of a bundle that can be accelerated, each with the inputs on which back-ends are compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor, nn

from models.accelerate.backend import EAGER, Runner
from models.accelerate.build import accelerate
from models.accelerate.export import TextGraph, VisualGraph
from models.accelerate.runtime import AUDIO, TEXT, VISUAL
from models.spec import Modality

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.bundle.load import Bundle

TEXT_LENGTHS: Final = (16, 64)
"""Lengths in word pieces to build for: most utterances so far fit the first, nearly all fit the last."""


@dataclass(frozen=True, eq=False)
class ModelPart:
    """One part to be accelerated.

    `eager` is the module as the engine runs it, `graph` makes the form that exporters take. `frames` are probe
    inputs (a batch of frames, or piece ids and mask of one utterance) on which the two are compared, `calibration`
    batches of inputs for int8. `sizes` are the batch sizes (or lengths in pieces) to build for. `modality` is None
    for text, whose cost is counted by the utterance and not `per_frame`.
    """

    name: str
    eager: nn.Module
    graph: Callable[[], nn.Module]
    frames: tuple[Tensor, ...]
    calibration: tuple[Tensor, ...]
    sizes: tuple[int, ...]
    modality: Modality | None
    per_frame: bool

    def example(self, size: int) -> tuple[Tensor, ...]:
        """Inputs of one size: a batch of probe frames, or one utterance of that length."""
        if self.per_frame:
            return (_take_cyclically(self.frames[0], 0, size),)
        ids, mask = self.frames
        return _cut_to_length(ids, size), _cut_to_length(mask, size)

    def text_lengths(self) -> list[int]:
        """Lengths of an utterance to try: each size full, and with half of the most padding that it may get."""
        shorter = (0, *self.sizes)
        return [
            n for low, size in zip(shorter, self.sizes, strict=False) for n in ((low + size + 1) // 2, size)
        ]

    def calibration_inputs(self, size: int) -> list[tuple[Tensor, ...]]:
        """Inputs of one size to calibrate int8 on."""
        samples = torch.cat(self.calibration) if self.calibration else None
        if samples is None:
            return []
        return [(_take_cyclically(samples, at, size),) for at in range(0, len(samples), size)]


def parts_of(bundle: Bundle, batches: tuple[int, ...], text_model: nn.Module | None) -> list[ModelPart]:
    """The bundle's parts that can be accelerated; the last one is `text_model` where it is given."""
    parts: list[ModelPart] = []
    probe = bundle.probe
    if Modality.VISUAL in bundle.ensemble.modalities:
        crops = probe["crops"]
        # Also mirrored and darker pictures, and the zero crop of a frame without a face: -1 in normalised pixels.
        varied = (crops, crops.flip(-1), 0.5 * crops - 0.5, torch.full_like(crops[:1], -1.0))
        parts.append(
            ModelPart(
                name=VISUAL,
                eager=EagerVisual(bundle),
                graph=lambda: VisualGraph(bundle.ensemble),
                frames=(crops,),
                calibration=varied,
                sizes=batches,
                modality=Modality.VISUAL,
                per_frame=True,
            )
        )
    if Modality.AUDIO in bundle.ensemble.modalities and bundle.audio_encoder is not None:
        encoder, patches = bundle.audio_encoder, probe["patches"]
        # In log-mel an offset is a gain; silence is the front end's lowest value.
        floor = torch.full_like(
            patches[:1], float(torch.tensor(bundle.manifest.recipe.logmel.log_offset).log())
        )
        parts.append(
            ModelPart(
                name=AUDIO,
                eager=encoder,
                graph=lambda: encoder,
                frames=(patches,),
                calibration=(patches, patches - 1.0, patches + 1.0, floor),
                sizes=batches,
                modality=Modality.AUDIO,
                per_frame=True,
            )
        )
    if Modality.LANGUAGE in bundle.ensemble.modalities and text_model is not None:
        graph = TextGraph(text_model).eval()
        parts.append(
            ModelPart(
                name=TEXT,
                eager=graph,
                graph=lambda: graph,
                frames=_text_probe(text_model),
                calibration=(),
                sizes=_text_lengths(text_model),
                modality=None,
                per_frame=False,
            )
        )
    return parts


class EagerVisual(nn.Module):
    """Crops (N, 3, S, S) to embeddings (S, N, E), as the ensemble computes them eagerly."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__()
        self.ensemble = bundle.ensemble

    def forward(self, crops: Tensor) -> Tensor:
        return self.ensemble.embed_visual(crops)


def _text_probe(model: nn.Module) -> tuple[Tensor, Tensor]:
    """A fixed utterance as piece ids (1, L), drawn over the whole vocabulary, and its mask."""
    longest = _text_lengths(model)[-1]
    size = int(getattr(model.config, "vocab_size", 0) or 1)
    ids = torch.randint(0, size, (1, longest), generator=torch.Generator().manual_seed(0))
    return ids, torch.ones_like(ids)


def _text_lengths(model: nn.Module) -> tuple[int, ...]:
    positions = int(getattr(model.config, "max_position_embeddings", 0) or 512)
    return tuple(n for n in TEXT_LENGTHS if n <= positions - 4) or (max(1, positions - 4),)


def eager_runner(part: ModelPart) -> Runner:
    """The part as it is; any number of frames."""
    return accelerate(part.eager, part.frames, EAGER)


def frame_dim(part: ModelPart) -> int:
    """Where the part's outputs count frames."""
    return 1 if part.name == VISUAL else 0


def _take_cyclically(frames: Tensor, at: int, size: int) -> Tensor:
    """`size` frames from number `at` on, beginning again after the last one."""
    return frames[(at + torch.arange(size)) % len(frames)].contiguous()


def _cut_to_length(x: Tensor, length: int) -> Tensor:
    return x[:, :length].contiguous()
