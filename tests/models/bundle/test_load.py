"""Bundles: what is saved is what is loaded; shipped ones by name, and the pretrained parts they ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file

from models.audio.vggish import Vggish
from models.bundle.load import FeatureRecipe, PartUse, load_bundle, load_networks, save_bundle
from models.bundle.manifest import read_manifest
from models.errors import SetupError
from models.networks.fold import EmotionNetwork
from models.parts.install import pull
from models.spec import (
    VggishSpec,
)
from tests.models.bundle.bundles import (
    RECIPE,
    SPEC,
    assert_same_tensors,
    edit,
    edit_tensors,
    network,
    refusal,
)

if TYPE_CHECKING:
    from pathlib import Path


class TestRoundTrip:
    def test_networks_come_back_bit_by_bit(self, folder: Path, folds: list[list[EmotionNetwork]]) -> None:
        manifest, loaded = load_networks(folder)
        assert [len(fold) for fold in loaded] == [1, 1, 2]
        for before, after in zip(folds, loaded, strict=True):
            for one, other in zip(before, after, strict=True):
                assert_same_tensors(one, other)
                assert one.normalisation == other.normalisation
                assert one.spec == other.spec
                assert not other.training
        assert manifest.folds[0].validation_ccc == {"valence": 0.5, "arousal": 0.25}
        assert manifest.provenance == {"corpus": "none"}

    def test_the_ensemble_computes_what_the_networks_did(
        self, folder: Path, folds: list[list[EmotionNetwork]]
    ) -> None:
        bundle = load_bundle(folder)
        torch.manual_seed(5)
        crops, audio, language = torch.rand(1, 9, 3, 16, 16), torch.rand(1, 9, 6), torch.rand(1, 9, 12)
        with torch.no_grad():
            found = bundle.ensemble(crops, audio, language, torch.ones(1, 9, 3, dtype=torch.bool))
            arousal, valence = (n.forward_crops(crops, audio, language) for n in folds[2])
            expected = [
                folds[0][0].forward_crops(crops, audio, language),
                torch.cat([valence, arousal], dim=-1),
            ]
        torch.testing.assert_close(found[0], expected[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(found[2], expected[1], atol=1e-5, rtol=0)

    def test_equal_trunks_are_stored_once(self, folder: Path) -> None:
        manifest = read_manifest(folder)
        assert [[n.trunk for n in fold.networks] for fold in manifest.folds] == [[0], [0], [0, 1]]
        assert manifest.trunk is not None
        tops = {name.split("/")[0] for name in load_file(folder / "trunk.safetensors")}
        assert tops == {"trunk-0", "trunk-1", "audio_encoder"}
        assert not any("input_layer" in name for name in load_file(folder / "fold-0.safetensors"))

    def test_bundled_encoders_come_along(self, folder: Path, text: Path) -> None:
        bundle = load_bundle(folder)
        torch.manual_seed(9)
        assert bundle.audio_encoder is not None
        assert_same_tensors(bundle.audio_encoder, Vggish(SPEC.audio.encoder))  # type: ignore[union-attr]
        assert bundle.text_encoder_folder == folder / "text"
        assert sorted(p.name for p in (folder / "text").iterdir()) == sorted(p.name for p in text.iterdir())
        assert bundle.missing == ()
        assert set(bundle.parts) == {"recogniser"}
        assert bundle.manifest.recipe.parts["audio_encoder"] == PartUse(name="our-vggish", sha256="bundled")

    def test_the_probe_fits_the_spec(self, folder: Path) -> None:
        shapes = {name: tuple(value.shape[1:]) for name, value in load_bundle(folder).probe.items()}
        assert shapes == {"crops": (3, 16, 16), "patches": (96, 64), "audio": (6,), "language": (12,)}

    def test_a_bundle_of_one_modality_and_one_fold(self, tmp_path: Path) -> None:
        spec = SPEC.model_copy(update={"visual": None, "language": None, "targets": ("arousal",)})
        save_bundle(
            tmp_path / "sound",
            name="sound",
            folds=[EmotionNetwork(spec)],
            recipe=FeatureRecipe(),
            trained=False,
            audio_encoder=Vggish(SPEC.audio.encoder),  # type: ignore[union-attr]
        )
        bundle = load_bundle(tmp_path / "sound")
        assert bundle.ensemble.targets == ("arousal",)
        assert bundle.text_encoder_folder is None
        assert bundle.audio_encoder is not None

    def test_the_content_hash_is_of_the_content(
        self, folder: Path, folds: list[list[EmotionNetwork]]
    ) -> None:
        before = load_bundle(folder).content_hash
        assert read_manifest(folder).content_hash == before
        edit_tensors(folder, "fold-1.safetensors", lambda t: t["valence-arousal/head.bias"].add_(1))
        assert load_bundle(folder).content_hash != before

    def test_loading_leaves_the_random_state_alone(self, folder: Path) -> None:
        torch.manual_seed(3)
        expected = torch.rand(3)
        torch.manual_seed(3)
        load_bundle(folder)
        assert torch.equal(torch.rand(3), expected)


def test_a_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    assert "is not a bundle: it has no bundle.json" in refusal(tmp_path)


class TestParts:
    @pytest.fixture
    def asking(self, tmp_path: Path) -> Path:
        """A bundle that brings neither encoder."""
        recipe = RECIPE.model_copy(
            update={
                "audio_encoder": PartUse(name="vggish"),
                "text_encoder": PartUse(name="bert-base-uncased"),
            }
        )
        save_bundle(tmp_path / "asking", name="asking", folds=[network(0)], recipe=recipe, trained=True)
        return tmp_path / "asking"

    def install(self, tmp_path: Path, text: Path, spec: VggishSpec = SPEC.audio.encoder) -> None:  # type: ignore[union-attr]
        torch.manual_seed(4)
        torch.save(Vggish(spec).state_dict(), tmp_path / "v.pth")
        pull("vggish", source=tmp_path / "v.pth")
        pull("bert-base-uncased", source=text)

    def test_a_missing_part_is_named_with_the_command_that_installs_it(self, asking: Path) -> None:
        assert "run `models-pull vggish`" in refusal(asking)

    def test_missing_parts_can_be_tolerated(self, asking: Path) -> None:
        bundle = load_bundle(asking, missing_parts="tolerate")
        assert bundle.missing == ("vggish", "bert-base-uncased")
        assert bundle.audio_encoder is None
        assert bundle.text_encoder_folder is None
        assert set(bundle.parts) == {"recogniser"}

    def test_installed_parts_serve(self, asking: Path, tmp_path: Path, text: Path) -> None:
        self.install(tmp_path, text)
        bundle = load_bundle(asking)
        torch.manual_seed(4)
        assert bundle.audio_encoder is not None
        assert_same_tensors(bundle.audio_encoder, Vggish(SPEC.audio.encoder))  # type: ignore[union-attr]
        assert bundle.text_encoder_folder == bundle.parts["text_encoder"].path
        assert bundle.missing == ()

    def test_a_part_that_does_not_fit_is_refused(self, asking: Path, tmp_path: Path, text: Path) -> None:
        self.install(tmp_path, text, VggishSpec(widths=(2, 2, 2, 2, 2, 2), hidden=(4, 4), embedding=8))
        assert "vggish.safetensors does not fit" in refusal(asking)
        with pytest.raises(SetupError) as caught:
            load_bundle(asking)
        assert caught.value.way_out == "install it again with `models-pull vggish`"

    @pytest.mark.parametrize("missing_parts", ["refuse", "tolerate"])
    def test_another_part_than_the_bundle_was_made_with_is_refused(
        self, asking: Path, tmp_path: Path, text: Path, missing_parts: Any
    ) -> None:
        self.install(tmp_path, text)
        edit(asking, lambda m: m["recipe"]["audio_encoder"].update(sha256="0" * 64))
        with pytest.raises(SetupError, match="made with another vggish than the one in") as caught:
            load_bundle(asking, missing_parts=missing_parts)
        assert caught.value.way_out == "install that one, or name another bundle"

    def test_an_unknown_part_is_refused(self, asking: Path) -> None:
        edit(asking, lambda m: m["recipe"]["audio_encoder"].update(name="wav2vec"))
        assert "asks for an unknown part as its audio_encoder: 'wav2vec'" in refusal(asking)
