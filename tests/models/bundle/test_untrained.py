"""The untrained bundle: honest about itself, reproducible, and whole enough for the engine to run on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from models.bundle.load import load_bundle, load_networks, resolve_bundle
from models.bundle.untrained import NOTE, make_untrained_bundle
from models.errors import UserError
from models.text.embedder import TextEmbedder
from models.text.small_bert import recogniser_words

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "two"
    make_untrained_bundle(folder, folds=2, seed=5)
    return folder


def test_says_that_it_is_untrained(made: Path) -> None:
    manifest = load_bundle(made).manifest
    assert not manifest.trained
    assert manifest.note == NOTE
    assert all(fold.validation_ccc is None for fold in manifest.folds)


def test_made_again_it_is_the_same(made: Path, tmp_path: Path) -> None:
    again = make_untrained_bundle(tmp_path / "two", folds=2, seed=5)
    other = make_untrained_bundle(tmp_path / "two", folds=2, seed=6)
    assert again.content_hash == load_bundle(made).content_hash
    assert other.content_hash != again.content_hash


def test_folds_share_their_trunk_and_nothing_else(made: Path) -> None:
    _, [[one], [other]] = load_networks(made)
    assert one.backbone is not None
    mine, theirs = one.state_dict(), other.state_dict()
    for name, parameter in one.named_parameters():
        inner = name.removeprefix("backbone.")
        in_trunk = inner != name and one.backbone.group_of(inner) == "trunk"
        constant = parameter.numel() == 1 or bool((parameter == parameter.flatten()[0]).all())
        assert constant or torch.equal(mine[name], theirs[name]) == in_trunk, name


def test_folds_answer_differently_and_move_with_the_input(made: Path) -> None:
    bundle = load_bundle(made)
    generator = torch.Generator().manual_seed(0)
    crops = torch.rand(1, 40, 3, 40, 40, generator=generator) * 2 - 1
    assert bundle.audio_encoder is not None
    audio = bundle.audio_encoder(torch.rand(40, 96, 64, generator=generator) * 6 - 4)[None]
    language = torch.randn(1, 40, 48, generator=generator)
    found = bundle.ensemble(crops, audio, language, torch.ones(1, 40, 3, dtype=torch.bool))
    assert bool(torch.isfinite(found).all())
    assert bool((found.std(dim=2) > 0.01).all())
    assert float((found[0] - found[1]).abs().max()) > 0.01


def test_its_text_encoder_can_spell_any_word(made: Path) -> None:
    folder = load_bundle(made).text_encoder_folder
    assert folder is not None
    embedder = TextEmbedder(folder, expected_width=48)
    vectors = embedder.embed(["happy", "quixotically", "o'clock", "[unk]"])
    assert vectors.shape == (4, 48)
    assert np.isfinite(vectors).all()
    assert len({v.tobytes() for v in vectors}) == 4
    assert len(recogniser_words()) > 250


@pytest.mark.parametrize(
    ("arguments", "expected"), [((0,), "at least one fold"), ((2, "huge"), "unknown preset")]
)
def test_what_cannot_be_made_is_refused(tmp_path: Path, arguments: tuple[Any, ...], expected: str) -> None:
    folds, *preset_name = arguments
    with pytest.raises(UserError, match=expected):
        make_untrained_bundle(tmp_path / "b", *preset_name, folds=folds)  # type: ignore[misc]


def test_the_shipped_demo_is_what_its_own_record_makes(tmp_path: Path) -> None:
    """Up to the last bits, which may differ between processors and versions of torch."""
    demo = load_bundle("demo").manifest
    if demo.trained:
        pytest.skip("the demo bundle is a trained one")
    again = make_untrained_bundle(
        tmp_path / "demo", demo.preset, len(demo.folds), int(demo.provenance["seed"]), name="demo"
    )
    assert again.spec == demo.spec
    assert again.recipe == demo.recipe
    for file in demo.files:
        shipped = load_file(resolve_bundle("demo") / file.name)
        remade = load_file(tmp_path / "demo" / file.name)
        assert shipped.keys() == remade.keys()
        for name, value in shipped.items():
            torch.testing.assert_close(remade[name], value, rtol=1e-5, atol=1e-6)
