"""A bundle's manifest: strict, versioned, and whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from models.bundle.load import resolve_bundle
from models.bundle.manifest import read_manifest
from tests.models.bundle.bundles import (
    edit,
    refusal,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


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
