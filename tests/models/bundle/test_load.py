"""Bundles: what is saved is what is loaded, and whatever is wrong with one is said in one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from models.audio.vggish import Vggish
from models.bundle.load import FeatureRecipe, PartUse, load_bundle, load_networks, resolve_bundle, save_bundle
from models.bundle.manifest import read_manifest
from models.errors import UserError
from models.files import file_hash
from models.networks.fold import EmotionNetwork
from models.parts.registry import pull
from models.spec import (
    AudioSpec,
    BackboneSpec,
    LanguageSpec,
    Modality,
    NetworkSpec,
    Target,
    TemporalSpec,
    VggishSpec,
    VisualSpec,
)
from models.text.small_bert import make_text_encoder

SPEC = NetworkSpec(
    visual=VisualSpec(
        backbone=BackboneSpec(
            input_size=16, widths=(4, 4, 6, 6), units=(1, 1, 2, 1), embedding=8, released_units=1
        ),
        temporal=TemporalSpec(widths=(6,), kernel=2),
    ),
    audio=AudioSpec(
        encoder=VggishSpec(widths=(2, 2, 2, 2, 2, 2), hidden=(4, 4), embedding=6),
        temporal=TemporalSpec(widths=(4,), kernel=2),
    ),
    language=LanguageSpec(embedding=12, temporal=TemporalSpec(widths=(4,), kernel=2)),
    d_k=4,
)
RECIPE = FeatureRecipe(
    detector=PartUse(name="haar"),
    recogniser=PartUse(name="vosk-tiny"),
    audio_encoder=PartUse(name="our-vggish"),
    text_encoder=PartUse(name="our-bert"),
)


@pytest.fixture(autouse=True)
def _no_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFFECT_MODELS", str(tmp_path / "models"))


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder") / "text"
    make_text_encoder(folder, 12, seed=1)
    return folder


def network(seed: int, *targets: Target, trunk_of: EmotionNetwork | None = None) -> EmotionNetwork:
    torch.manual_seed(seed)
    made = EmotionNetwork(SPEC.model_copy(update={"targets": targets}) if targets else SPEC)
    if trunk_of is not None:
        assert made.backbone is not None
        assert trunk_of.backbone is not None
        made.backbone.groups()["trunk"].load_state_dict(trunk_of.backbone.groups()["trunk"].state_dict())
    return made.eval()


@pytest.fixture(scope="module")
def folds() -> list[list[EmotionNetwork]]:
    """Two joint folds that share a trunk, and one of two networks, of which one has a trunk of its own."""
    first = network(0)
    folds = [
        [first],
        [network(1, trunk_of=first)],
        [network(2, "arousal", trunk_of=first), network(3, "valence")],
    ]
    for index, fold in enumerate(folds):
        for member in fold:
            member.set_normalisation(Modality.AUDIO, 0.1 * index, 2.0 + index)
    return folds


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, folds: list[list[EmotionNetwork]], text: Path) -> Path:
    """A bundle with everything inside."""
    folder = tmp_path_factory.mktemp("bundle") / "ours"
    torch.manual_seed(9)
    save_bundle(
        folder,
        name="ours",
        folds=folds,
        recipe=RECIPE,
        trained=True,
        validation_ccc=[{"valence": 0.5, "arousal": 0.25}, None, None],
        provenance={"corpus": "none"},
        audio_encoder=Vggish(SPEC.audio.encoder),  # type: ignore[union-attr]
        text_encoder_folder=text,
    )
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy of it to spoil."""
    return Path(shutil.copytree(saved, tmp_path / "ours"))


def assert_same_tensors(one: nn.Module, other: nn.Module) -> None:
    mine, theirs = one.state_dict(), other.state_dict()
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        assert torch.equal(value, theirs[name]), name


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest's JSON."""
    content = json.loads((folder / "bundle.json").read_text())
    change(content)
    (folder / "bundle.json").write_text(json.dumps(content))


