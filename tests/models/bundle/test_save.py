"""Saving a bundle: whole or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from models.bundle.load import load_bundle, save_bundle
from models.errors import UserError
from models.networks.fold import EmotionNetwork
from models.spec import (
    Modality,
)
from tests.models.bundle.bundles import (
    RECIPE,
    SPEC,
    network,
)

if TYPE_CHECKING:
    from pathlib import Path


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
