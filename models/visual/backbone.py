"""IR-50 on a 40 x 40 face crop, and its slim siblings.

The residual network of face recognition (report section 2; Deng et al. 2019 for the unit) with
stage 1 at stride 1, so that the last map of a 40 x 40 crop is 5 x 5. Parameters carry the names of published
checkpoints: `input_layer.*`, `body.N.*` with N over all units of all stages, `output_layer.*`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional

from models.errors import UserError
from models.parts.checkpoint import CheckpointReport, load_tensors, read_checkpoint

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from models.spec import BackboneSpec


class Unit(nn.Module):
    """A "bottleneck IR" unit: BN, conv, PReLU, strided conv, BN, plus a shortcut."""

    def __init__(self, in_width: int, width: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(in_width),
            nn.Conv2d(in_width, width, 3, stride=1, padding=1, bias=False),
            nn.PReLU(width),
            nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )
        self.shortcut_layer: nn.Module
        if in_width == width:
            self.shortcut_layer = nn.MaxPool2d(1, stride)
        else:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(in_width, width, 1, stride=stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, H, W) to (N, width, H / stride, W / stride)."""
        y: Tensor = self.res_layer(x) + self.shortcut_layer(x)
        return y


class Backbone(nn.Module):
    """A face crop (N, 3, S, S) in normalised pixels to an embedding (N, E) of unit length.

    `forward` is `tail(trunk(x))`: the trunk is what no fold fine-tunes (input layer, stages 1 and 2, stage 3
    without its last `released_units`), the tail is the rest.
    """

    def __init__(self, spec: BackboneSpec) -> None:
        super().__init__()
        self.spec = spec
        self.input_layer = nn.Sequential(
            nn.Conv2d(3, spec.widths[0], 3, stride=1, padding=1, bias=False),
            nn.BatchNorm2d(spec.widths[0]),
            nn.PReLU(spec.widths[0]),
        )
        units: list[Unit] = []
        in_width = spec.widths[0]
        for stage, (width, count) in enumerate(zip(spec.widths, spec.units, strict=True)):
            for i in range(count):
                units.append(Unit(in_width, width, stride=2 if stage > 0 and i == 0 else 1))
                in_width = width
        self.body = nn.ModuleList(units)
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(spec.widths[3]),
            nn.Dropout(spec.dropout),
            nn.Flatten(),
            nn.Linear(spec.widths[3] * spec.map_size**2, spec.embedding),
            nn.BatchNorm1d(spec.embedding),
        )
        self._stage4 = sum(spec.units[:3])
        self._released = sum(spec.units) if spec.frozen else self._stage4 - spec.released_units
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def trunk_units(self) -> list[Unit]:
        """The trunk's units, in order; the input layer comes before them."""
        return self._units()[: self._released]

    def tail_units(self) -> list[Unit]:
        """The units that training may release, in order; the output layer comes after them."""
        return self._units()[self._released :]

    def groups(self) -> dict[str, nn.ModuleList]:
        """The parameter groups in the network's order: `trunk`, `layer3_tail`, `layer4`, `output`.

        All but the trunk are empty where the whole backbone is frozen.
        """
        units = self._units()
        if self.spec.frozen:
            trunk = nn.ModuleList([self.input_layer, *units, self.output_layer])
            return {"trunk": trunk} | {name: nn.ModuleList() for name in ("layer3_tail", "layer4", "output")}
        return {
            "trunk": nn.ModuleList([self.input_layer, *units[: self._released]]),
            "layer3_tail": nn.ModuleList(units[self._released : self._stage4]),
            "layer4": nn.ModuleList(units[self._stage4 :]),
            "output": nn.ModuleList([self.output_layer]),
        }

    def group_of(self, name: str) -> str:
        """The group that the parameter or buffer called `name` (as in `state_dict`) belongs to."""
        layer, _, rest = name.partition(".")
        if layer == "input_layer" or self.spec.frozen:
            return "trunk"
        if layer == "output_layer":
            return "output"
        unit = int(rest.partition(".")[0])
        return "trunk" if unit < self._released else "layer3_tail" if unit < self._stage4 else "layer4"

    def trunk(self, x: Tensor) -> Tensor:
        """Crops (N, 3, S, S) to the trunk's feature map: (N, 256, 10, 10) for IR-50 at 40 x 40.

        Where the whole backbone is frozen, that is its output before it is brought to unit length: (N, E, 1, 1).
        """
        x = self.input_layer(x)
        for unit in self.trunk_units():
            x = unit(x)
        return self.output_layer(x)[:, :, None, None] if self.spec.frozen else x

    def frozen_units(self, released: Collection[str]) -> int:
        """How many of the tail's units come before the first released group, and are frozen with the trunk."""
        if self.spec.frozen or "layer3_tail" in released:
            return 0
        return self._stage4 - self._released if "layer4" in released else len(self.tail_units())

    def advance(self, x: Tensor, units: int) -> Tensor:
        """The trunk's feature map through so many of the tail's units."""
        for unit in self.tail_units()[:units]:
            x = unit(x)
        return x

    def tail(self, x: Tensor, units: int = 0) -> Tensor:
        """The trunk's feature map, or that which `advance` gives after so many units, to embeddings (N, E) of unit
        length.
        """
        if self.spec.frozen:
            return functional.normalize(x.flatten(1), dim=1)
        for unit in self.tail_units()[units:]:
            x = unit(x)
        return functional.normalize(self.output_layer(x), dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """Crops (N, 3, S, S) to embeddings (N, E) of unit length."""
        size = self.spec.input_size
        if x.dim() != 4 or x.shape[1:] != (3, size, size):
            raise ValueError(f"expected crops (N, 3, {size}, {size}), got {tuple(x.shape)}")
        return self.tail(self.trunk(x))

    def _units(self) -> list[Unit]:
        return [unit for unit in self.body if isinstance(unit, Unit)]


def load_face_checkpoint(backbone: Backbone, source: str | Path | Mapping[str, object]) -> CheckpointReport:
    """Take a face-recognition (or FER+) checkpoint's weights into `backbone`, and say what became of each
    tensor.

    `source` is a `.pth` or `.safetensors` file or a state dict; names may stand under any prefix
    (`backbone.`, `module.`). The linear layer of an output layer trained on another map (7 x 7 at 112 x 112)
    is left out whole; a classification head (`logits.*`) is left out; everything else is taken. Counters of
    seen batches are taken where there are any and not missed where there are none. Raises UserError for a
    file that cannot be read, that is no such checkpoint, whose body has other shapes, or that holds NaN or
    infinite weights.
    """
    what, tensors = read_checkpoint(source)
    marks = [name for name in tensors if name.endswith("input_layer.0.weight")]
    if not marks:
        raise UserError(
            f"{what} is no face backbone's checkpoint: it has no input_layer, body and output_layer; "
            "give an IR-50's"
        )
    prefix = marks[0].removesuffix("input_layer.0.weight")
    return load_tensors(
        backbone,
        tensors,
        what,
        prefix=prefix,
        optional={"output_layer.3.": "was trained on another map size"},
    )
