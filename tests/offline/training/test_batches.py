"""What training gives a network: normalised, padded, masked, kept as it would be computed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from models.networks.fold import EmotionNetwork
from models.spec import Modality
from offline.data.arrays import write_rows
from offline.data.store import Store
from offline.training.batches import TrainingInputs
from offline.training.run import RunFolder, prepare_run
from offline.training.train import train_fold
from tests.offline.stores import write_trial, write_trunk
from tests.offline.training.runs import begin, nothing, options

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from offline.data.store import TrialRecord


def test_normalisation_is_over_the_training_part_alone(
    tmp_path: Path, tiny_store: Path, tiny_trunk: Path
) -> None:
    run = begin(tmp_path / "run", tiny_store, tiny_trunk)
    fold = run.split.fold(2)
    inputs = TrainingInputs(
        run.store, run.store.trials(), run.pretrained, run.options, run.folder.cache, run.store_hash
    )
    found = inputs.normalisation(fold.training)
    words = np.concatenate([run.store.trial(n).language for n in fold.training])
    assert found[Modality.LANGUAGE] == pytest.approx((words.mean(), words.std()), abs=1e-5)
    assert found[Modality.VISUAL] == (0.0, 1.0)


def test_kept_maps_are_the_trunk_s(tmp_path: Path, tiny_store: Path, tiny_trunk: Path) -> None:
    """Caching the trunk changes a trial's embeddings by float16's rounding, and nothing else."""
    run = begin(tmp_path / "run", tiny_store, tiny_trunk)
    trial = run.store.trials("validation")[0]
    inputs = TrainingInputs(run.store, [trial], run.pretrained, run.options, run.folder.cache, run.store_hash)
    network = EmotionNetwork(run.options.network).eval()
    assert network.backbone is not None
    assert run.pretrained.backbone is not None
    network.backbone.load_state_dict(run.pretrained.backbone.state_dict())
    exact, *kept = (
        inputs.embeddings(network, trial, released).embeddings[Modality.VISUAL]
        for released in (None, (), ("layer4",), ("layer4", "layer3_tail"))
    )
    assert not torch.equal(exact, kept[0])
    torch.testing.assert_close(exact, kept[0], atol=2e-3, rtol=0)
    assert all(torch.equal(kept[0], other) for other in kept[1:]), "wherever the kept maps end"


def test_padding_and_missing_sound_reach_the_network_as_such(
    make_store: Callable[..., Path], tmp_path: Path
) -> None:
    store = make_store(people=1, trials=1, validation=1, frames=20)
    facts = store / "train" / "p0-0" / "trial.json"
    facts.write_text(facts.read_text().replace('"has_sound":true', '"has_sound":false'))
    run = begin(tmp_path / "run", store, write_trunk(tmp_path / "t.safetensors"))
    trial = run.store.trial("p0-0")
    inputs = TrainingInputs(run.store, [trial], run.pretrained, run.options, run.folder.cache, run.store_hash)
    (window,) = inputs.windows(["p0-0"], run.options)
    batch = inputs.batch([window], np.random.default_rng(0))
    assert batch.labels.shape == (1, 30, 2)
    assert bool(torch.isnan(batch.labels[0, 20:]).all())
    assert batch.available[0, 0].tolist() == [True, False, False]
    result = train_fold(run, 0, nothing, tensorboard=False)
    assert result["finished"]


def test_masked_windows_are_labelled_as_who_is_told_of_the_rest_would(
    make_store: Callable[..., Path], tmp_path: Path
) -> None:
    store = make_store(people=1, trials=1, validation=1, frames=30)
    by_set = np.tile(np.arange(8, dtype=np.float32)[None, :, None] / 8, (30, 1, 2))
    write_rows(store / "train" / "p0-0" / "partial_labels.npy", by_set)
    run = begin(tmp_path / "run", store, write_trunk(tmp_path / "t.safetensors"), options(mask_share=1.0))
    trial = run.store.trial("p0-0")
    inputs = TrainingInputs(run.store, [trial], run.pretrained, run.options, run.folder.cache, run.store_hash)
    (window,) = inputs.windows(["p0-0"], run.options)
    random = np.random.default_rng(0)
    seen = set()
    for _ in range(20):
        batch = inputs.batch([window], random)
        told = batch.available[0].numpy() @ np.array([4, 2, 1])
        assert np.allclose(batch.labels[0].numpy(), told[:, None] / 8)
        seen |= set(told.tolist())
    assert seen == {1, 2, 3, 4, 5, 6, 7}


def test_windows_without_a_label_are_left_out(
    make_store: Callable[..., Path], tmp_path: Path, tiny_trunk: Path
) -> None:
    store = make_store(people=2, trials=1)
    write_trial(store, "mute", "train", "m", labelled=False, frames=60)
    run = begin(tmp_path / "run", store, tiny_trunk)
    inputs = TrainingInputs(
        run.store, run.store.trials(), run.pretrained, run.options, run.folder.cache, run.store_hash
    )
    assert inputs.windows(["mute"], run.options) == []
    assert inputs.windows(["p0-0"], run.options)


def test_labels_are_read_once_for_all_windows_of_a_trial(
    tmp_path: Path, tiny_store: Path, tiny_trunk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begin(tmp_path / "run", tiny_store, tiny_trunk, options(window=10, hop=5))
    inputs = TrainingInputs(
        run.store, run.store.trials(), run.pretrained, run.options, run.folder.cache, run.store_hash
    )
    read: list[str] = []
    labels = TrainingInputs.labels

    def count(self: TrainingInputs, trial: TrialRecord) -> NDArray[np.float32]:
        read.append(trial.name)
        return labels(self, trial)

    monkeypatch.setattr(TrainingInputs, "labels", count)
    names = [trial.name for trial in run.store.trials()]
    windows = inputs.windows(names, run.options)
    assert len(windows) > len(names)
    assert [w.trial.name for w in windows] == sorted((w.trial.name for w in windows), key=names.index)
    assert read == names


def test_without_a_recogniser_the_language_branch_is_masked_as_in_prediction(
    tmp_path: Path, tiny_store: Path, tiny_trunk: Path
) -> None:
    store = tmp_path / "store"
    store.mkdir()
    manifest = json.loads((tiny_store / "store.json").read_text())
    manifest["recipe"]["recogniser"] = None
    (store / "store.json").write_text(json.dumps(manifest))
    for partition in ("train", "validation"):
        (store / partition).symlink_to(tiny_store / partition)
    run, notes = prepare_run(
        RunFolder(tmp_path / "run"),
        Store.open(store),
        options(),
        trunk=tiny_trunk,
        split=None,
        parts=5,
        resume=False,
    )
    assert any("no words" in note and "--modalities visual,audio" in note for note in notes)
    trial = run.store.trials("train")[0]
    inputs = TrainingInputs(
        run.store, [trial], run.pretrained, run.options, tmp_path / "cache", run.store_hash
    )
    given = inputs.embeddings(EmotionNetwork(run.options.network).eval(), trial).available
    masked = dict(zip(run.options.network.modalities, given[0, 0].tolist(), strict=True))
    assert masked == {Modality.VISUAL: True, Modality.AUDIO: True, Modality.LANGUAGE: False}
