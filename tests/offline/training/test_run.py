"""A run begins on what fits it, and refuses by name what does not."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from models.errors import UserError
from models.spec import Modality
from offline.data.folds import FoldSplit, split_folds, write_folds
from offline.data.store import Store
from offline.training.pretrained import load_pretrained, save_pretrained
from offline.training.run import RunFolder, prepare_run
from offline.training.train import train_fold
from tests.offline.training.runs import begin, nothing, options

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_what_does_not_fit_is_refused_by_name(
    tmp_path: Path, make_store: Callable[..., Path], tiny_store: Path, tiny_trunk: Path
) -> None:
    paper = options(preset="paper", cache_trunk=0)
    with pytest.raises(UserError, match="word vectors 48 wide, the network wants 768"):
        train_fold(begin(tmp_path / "a", tiny_store, None, paper), 0, nothing)
    deaf = options(preset="paper", cache_trunk=0, modalities=(Modality.VISUAL, Modality.AUDIO))
    with pytest.raises(UserError, match=r"no audio embeddings.*models-pull vggish"):
        train_fold(begin(tmp_path / "b", tiny_store, None, deaf), 0, nothing)
    narrow = make_store(audio_width=64, people=1, trials=1)
    with pytest.raises(UserError, match="audio embeddings 64 wide, the network wants 128"):
        train_fold(begin(tmp_path / "c", narrow, None, deaf), 0, nothing)
    with pytest.raises(UserError, match=r"offline-pretrain and give --trunk"):
        begin(tmp_path / "d", tiny_store, None)
    with pytest.raises(UserError, match="another backbone than this preset's"):
        begin(tmp_path / "e", tiny_store, tiny_trunk, paper)


def test_features_that_are_not_finite_are_refused_by_name(
    make_store: Callable[..., Path], tmp_path: Path
) -> None:
    store = make_store(people=1, trials=1, frames=33)
    words = np.load(store / "train" / "p0-0" / "language.npy")
    words[7, 3] = np.inf
    np.save(store / "train" / "p0-0" / "language.npy", words)
    run = begin(tmp_path / "run", store, None, options(modalities=(Modality.LANGUAGE,)))
    with pytest.raises(UserError, match="'p0-0' has language embeddings that are not finite"):
        train_fold(run, 0, nothing, tensorboard=False)


def test_a_trunk_of_other_crops_is_refused_by_name(
    tmp_path: Path, tiny_store: Path, tiny_trunk: Path
) -> None:
    manifest = tmp_path / "store" / "store.json"
    manifest.parent.mkdir()
    manifest.write_text((tiny_store / "store.json").read_text().replace('"haar"', '"yunet"'))
    for partition in ("train", "validation"):
        (manifest.parent / partition).symlink_to(tiny_store / partition)
    with pytest.raises(UserError, match=r"detector is yunet here, haar there"):
        begin(tmp_path / "run", manifest.parent, tiny_trunk)


class TestSplits:
    def test_a_start_that_failed_leaves_no_split_behind(
        self, tmp_path: Path, make_store: Callable[..., Path], tiny_trunk: Path
    ) -> None:
        """Trials that came to the store meanwhile belong to the folds."""
        store = make_store(people=3, trials=1)
        with pytest.raises(UserError, match="offline-pretrain"):
            begin(tmp_path / "run", store, None)
        shutil.copytree(store / "train" / "p0-0", store / "train" / "new")
        facts = json.loads((store / "train" / "new" / "trial.json").read_text())
        (store / "train" / "new" / "trial.json").write_text(
            json.dumps(facts | {"name": "new", "subject": "new"})
        )
        assert "new" in begin(tmp_path / "run", store, tiny_trunk).split.trials

    def test_trials_that_a_given_split_does_not_know_are_named(
        self, tmp_path: Path, tiny_store: Path, tiny_trunk: Path
    ) -> None:
        whole = split_folds(Store.open(tiny_store).trials())
        (left_out, *rest), *others = whole.parts
        assert rest or others
        parts = tuple(part for part in (tuple(rest), *others) if part)
        write_folds(tmp_path / "folds.json", FoldSplit(parts=parts, validation=whole.validation))
        _, notes = prepare_run(
            RunFolder(tmp_path / "run"),
            Store.open(tiny_store),
            options(),
            trunk=tiny_trunk,
            split=tmp_path / "folds.json",
            parts=5,
            resume=False,
        )
        assert any("1 trials are in no fold" in note and left_out in note for note in notes)

    def test_other_parts_than_a_run_was_begun_with_are_refused(
        self, tmp_path: Path, tiny_store: Path, tiny_trunk: Path
    ) -> None:
        begin(tmp_path / "run", tiny_store, tiny_trunk)
        with pytest.raises(UserError, match="--parts has changed"):
            prepare_run(
                RunFolder(tmp_path / "run"),
                Store.open(tiny_store),
                options(),
                trunk=tiny_trunk,
                split=None,
                parts=2,
                resume=True,
            )


def test_a_trunk_without_an_audio_encoder_is_refused_by_name(
    tmp_path: Path, tiny_store: Path, tiny_trunk: Path
) -> None:
    pretrained = load_pretrained(tiny_trunk, options().network, 0)
    deaf = tmp_path / "deaf.safetensors"
    save_pretrained(deaf, replace(pretrained, audio_encoder=None))
    with pytest.raises(UserError, match=r"has no audio encoder.*--parts visual,audio"):
        begin(tmp_path / "run", tiny_store, deaf)
    begin(tmp_path / "run", tiny_store, deaf, options(modalities=(Modality.VISUAL, Modality.LANGUAGE)))


def test_an_empty_store_gets_one_line(tmp_path: Path, tiny_store: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "store.json").write_text((tiny_store / "store.json").read_text())
    with pytest.raises(UserError, match="no trials"):
        begin(tmp_path / "run", empty, None, options(preset="paper", cache_trunk=0))
