"""VGGish: published names and order, and the golden embedding where the weights are installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional

from models.audio.vggish import Vggish, load_vggish_checkpoint
from models.errors import UserError
from models.spec import COMPACT, VggishSpec

if TYPE_CHECKING:
    from pathlib import Path

SLIM = VggishSpec(widths=(2, 3, 4, 4, 5, 6), hidden=(7, 8), embedding=9)


def make_slim(seed: int = 0) -> Vggish:
    torch.manual_seed(seed)
    return Vggish(SLIM).eval()


class TestShape:
    def test_names_and_shapes_are_those_of_the_published_weights(self) -> None:
        with torch.device("meta"):
            encoder = Vggish(VggishSpec())
        shapes = {name: tuple(tensor.shape) for name, tensor in encoder.state_dict().items()}
        assert {name: shape for name, shape in shapes.items() if name.endswith("weight")} == {
            "features.0.weight": (64, 1, 3, 3),
            "features.3.weight": (128, 64, 3, 3),
            "features.6.weight": (256, 128, 3, 3),
            "features.8.weight": (256, 256, 3, 3),
            "features.11.weight": (512, 256, 3, 3),
            "features.13.weight": (512, 512, 3, 3),
            "embeddings.0.weight": (4096, 12288),
            "embeddings.2.weight": (4096, 4096),
            "embeddings.4.weight": (128, 4096),
        }
        assert {n for n in shapes if n.endswith("bias")} == {
            n.replace("weight", "bias") for n in shapes if n.endswith("weight")
        }

    def test_maps_are_flattened_in_time_frequency_channel_order(self) -> None:
        encoder, patches = make_slim(), torch.randn(2, 96, 64)
        with torch.no_grad():
            maps = encoder.features(patches.unsqueeze(1))
            flat = torch.stack(
                [maps[:, c, t, f] for t in range(6) for f in range(4) for c in range(6)], dim=1
            )
            assert torch.equal(encoder(patches), encoder.embeddings(flat))

    def test_the_final_rectifier_is_an_option(self) -> None:
        torch.manual_seed(0)
        plain, rectified = Vggish(SLIM).eval(), Vggish(SLIM, final_relu=True).eval()
        rectified.load_state_dict(plain.state_dict())
        patches = torch.randn(4, 96, 64)
        with torch.no_grad():
            found = plain(patches)
            assert bool((found < 0).any())
            assert torch.equal(rectified(patches), functional.relu(found))

    def test_a_patch_of_another_shape_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"expected patches \(N, 96, 64\), got \(1, 64, 96\)"):
            make_slim()(torch.zeros(1, 64, 96))

    def test_the_compact_preset_fits_its_own_spec(self) -> None:
        assert COMPACT.audio is not None
        assert Vggish(COMPACT.audio.encoder)(torch.zeros(3, 96, 64)).shape == (3, 32)


class TestCheckpoint:
    @pytest.mark.parametrize("suffix", ["pth", "safetensors"])
    def test_published_weights_load_as_they_are(self, suffix: str, tmp_path: Path) -> None:
        given, path = make_slim(1).state_dict(), tmp_path / f"vggish.{suffix}"
        if suffix == "pth":
            torch.save(given, path)
        else:
            save_file(given, path)
        encoder = make_slim()
        report = load_vggish_checkpoint(encoder, path)
        assert (set(report.taken), dict(report.left), report.missing) == (set(given), {}, ())
        assert all(torch.equal(tensor, given[name]) for name, tensor in encoder.state_dict().items())

    def test_post_processing_weights_are_left_and_listed(self) -> None:
        given = {**make_slim(1).state_dict(), "pproc.pca_means": torch.zeros(9, 1)}
        assert load_vggish_checkpoint(make_slim(), given).left == {
            "pproc.pca_means": "the network has no such tensor"
        }

    def test_another_network_is_refused(self) -> None:
        with pytest.raises(UserError, match="none of its tensors is one of the network's"):
            load_vggish_checkpoint(make_slim(), {"input_layer.0.weight": torch.ones(1)})
        with pytest.raises(UserError, match=r"features.0.weight has shape \(64, 1, 3, 3\)"):
            load_vggish_checkpoint(make_slim(), {"features.0.weight": torch.ones(64, 1, 3, 3)})


@pytest.mark.slow
def test_the_golden_embedding(fixtures: Path) -> None:
    """The published test's patch and embedding, with the published weights (no final rectifier)."""
    from models.parts.registry import find_part

    part = find_part("vggish")
    if part is None:
        pytest.skip("VGGish's published weights are not installed: models-pull vggish")
    golden = np.load(fixtures / "vggish" / "golden_fad_logmel_to_embedding.npz")
    encoder = Vggish(VggishSpec()).eval()
    assert load_vggish_checkpoint(encoder, part.path).missing == ()
    with torch.no_grad():
        found = encoder(torch.from_numpy(golden["VGGISH_TEST_INPUT"]).float())[0]
    expected = torch.from_numpy(golden["EXPECTED_EMBEDDING_FROM_TEST_INPUT"]).float()
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)
