"""VGGish's network: a log-mel patch of 0.96 s to a 128-d embedding (Hershey et al. 2017).

Parameters carry the names of the published PyTorch weights (`features.N.*`, `embeddings.N.*`), which load as
they are. Never fine-tuned; one encoder serves all folds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from models.parts.checkpoint import CheckpointReport, load_tensors, read_checkpoint

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from models.spec import VggishSpec

_GROUPS = (1, 1, 2, 2)


class Vggish(nn.Module):
    """Log-mel patches (N, 96, 64) to embeddings (N, 128).

    `final_relu` adds the rectifier that some published versions end in; the embedding without it is the
    default.
    """

    def __init__(self, spec: VggishSpec, *, final_relu: bool = False) -> None:
        super().__init__()
        self.spec = spec
        layers: list[nn.Module] = []
        widths = iter(spec.widths)
        in_width = 1
        for convolutions in _GROUPS:
            for _ in range(convolutions):
                width = next(widths)
                layers += [nn.Conv2d(in_width, width, 3, padding=1), nn.ReLU(inplace=True)]
                in_width = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        pooled = (spec.patch_frames // 2 ** len(_GROUPS)) * (spec.bands // 2 ** len(_GROUPS))
        tail: list[nn.Module] = []
        in_width = pooled * in_width
        for width in (*spec.hidden, spec.embedding):
            tail += [nn.Linear(in_width, width), nn.ReLU(inplace=True)]
            in_width = width
        self.embeddings = nn.Sequential(*(tail if final_relu else tail[:-1]))

    def forward(self, patches: Tensor) -> Tensor:
        """Log-mel patches (N, frames, bands) to embeddings (N, E)."""
        expected = (self.spec.patch_frames, self.spec.bands)
        if patches.dim() != 3 or patches.shape[1:] != expected:
            raise ValueError(
                f"expected patches (N, {expected[0]}, {expected[1]}), got {tuple(patches.shape)}"
            )
        maps = self.features(patches.unsqueeze(1))
        # The published weights expect (time, frequency, channel).
        embeddings: Tensor = self.embeddings(maps.permute(0, 2, 3, 1).flatten(1))
        return embeddings


def load_vggish_checkpoint(encoder: Vggish, source: str | Path | Mapping[str, object]) -> CheckpointReport:
    """Take published VGGish weights (`.pth`, `.safetensors` or a state dict) into `encoder`.

    Raises UserError for a file that cannot be read, has other shapes, or holds NaN or infinite weights.
    """
    what, tensors = read_checkpoint(source)
    return load_tensors(encoder, tensors, what)
