"""Damaged files of a bundle: each is refused by name, in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from models.bundle.load import PartUse, load_bundle, save_bundle
from models.errors import UserError
from models.files import file_hash
from models.text.small_bert import make_text_encoder
from tests.models.bundle.bundles import (
    RECIPE,
    edit_tensors,
    network,
    refusal,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


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
