"""The backbone: IR-50's shape, its groups, and the checkpoints it takes over."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from models.errors import UserError
from models.spec import COMPACT, BackboneSpec
from models.visual.backbone import Backbone, load_face_checkpoint
from tests.models.small_networks import randomise

SLIM = BackboneSpec(input_size=16, widths=(3, 4, 5, 6), units=(1, 2, 3, 2), embedding=7, released_units=1)
# 24 units of two batch norms, two convolutions and a PReLU; three projections; the input and the output layer.
TENSORS_OF_IR50 = 24 * (4 + 1 + 1 + 1 + 4) + 3 * (1 + 4) + (1 + 4 + 1) + (4 + 2 + 4)


@pytest.fixture(scope="module")
def ir50() -> Backbone:
    torch.manual_seed(0)
    return Backbone(BackboneSpec()).eval()


def make_slim(seed: int = 0) -> Backbone:
    torch.manual_seed(seed)
    backbone = Backbone(SLIM)
    randomise(backbone, seed)
    return backbone


def published(seed: int = 1) -> dict[str, Tensor]:
    """A checkpoint of another training, as the face-recognition world saves them."""
    return {name: tensor.clone() for name, tensor in make_slim(seed).state_dict().items()}


class TestShape:
    def test_ir50_is_the_papers(self, ir50: Backbone) -> None:
        with torch.no_grad():
            x = ir50.input_layer(torch.randn(2, 3, 40, 40))
            sizes = [tuple(x.shape[1:])]
            for unit in ir50.body:
                x = unit(x)
                sizes.append(tuple(x.shape[1:]))
        stages = [(64, 40, 40)] * 4 + [(128, 20, 20)] * 4 + [(256, 10, 10)] * 14 + [(512, 5, 5)] * 3
        assert sizes == stages
        linear = ir50.output_layer[3]
        assert isinstance(linear, nn.Linear)
        assert linear.weight.shape == (512, 512 * 5 * 5)

    def test_a_shortcut_is_a_pool_where_the_width_stays_and_a_projection_where_it_changes(
        self, ir50: Backbone
    ) -> None:
        projections = [
            i for i, u in enumerate(ir50.tail_units()) if isinstance(u.shortcut_layer, nn.Sequential)
        ]
        assert projections == [3]
        assert len([n for n in ir50.state_dict() if n.endswith("shortcut_layer.0.weight")]) == 3

    def test_embeddings_have_unit_length(self, ir50: Backbone) -> None:
        with torch.no_grad():
            found = ir50(torch.randn(2, 3, 40, 40))
        torch.testing.assert_close(found.norm(dim=1), torch.ones(2))

    def test_forward_is_the_tail_of_the_trunk(self, ir50: Backbone) -> None:
        x = torch.randn(1, 3, 40, 40)
        with torch.no_grad():
            maps = ir50.trunk(x)
            assert maps.shape == (1, 256, 10, 10)
            assert torch.equal(ir50(x), ir50.tail(maps))

    def test_crops_of_another_size_are_refused(self) -> None:
        with pytest.raises(ValueError, match=r"expected crops \(N, 3, 16, 16\), got \(1, 3, 40, 40\)"):
            make_slim()(torch.zeros(1, 3, 40, 40))


class TestGroups:
    def test_ir50s_groups_are_the_reports(self, ir50: Backbone) -> None:
        groups = ir50.groups()
        assert list(groups) == ["trunk", "layer3_tail", "layer4", "output"]
        assert [len(g) for g in groups.values()] == [1 + 3 + 4 + 11, 3, 3, 1]

    @pytest.mark.parametrize("spec", [SLIM, COMPACT.visual.backbone if COMPACT.visual else SLIM])
    @pytest.mark.parametrize("released", [0, 1])
    def test_each_tensor_is_in_one_group(self, spec: BackboneSpec, released: int) -> None:
        backbone = Backbone(spec.model_copy(update={"released_units": released}))
        named = backbone.state_dict(keep_vars=True)
        for group, modules in backbone.groups().items():
            inside = {id(t) for t in modules.state_dict(keep_vars=True).values()}
            assert inside == {id(t) for name, t in named.items() if backbone.group_of(name) == group}

    def test_only_the_tail_learns_where_only_the_tail_is_released(self) -> None:
        backbone = make_slim()
        backbone.groups()["trunk"].requires_grad_(False)
        backbone(torch.randn(2, 3, 16, 16)).sum().backward()
        learning = {backbone.group_of(n) for n, p in backbone.named_parameters() if p.grad is not None}
        assert learning == {"layer3_tail", "layer4", "output"}


class TestCheckpoint:
    def test_names_are_those_of_the_world(self, ir50: Backbone) -> None:
        names = set(ir50.state_dict())
        assert len([n for n in names if not n.endswith("num_batches_tracked")]) == TENSORS_OF_IR50
        assert {
            "input_layer.0.weight",
            "input_layer.1.running_mean",
            "input_layer.2.weight",
            "body.0.res_layer.0.weight",
            "body.0.res_layer.1.weight",
            "body.0.res_layer.2.weight",
            "body.0.res_layer.3.weight",
            "body.0.res_layer.4.running_var",
            "body.3.shortcut_layer.0.weight",
            "body.3.shortcut_layer.1.bias",
            "body.23.res_layer.4.weight",
            "output_layer.0.weight",
            "output_layer.3.weight",
            "output_layer.4.running_mean",
        } <= names
        assert "body.0.shortcut_layer.0.weight" not in names

    @pytest.mark.parametrize("prefix", ["", "backbone.", "module.backbone."])
    @pytest.mark.parametrize("suffix", ["pth", "safetensors", "state dict"])
    def test_everything_is_taken_under_any_prefix(self, prefix: str, suffix: str, tmp_path: Path) -> None:
        backbone, given = make_slim(), published()
        named = {prefix + name: tensor for name, tensor in given.items()}
        named["logits.weight"] = torch.zeros(8, 7)
        path = tmp_path / f"face.{suffix}"
        if suffix == "pth":
            torch.save(named, path)
        elif suffix == "safetensors":
            save_file(named, path)
        report = load_face_checkpoint(backbone, named if suffix == "state dict" else path)
        assert set(report.taken) == set(given)
        assert dict(report.left) == {"logits.weight": "the network has no such tensor"}
        assert report.missing == ()
        assert all(torch.equal(tensor, given[name]) for name, tensor in backbone.state_dict().items())

    def test_an_output_layer_of_another_map_leaves_its_linear_out_whole(self) -> None:
        backbone, given = make_slim(), published()
        given["output_layer.3.weight"] = torch.zeros(7, 6 * 7 * 7)
        before = backbone.state_dict()["output_layer.3.bias"].clone()
        report = load_face_checkpoint(backbone, given)
        linear = {"output_layer.3.weight", "output_layer.3.bias"}
        assert set(report.left) == linear == set(report.missing)
        assert set(report.taken) == set(given) - linear
        assert torch.equal(backbone.state_dict()["output_layer.3.bias"], before)
        assert torch.equal(backbone.state_dict()["output_layer.4.weight"], given["output_layer.4.weight"])

    def test_what_it_has_more_or_less_is_listed(self) -> None:
        backbone, given = make_slim(), published()
        given = {n: t for n, t in given.items() if not n.endswith("num_batches_tracked")}
        del given["output_layer.4.bias"]
        wrapped: dict[str, object] = {
            "state_dict": {**given, "body.0.res_layer.5.fc1.weight": torch.ones(1), "epoch": 3}
        }
        report = load_face_checkpoint(backbone, wrapped)
        assert report.left == {
            "body.0.res_layer.5.fc1.weight": "the network has no such tensor",
            "epoch": "not a tensor",
        }
        assert report.missing == ("output_layer.4.bias",)

    def test_half_precision_is_taken_as_single(self) -> None:
        backbone, given = make_slim(), published()
        load_face_checkpoint(
            backbone, {n: t.half() if t.is_floating_point() else t for n, t in given.items()}
        )
        weight = backbone.state_dict()["body.0.res_layer.1.weight"]
        assert weight.dtype == torch.float32
        torch.testing.assert_close(weight, given["body.0.res_layer.1.weight"], atol=1e-3, rtol=1e-3)


class TestBadCheckpoint:
    def refuse(self, source: Path | dict[str, object], match: str) -> None:
        backbone = make_slim()
        before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
        with pytest.raises(UserError, match=match) as refused:
            load_face_checkpoint(backbone, source)
        assert "\n" not in str(refused.value)
        assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.state_dict().items())

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        self.refuse(tmp_path / "none.pth", "does not exist")

    @pytest.mark.parametrize("name", ["face.pth", "face.safetensors"])
    def test_a_truncated_file(self, name: str, tmp_path: Path) -> None:
        path = tmp_path / name
        if name.endswith("pth"):
            torch.save(published(), path)
        else:
            save_file(published(), path)
        path.write_bytes(path.read_bytes()[:-2000])
        self.refuse(path, f"{name} cannot be read as a checkpoint")

    @pytest.mark.parametrize("name", ["face.pth", "face.safetensors"])
    def test_a_file_of_something_else(self, name: str, tmp_path: Path) -> None:
        (tmp_path / name).write_text("<html>not found</html>")
        self.refuse(tmp_path / name, f"{name} cannot be read as a checkpoint")

    def test_a_pickle_that_would_execute(self, tmp_path: Path) -> None:
        mark = tmp_path / "executed"

        class Trap:
            def __reduce__(self) -> tuple[object, tuple[str]]:
                return Path.touch, (mark,)  # type: ignore[return-value]

        (tmp_path / "face.pth").write_bytes(pickle.dumps({"input_layer.0.weight": Trap()}, protocol=2))
        self.refuse(tmp_path / "face.pth", "face.pth cannot be read as a checkpoint")
        torch.save({"input_layer.0.weight": Trap()}, tmp_path / "zipped.pth")
        self.refuse(tmp_path / "zipped.pth", "zipped.pth cannot be read as a checkpoint")
        assert not mark.exists()

    def test_a_file_that_holds_no_state_dict(self, tmp_path: Path) -> None:
        torch.save(torch.ones(3), tmp_path / "face.pth")
        self.refuse(tmp_path / "face.pth", "holds no state dict but a Tensor")

    def test_another_network(self) -> None:
        self.refuse({"features.0.weight": torch.ones(1)}, "no face backbone's checkpoint")

    def test_another_width(self) -> None:
        other = Backbone(SLIM.model_copy(update={"widths": (4, 4, 5, 6)})).state_dict()
        self.refuse(
            dict(other), r"input_layer.0.weight has shape \(4, 3, 3, 3\), the network's is \(3, 3, 3, 3\)"
        )

    def test_weights_that_are_not_numbers(self) -> None:
        given: dict[str, object] = dict(published())
        given["body.2.res_layer.3.weight"] = torch.full_like(
            published()["body.2.res_layer.3.weight"], float("nan")
        )
        self.refuse(given, "body.2.res_layer.3.weight holds NaN")
