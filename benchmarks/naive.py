"""This engine beside the naive way: six separate networks over the whole 300-frame window, again at each frame.

The published pipeline looks at whole windows. Served live without further thought, every new frame would send
the last 300 crops through six backbones, 300 patches through VGGish, and three TCNs, six times over. Here a
frame is embedded once, the folds share their trunk, and each TCN takes one step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measuring import Table, in_turns, ratio, time_in_turns
from models.audio.vggish import Vggish
from models.networks.ensemble import Ensemble
from models.networks.fold import EmotionNetwork
from models.spec import WindowSpec, preset

if TYPE_CHECKING:
    from collections.abc import Callable

WINDOW = WindowSpec().length
FOLDS = 6
LEAST_FLOP_RATIO, LEAST_TIME_RATIO = 300.0, 100.0
_CHUNK = 30


class Comparison:
    """Six folds of a preset, random weights, one shared trunk: one frame's work in both ways."""

    def __init__(self, preset_name: str) -> None:
        spec = preset(preset_name)
        assert spec.visual is not None
        assert spec.audio is not None
        assert spec.language is not None
        torch.manual_seed(2022)
        self.networks = [EmotionNetwork(spec).eval().requires_grad_(False) for _ in range(FOLDS)]
        first = self.networks[0].backbone
        assert first is not None
        for network in self.networks[1:]:
            assert network.backbone is not None
            network.backbone.groups()["trunk"].load_state_dict(first.groups()["trunk"].state_dict())
        self.encoder = Vggish(spec.audio.encoder).eval().requires_grad_(False)
        self.ensemble = Ensemble.from_folds(self.networks)
        size = spec.visual.backbone.input_size
        encoder = spec.audio.encoder
        self.crops = torch.rand(1, WINDOW, 3, size, size) * 2 - 1
        self.patches = torch.rand(WINDOW, encoder.patch_frames, encoder.bands)
        self.words = torch.rand(1, WINDOW, spec.language.embedding)
        self.state = self.ensemble.initial_states(1)

    @torch.inference_mode()
    def naive_network(self, network: EmotionNetwork) -> Tensor:
        """One of the six: the whole window, its own VGGish pass included."""
        audio = torch.cat([self.encoder(p) for p in torch.split(self.patches, _CHUNK)]).unsqueeze(0)
        return network.forward_crops(self.crops, audio, self.words)[:, -1]

    @torch.inference_mode()
    def naive(self) -> list[Tensor]:
        """A frame's estimates in the naive way."""
        return [self.naive_network(network) for network in self.networks]

    @torch.inference_mode()
    def step(self) -> Tensor:
        """A frame's estimates in this engine."""
        visual = self.ensemble.embed_visual(self.crops[0, -1:])
        audio = self.encoder(self.patches[-1:]).unsqueeze(0)
        found = (visual, audio, self.words[:, -1:])
        embeddings = dict(zip(self.ensemble.modalities, found, strict=True))
        self.state, estimates = self.ensemble.step(self.state, embeddings)
        return estimates


def count_flops(call: Callable[[], object]) -> int:
    """Floating-point operations of matrix products and convolutions, as PyTorch counts them; none are done."""
    with FakeTensorMode(allow_non_fake_inputs=True), FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops())


def compare(preset_name: str, *, rounds: int, time_all_six: bool) -> list[list[str]]:
    """Rows: FLOPs and seconds of a frame in both ways. Seconds of six networks are one network's times six
    unless `time_all_six`: the six do the same work one after another.
    """
    both = Comparison(preset_name)
    naive_flops = FOLDS * count_flops(lambda: both.naive_network(both.networks[0]))
    flops = count_flops(both.step)
    both.state = both.ensemble.initial_states(1)
    slow: Callable[[], object] = both.naive if time_all_six else lambda: both.naive_network(both.networks[0])
    times = time_in_turns({"naive": slow, "step": both.step}, rounds=rounds, warm_ups=1)
    factor = 1 if time_all_six else FOLDS
    ratios = ratio(times["naive"], times["step"])
    naive_ms, least = factor * times["naive"].median, factor * ratios.spread[0]
    return [
        [
            preset_name,
            "GFLOP a frame",
            f"{naive_flops / 1e9:.4g}",
            f"{flops / 1e9:.4g}",
            f"**{naive_flops / flops:.0f} x**",
            _verdict(naive_flops / flops, LEAST_FLOP_RATIO),
        ],
        [
            preset_name,
            "ms a frame",
            f"{naive_ms:.0f}" + ("" if time_all_six else f" ({FOLDS} x one network's)"),
            str(times["step"]),
            f"**{factor * ratios.median:.0f} x** (p10 {least:.0f})",
            _verdict(factor * ratios.median, LEAST_TIME_RATIO),
        ],
    ]


def _verdict(found: float, promised: float) -> str:
    return f"{'kept' if found >= promised else '**missed**'}: at least {promised:.0f} x"


def run(*, quick: bool) -> Table:
    """The table; `quick` measures the paper preset in FLOPs by one short round only."""
    rows = compare("compact", rounds=3 if quick else 9, time_all_six=not quick)
    rows += compare("paper", rounds=1 if quick else 3, time_all_six=not quick)
    return Table(
        "This engine beside the naive way, both eager float32",
        ("preset", "what", "naive", "here", "ratio", "promise"),
        rows,
        (
            in_turns("Both ways of a preset"),
            f"Naive: {FOLDS} separate networks over the whole {WINDOW}-frame window at each frame. FLOPs of matrix "
            "products and convolutions, counted by PyTorch. Word vectors are given to both: the naive way would "
            "run the text encoder for the window's words at each frame besides.",
        ),
    )
