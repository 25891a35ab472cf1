"""A bundle with everything inside, and copies of it to spoil."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from models.audio.vggish import Vggish
from models.bundle.load import save_bundle
from models.spec import (
    Modality,
)
from models.text.small_bert import make_text_encoder
from tests.models.bundle.bundles import (
    RECIPE,
    SPEC,
    network,
)

if TYPE_CHECKING:
    from models.networks.fold import EmotionNetwork


@pytest.fixture(autouse=True)
def _no_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFFECT_MODELS", str(tmp_path / "models"))


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder") / "text"
    make_text_encoder(folder, 12, seed=1)
    return folder


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
