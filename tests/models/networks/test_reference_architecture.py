"""The published architecture, written again from the paper's facts in the plainest way, on the same weights.

Nothing of `models` computes here: tensors come by name out of state dicts, and every layer is spelled out. It holds
`models` to the shapes, the order of operations and the constants of the report.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from models.audio.vggish import Vggish
from models.networks.ensemble import Ensemble
from models.spec import PAPER, Modality, VggishSpec
from tests.models.small_networks import make_network, randomise

if TYPE_CHECKING:
    from models.networks.fold import EmotionNetwork

Weights = dict[str, Tensor]


def batch_norm(x: Tensor, weights: Weights, name: str) -> Tensor:
    shape = (1, -1) + (1,) * (x.dim() - 2)
    mean, var, scale, shift = (
        weights[f"{name}.{part}"].view(shape) for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / torch.sqrt(var + 1e-5) * scale + shift


def prelu(x: Tensor, slope: Tensor) -> Tensor:
    return torch.where(x >= 0, x, slope.view(1, -1, 1, 1) * x)


def conv(x: Tensor, weight: Tensor, stride: int = 1) -> Tensor:
    return functional.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)


def ir50(crops: Tensor, weights: Weights) -> Tensor:
    """Crops (N, 3, 40, 40) to 512 numbers of unit length."""
    x = conv(crops, weights["input_layer.0.weight"])
    x = prelu(batch_norm(x, weights, "input_layer.1"), weights["input_layer.2.weight"])
    body = [
        *[(64, 64, 1), (64, 64, 1), (64, 64, 1)],
        *[(64, 128, 2), (128, 128, 1), (128, 128, 1), (128, 128, 1)],
        *[(128, 256, 2), *[(256, 256, 1)] * 13],
        *[(256, 512, 2), (512, 512, 1), (512, 512, 1)],
    ]
    assert len(body) == 24
    for n, (in_width, width, stride) in enumerate(body):
        y = batch_norm(x, weights, f"body.{n}.res_layer.0")
        assert weights[f"body.{n}.res_layer.1.weight"].shape == (width, in_width, 3, 3)
        y = prelu(conv(y, weights[f"body.{n}.res_layer.1.weight"]), weights[f"body.{n}.res_layer.2.weight"])
        y = conv(y, weights[f"body.{n}.res_layer.3.weight"], stride)
        y = batch_norm(y, weights, f"body.{n}.res_layer.4")
        if in_width == width:
            shortcut = x[:, :, ::stride, ::stride]
        else:
            shortcut = conv(x, weights[f"body.{n}.shortcut_layer.0.weight"], stride)
            shortcut = batch_norm(shortcut, weights, f"body.{n}.shortcut_layer.1")
        x = y + shortcut
    assert x.shape[1:] == (512, 5, 5)
    x = batch_norm(x, weights, "output_layer.0").reshape(len(x), 512 * 5 * 5)
    x = x @ weights["output_layer.3.weight"].T + weights["output_layer.3.bias"]
    x = batch_norm(x, weights, "output_layer.4")
    return x / torch.sqrt((x * x).sum(dim=1, keepdim=True))


def causal(x: Tensor, weights: Weights, name: str, dilation: int) -> Tensor:
    """(T, C) to (T, E), one frame and one tap at a time; frames before the first are zeros."""
    direction = weights[f"{name}.conv.parametrizations.weight.original1"]
    length = weights[f"{name}.conv.parametrizations.weight.original0"]
    weight = length * direction / torch.sqrt((direction**2).sum(dim=(1, 2), keepdim=True))
    assert weight.shape[2] == 5
    frames = []
    for t in range(len(x)):
        y = weights[f"{name}.conv.bias"].clone()
        for tap in range(5):
            source = t - (4 - tap) * dilation
            if source >= 0:
                y = y + weight[:, :, tap] @ x[source]
        frames.append(y)
    return torch.stack(frames)


def leaky(x: Tensor) -> Tensor:
    return torch.where(x >= 0, x, 0.01 * x)


def tcn(x: Tensor, weights: Weights, widths: tuple[int, ...]) -> Tensor:
    """(T, C) to (T, last width)."""
    for level, width in enumerate(widths):
        y = leaky(causal(x, weights, f"levels.{level}.first", 2**level))
        y = leaky(causal(y, weights, f"levels.{level}.second", 2**level))
        if x.shape[1] != width:
            kernel = weights[f"levels.{level}.residual.weight"][:, :, 0]
            x = x @ kernel.T + weights[f"levels.{level}.residual.bias"]
        x = leaky(y + x)
        assert x.shape[1] == width
    return x


def co_attention_and_head(encodings: dict[str, Tensor], weights: Weights) -> Tensor:
    """Encodings (T, 128 / 32 / 128) to estimates (T, 2), one time step at a time."""
    names = ("visual", "audio", "language")
    estimates = []
    for t in range(len(encodings["visual"])):
        query, key, value = (
            torch.stack(
                [
                    weights[f"fusion.{part}.{name}.weight"] @ encodings[name][t]
                    + weights[f"fusion.{part}.{name}.bias"]
                    for name in names
                ]
            )
            for part in ("query", "key", "value")
        )
        assert query.shape == (3, 32)
        scores = torch.exp(query @ key.T / 32**0.5)
        attention = (scores / scores.sum(dim=1, keepdim=True)) @ value + value
        centred = attention - attention.mean()
        normed = centred / torch.sqrt((centred**2).mean() + 1e-5)
        normed = normed * weights["fusion.norm.weight"] + weights["fusion.norm.bias"]
        feature = torch.cat([encodings["visual"][t], normed.flatten()])
        assert feature.shape == (224,)
        estimates.append(weights["head.weight"] @ feature + weights["head.bias"])
    return torch.stack(estimates)


def vggish(patches: Tensor, weights: Weights) -> Tensor:
    """Log-mel patches (N, 96, 64) to embeddings (N, 128)."""
    x = patches[:, None]
    for layer in (0, 3, (6, 8), (11, 13)):
        for n in layer if isinstance(layer, tuple) else (layer,):
            kernel, bias = weights[f"features.{n}.weight"], weights[f"features.{n}.bias"]
            x = (conv(x, kernel) + bias.view(1, -1, 1, 1)).clamp(min=0)
        x = functional.max_pool2d(x, 2)
    assert x.shape[1:] == (512, 6, 4)
    x = x.movedim(1, 3).reshape(len(x), 12288)
    x = (x @ weights["embeddings.0.weight"].T + weights["embeddings.0.bias"]).clamp(min=0)
    x = (x @ weights["embeddings.2.weight"].T + weights["embeddings.2.bias"]).clamp(min=0)
    return x @ weights["embeddings.4.weight"].T + weights["embeddings.4.bias"]


def under(prefix: str, weights: Weights) -> Weights:
    return {name.removeprefix(prefix): x for name, x in weights.items() if name.startswith(prefix)}


def reference(weights: Weights, crops: Tensor, audio: Tensor, language: Tensor) -> Tensor:
    """The whole network of the report: crops (T, 3, 40, 40), normalised features (T, E), to estimates (T, 2)."""
    encodings = {
        "visual": tcn(
            ir50(crops, under("backbone.", weights)), under("temporal.visual.", weights), (256, 256, 128, 128)
        ),
        "audio": tcn(audio, under("temporal.audio.", weights), (64, 64, 32, 32)),
        "language": tcn(language, under("temporal.language.", weights), (256, 256, 128, 128)),
    }
    return co_attention_and_head(encodings, weights)


@pytest.fixture(scope="module")
def network() -> EmotionNetwork:
    network = make_network(PAPER, 3)
    network.set_normalisation(Modality.AUDIO, 0.2, 0.5)
    network.set_normalisation(Modality.LANGUAGE, -0.1, 2.0)
    return network


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def test_the_backbone_is_ir50(network: EmotionNetwork) -> None:
    crops = noise(3, 3, 40, 40)
    expected = ir50(crops, under("backbone.", network.state_dict()))
    torch.testing.assert_close(network.embed_visual(crops), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("modality", list(Modality))
@torch.no_grad()
def test_the_branches_are_causal_tcns(network: EmotionNetwork, modality: Modality) -> None:
    branch = PAPER.branch(modality)
    x = 0.1 * noise(40, branch.embedding)
    expected = tcn(x, under(f"temporal.{modality}.", network.state_dict()), branch.temporal.widths)
    scale = float(expected.abs().max())
    assert scale > 0.1
    torch.testing.assert_close(
        network.branch(modality)(x[None])[0] / scale, expected / scale, atol=1e-5, rtol=0
    )


@torch.no_grad()
def test_the_sound_encoder_is_vggish() -> None:
    torch.manual_seed(5)
    encoder = Vggish(VggishSpec())
    randomise(encoder, 5)
    patches = noise(2, 96, 64)
    expected = vggish(patches, encoder.state_dict())
    torch.testing.assert_close(encoder(patches), expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_whole_network_and_the_ensemble_are_the_reports(network: EmotionNetwork) -> None:
    frames = 35
    crops, audio, language = noise(frames, 3, 40, 40), noise(frames, 128, seed=1), noise(frames, 768, seed=2)
    expected = reference(network.state_dict(), crops, (audio - 0.2) / 0.5, (language + 0.1) / 2.0)
    assert expected.std() > 0.01
    found = network.forward_crops(crops[None], audio[None], language[None])[0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    served = Ensemble.from_folds([network])(crops[None], audio[None], language[None])[0, 0]
    torch.testing.assert_close(served, expected, atol=1e-5, rtol=0)
