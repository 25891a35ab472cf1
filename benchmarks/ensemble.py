"""Time per frame of the six-fold `paper` ensemble against six separate networks, side by side in one run.

    python benchmarks/ensemble.py

Both do the same work on the same frame: crop to embedding, three TCN steps, fusion, head, for six folds that share
a trunk (joint head, one frame at a time, eager, float32). VGGish and the text encoder serve all folds either way and
are left out. They take turns, so that a noisy machine disturbs them alike; the promise is on the ratio of medians.
The separate networks have their weight norm removed, as anyone serving them would. A third row, for comparison, has
six ensembles of one fold each: separate too, but with the ensemble's arrangement of a single network.
Exits with status 1 where the ratio is above the promise.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.utils import parametrize

from models.networks.ensemble import Ensemble
from models.networks.fold import EmotionNetwork
from models.spec import Modality, preset

if TYPE_CHECKING:
    from collections.abc import Callable

PROMISE = 0.45


def make_folds(name: str, count: int) -> list[EmotionNetwork]:
    """Folds as training that never releases the trunk leaves them: one trunk, everything else their own."""
    torch.manual_seed(0)
    folds = [EmotionNetwork(preset(name)).eval() for _ in range(count)]
    first = folds[0].backbone
    assert first is not None
    for fold in folds[1:]:
        assert fold.backbone is not None
        fold.backbone.groups()["trunk"].load_state_dict(first.groups()["trunk"].state_dict())
    return folds


def strip_weight_norm(folds: list[EmotionNetwork]) -> None:
    """Make plain weights of normalised ones, for serving."""
    for fold in folds:
        for m in fold.spec.modalities:
            for causal in fold.branch(m).convolutions():
                parametrize.remove_parametrizations(causal.conv, "weight")


def separate_step(folds: list[EmotionNetwork]) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """One frame through every fold on its own, each with its own state."""
    states = [fold.initial_state(1) for fold in folds]

    def step(crop: Tensor, audio: Tensor, language: Tensor) -> Tensor:
        outputs = []
        for i, fold in enumerate(folds):
            embeddings = {
                Modality.VISUAL: fold.embed_visual(crop),
                Modality.AUDIO: audio,
                Modality.LANGUAGE: language,
            }
            states[i], y = fold.step(states[i], embeddings)
            outputs.append(y)
        return torch.stack(outputs)

    return step


def ensemble_step(ensemble: Ensemble) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """One frame through the ensemble."""
    state = ensemble.initial_states(1)

    def step(crop: Tensor, audio: Tensor, language: Tensor) -> Tensor:
        nonlocal state
        embeddings = {
            Modality.VISUAL: ensemble.embed_visual(crop),
            Modality.AUDIO: audio[None],
            Modality.LANGUAGE: language[None],
        }
        state, y = ensemble.step(state, embeddings)
        return y

    return step


def describe(name: str, times_s: list[float]) -> str:
    """Median, quartiles and minimum in milliseconds a frame."""
    low, middle, high = (1000 * q for q in statistics.quantiles(times_s, n=4))
    fastest = 1000 * min(times_s)
    return f"{name:<22}{middle:8.1f} ms   quartiles {low:.1f} to {high:.1f}   fastest {fastest:.1f}"


@torch.inference_mode()
def main() -> int:
    """Run it; the exit status says whether the promise holds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", default="paper")
    parser.add_argument("--folds", type=int, default=6)
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    folds = make_folds(options.preset, options.folds)
    spec, ensemble = folds[0].spec, Ensemble.from_folds(folds)
    size = spec.visual.backbone.input_size if spec.visual is not None else 0
    ones = [ensemble_step(Ensemble.from_folds([fold])) for fold in folds]
    strip_weight_norm(folds)
    steps = {
        "separate networks": separate_step(folds),
        "ensemble": ensemble_step(ensemble),
        "ensembles of one": lambda *frame: torch.cat([one(*frame) for one in ones]),
    }
    times: dict[str, list[float]] = {name: [] for name in steps}
    apart = 0.0
    for frame in range(-3, options.frames):
        crop = torch.randn(1, 3, size, size)
        audio, language = (
            torch.randn(1, spec.branch(m).embedding) for m in (Modality.AUDIO, Modality.LANGUAGE)
        )
        outputs = {}
        for name, step in steps.items():
            start = time.perf_counter()
            outputs[name] = step(crop, audio, language)
            if frame >= 0:
                times[name].append(time.perf_counter() - start)
        apart = max(apart, *(float((y - outputs["ensemble"]).abs().max()) for y in outputs.values()))

    separate, together = times["separate networks"], times["ensemble"]
    ratios = [e / s for e, s in zip(together, separate, strict=True)]
    ratio = statistics.median(together) / statistics.median(separate)
    of_ones = statistics.median(together) / statistics.median(times["ensembles of one"])
    print(f"{options.preset}, {options.folds} folds, {options.threads} threads, {options.frames} frames")
    for name, measured in times.items():
        print(describe(name, measured))
    low, _, high = statistics.quantiles(ratios, n=4)
    print(f"ratio of medians      {ratio:8.1%}      frame by frame, quartiles {low:.1%} to {high:.1%}")
    print(f"ratio of fastest      {min(together) / min(separate):8.1%}")
    print(f"to ensembles of one   {of_ones:8.1%}")
    print(f"largest difference    {apart:8.1e}")
    print(f"promise               {PROMISE:8.0%}      {'held' if ratio <= PROMISE else 'NOT held'}")
    return 0 if ratio <= PROMISE else 1


if __name__ == "__main__":
    sys.exit(main())