def edit_tensors(folder: Path, name: str, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Change a tensor file, and its hash in the manifest, as somebody who knows the format would."""
    tensors = load_file(folder / name)
    change(tensors)
    save_file(tensors, folder / name)
    text = (folder / "bundle.json").read_text()
    old = next(f.sha256 for f in read_manifest(folder).files if f.name == name)
    (folder / "bundle.json").write_text(text.replace(old, file_hash(folder / name)))


def refusal(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_bundle(folder)
    message = str(caught.value)
    assert "\n" not in message
    return message


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


class TestSaving:
    def test_replaces_an_earlier_bundle_whole(self, folder: Path) -> None:
        save_bundle(folder, name="new", folds=[network(7)], recipe=RECIPE, trained=True)
        assert sorted(p.name for p in folder.iterdir()) == [
            "bundle.json",
            "fold-0.safetensors",
            "probe.safetensors",
            "trunk.safetensors",
        ]
        assert [p.name for p in folder.parent.iterdir() if p.name.startswith(".")] == []

    def test_never_replaces_anything_else(self, tmp_path: Path) -> None:
        (tmp_path / "thesis").mkdir()
        (tmp_path / "thesis" / "draft.txt").write_text("years of work")
        with pytest.raises(UserError, match="not a bundle"):
            save_bundle(tmp_path / "thesis", name="x", folds=[network(0)], recipe=RECIPE, trained=True)
        assert (tmp_path / "thesis" / "draft.txt").read_text() == "years of work"

    def test_leaves_the_earlier_one_where_it_fails(self, folder: Path, tmp_path: Path) -> None:
        before = load_bundle(folder).content_hash
        (tmp_path / "empty").mkdir()
        with pytest.raises(UserError, match=r"no config\.json"):
            save_bundle(
                folder,
                name="new",
                folds=[network(7)],
                recipe=RECIPE,
                trained=True,
                text_encoder_folder=tmp_path / "empty",
            )
        assert load_bundle(folder).content_hash == before

    def test_folds_of_different_specs_are_refused(self, tmp_path: Path) -> None:
        other = EmotionNetwork(SPEC.model_copy(update={"d_k": 8}))
        with pytest.raises(ValueError, match="of one spec"):
            save_bundle(tmp_path / "b", name="b", folds=[network(0), other], recipe=RECIPE, trained=True)

    def test_a_folds_networks_share_their_normalisation(self, tmp_path: Path) -> None:
        pair = [network(0, "valence"), network(1, "arousal")]
        pair[0].set_normalisation(Modality.AUDIO, 1.0, 2.0)
        with pytest.raises(ValueError, match="fold 0 differ in their normalisation"):
            save_bundle(tmp_path / "b", name="b", folds=[pair], recipe=RECIPE, trained=True)

    def test_a_text_encoder_brings_nothing_that_could_execute(self, tmp_path: Path, text: Path) -> None:
        source = tmp_path / "source"
        source.mkdir()
        for path in text.iterdir():
            (source / path.name).write_bytes(path.read_bytes())
        (source / "pytorch_model.bin").write_bytes(b"a pickle")
        (source / "modeling.py").write_text("print('hello')")
        save_bundle(
            tmp_path / "b",
            name="b",
            folds=[network(0)],
            recipe=RECIPE,
            trained=True,
            text_encoder_folder=source,
        )
        assert {p.suffix for p in (tmp_path / "b" / "text").iterdir()} == {".json", ".safetensors", ".txt"}


class TestNames:
    def test_a_shipped_bundle_by_its_name(self) -> None:
        assert resolve_bundle("demo").name == "demo"
        assert (resolve_bundle("demo") / "bundle.json").is_file()

    def test_anything_else_is_a_path(self, folder: Path) -> None:
        assert resolve_bundle(folder) == folder
        assert resolve_bundle(str(folder)) == folder

    def test_what_is_neither_is_refused_with_the_names_there_are(self) -> None:
        with pytest.raises(UserError, match=r"no bundle 'demonstration'.*\(demo\)"):
            resolve_bundle("demonstration")

    def test_a_folder_without_a_manifest_is_refused(self, tmp_path: Path) -> None:
        assert "is not a bundle: it has no bundle.json" in refusal(tmp_path)


class TestDamage:
    @pytest.mark.parametrize(
        "name",
        [
            "trunk.safetensors",
            "fold-1.safetensors",
            "probe.safetensors",
            "text/model.safetensors",
            "text/vocab.txt",
        ],
    )
    def test_truncated_altered_and_missing_files_are_refused_by_name(self, folder: Path, name: str) -> None:
        path = folder / name
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        assert f"{path} is damaged or altered" in refusal(folder)
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        assert f"{path} is damaged or altered" in refusal(folder)
        path.unlink()
        assert f"{path.name} is missing" in refusal(folder)

    def test_what_is_no_safetensors_is_refused_though_its_hash_is_right(self, folder: Path) -> None:
        text = (folder / "bundle.json").read_text()
        old = file_hash(folder / "fold-0.safetensors")
        (folder / "fold-0.safetensors").write_bytes(b"\x80\x04K\x01.")
        (folder / "bundle.json").write_text(text.replace(old, file_hash(folder / "fold-0.safetensors")))
        assert "fold-0.safetensors is not a sound safetensors file" in refusal(folder)

    @pytest.mark.parametrize("bad", [float("nan"), float("inf")])
    @pytest.mark.parametrize("file", ["fold-0.safetensors", "trunk.safetensors", "probe.safetensors"])
    def test_weights_that_are_not_finite_are_refused(self, folder: Path, file: str, bad: float) -> None:
        def spoil(tensors: dict[str, torch.Tensor]) -> None:
            tensors[min(k for k, v in tensors.items() if v.is_floating_point())].view(-1)[0] = bad

        edit_tensors(folder, file, spoil)
        message = refusal(folder)
        assert file in message
        assert "NaN or infinite" in message

    @pytest.mark.parametrize(
        ("change", "expected"),
        [
            pytest.param(lambda t: t.pop("valence-arousal/head.bias"), "head.bias is missing", id="missing"),
            pytest.param(
                lambda t: t.update({"valence-arousal/extra": torch.ones(1)}),
                "unknown tensor extra",
                id="unknown",
            ),
            pytest.param(
                lambda t: t.update({"stray/extra": torch.ones(1)}), "unknown tensor stray/extra", id="stray"
            ),
            pytest.param(
                lambda t: t.update({"valence-arousal/head.bias": torch.ones(3)}),
                r"head.bias is float32 (3,) and should be float32 (2,)",
                id="shape",
            ),
            pytest.param(
                lambda t: t.update({"valence-arousal/head.bias": torch.ones(2, dtype=torch.float64)}),
                r"head.bias is float64 (2,) and should be float32 (2,)",
                id="type",
            ),
        ],
    )
    def test_tensors_that_do_not_match_the_spec_are_refused(
        self, folder: Path, change: Callable[[dict[str, torch.Tensor]], object], expected: str
    ) -> None:
        edit_tensors(folder, "fold-0.safetensors", change)
        message = refusal(folder)
        assert "fold-0.safetensors does not match the bundle's spec" in message
        assert expected in message

    def test_a_text_encoder_of_the_wrong_width_is_refused(self, tmp_path: Path) -> None:
        make_text_encoder(tmp_path / "wide", 24, seed=0)
        save_bundle(
            tmp_path / "b",
            name="b",
            folds=[network(0)],
            recipe=RECIPE.model_copy(update={"audio_encoder": PartUse(name="vggish")}),
            trained=True,
            text_encoder_folder=tmp_path / "wide",
        )
        with pytest.raises(UserError, match="is 24 wide, but the bundle 'b' wants 12"):
            load_bundle(tmp_path / "b", missing_parts="tolerate")

    def test_a_file_slipped_into_the_text_encoder_is_refused(self, folder: Path) -> None:
        (folder / "text" / "modeling_bert.py").write_text("print('hello')")
        assert "modeling_bert.py is not in the bundle's manifest" in refusal(folder)

    def test_a_probe_that_does_not_fit_is_refused(self, folder: Path) -> None:
        edit_tensors(folder, "probe.safetensors", lambda t: t.update({"audio": torch.zeros(4, 7)}))
        assert "probe.safetensors does not match the bundle's spec: see audio" in refusal(folder)


class TestManifest:
    def test_a_newer_format_says_what_to_do(self, folder: Path) -> None:
        edit(folder, lambda m: m.update(format_version=2, unheard_of=1))
        assert "format version 2, this software knows up to 1: update affectstream" in refusal(folder)

    @pytest.mark.parametrize(
        "content", ["", "{", "[]", "{}", "\x00", "null", '{"format_version": "1"}', "[" * 10_000]
    )
    def test_what_is_no_manifest_is_refused(self, folder: Path, content: str) -> None:
        (folder / "bundle.json").write_text(content)
        assert str(folder / "bundle.json") in refusal(folder)

    @pytest.mark.parametrize(
        ("change", "place"),
        [
            pytest.param(lambda m: m.update(execute="rm"), "execute: unknown field", id="top"),
            pytest.param(
                lambda m: m["recipe"].update(execute="rm"), "recipe.execute: unknown field", id="recipe"
            ),
            pytest.param(lambda m: m["spec"].update(heads=3), "spec.heads: unknown field", id="spec"),
            pytest.param(lambda m: m["folds"][1].update(x=3), "folds.1.x: unknown field", id="fold"),
        ],
    )
    def test_unknown_fields_are_refused_where_they_are(
        self, folder: Path, change: Callable[[dict[str, Any]], object], place: str
    ) -> None:
        edit(folder, change)
        assert place in refusal(folder)

    @pytest.mark.parametrize(
        "name", ["../fold-0.safetensors", "/etc/passwd", "a/b", "..", ".hidden", "", "a\\b", "a\0b", "x\n"]
    )
    @pytest.mark.parametrize("place", ["fold", "trunk", "text"])
    def test_file_names_never_lead_out_of_the_folder(self, folder: Path, name: str, place: str) -> None:
        def escape(manifest: dict[str, Any]) -> None:
            files = {
                "fold": manifest["folds"][0]["file"],
                "trunk": manifest["trunk"],
                "text": manifest["text"][0],
            }
            files[place]["name"] = name

        edit(folder, escape)
        assert "String should match pattern" in refusal(folder)

    @pytest.mark.parametrize(
        ("change", "expected"),
        [
            pytest.param(lambda m: m.update(folds=[]), "folds", id="no folds"),
            pytest.param(lambda m: m.update(trained="yes"), "trained", id="loose type"),
            pytest.param(
                lambda m: m["folds"][0]["networks"][0].update(targets=["valence"]), "estimates", id="targets"
            ),
            pytest.param(
                lambda m: m["folds"][0]["normalisation"].pop("audio"), "normalisation", id="normalisation"
            ),
            pytest.param(
                lambda m: m["folds"][0]["normalisation"].update(audio=[0.0, 0.0]),
                "greater than 0",
                id="zero deviation",
            ),
            pytest.param(
                lambda m: m["folds"][0]["normalisation"].update(audio=[float("nan"), 1.0]), "finite", id="NaN"
            ),
            pytest.param(
                lambda m: m["folds"][0]["networks"][0].update(trunk=None), "name a trunk", id="no trunk"
            ),
            pytest.param(
                lambda m: m["folds"][0]["networks"][0].update(trunk=7), "is missing", id="unknown trunk"
            ),
            pytest.param(lambda m: m.update(trunk=None), "trunk file", id="no trunk file"),
            pytest.param(lambda m: m.update(text=[]), "text files", id="no text files"),
            pytest.param(lambda m: m["recipe"].update(audio_encoder=None), "audio_encoder", id="no encoder"),
            pytest.param(
                lambda m: m["folds"][0].update(file=m["folds"][1]["file"]),
                "a name of its own",
                id="one file twice",
            ),
            pytest.param(lambda m: m["spec"].update(d_k=8), "does not match", id="another spec"),
            pytest.param(
                lambda m: m["spec"]["visual"]["backbone"].update(input_size=15), "multiple of 8", id="size"
            ),
        ],
    )
    def test_what_does_not_hang_together_is_refused(
        self, folder: Path, change: Callable[[dict[str, Any]], object], expected: str
    ) -> None:
        edit(folder, change)
        assert expected in refusal(folder)

    def test_presets_are_recognised(self, folder: Path) -> None:
        assert read_manifest(folder).preset == "custom"
        assert read_manifest(resolve_bundle("demo")).preset == "compact"


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

    @pytest.mark.parametrize("missing_parts", ["refuse", "tolerate"])
    def test_another_part_than_the_bundle_was_made_with_is_refused(
        self, asking: Path, tmp_path: Path, text: Path, missing_parts: Any
    ) -> None:
        self.install(tmp_path, text)
        edit(asking, lambda m: m["recipe"]["audio_encoder"].update(sha256="0" * 64))
        with pytest.raises(UserError, match="made with another vggish than the one in"):
            load_bundle(asking, missing_parts=missing_parts)

    def test_an_unknown_part_is_refused(self, asking: Path) -> None:
        edit(asking, lambda m: m["recipe"]["audio_encoder"].update(name="wav2vec"))
        assert "asks for an unknown part as its audio_encoder: 'wav2vec'" in refusal(asking)
