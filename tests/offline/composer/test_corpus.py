"""Composed trials from files to a store, and from there to folds, a bundle and an error to expect."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from models.audio.vggish import Vggish
from models.bundle.load import load_bundle
from models.bundle.manifest import GIVEN_WORDS
from models.errors import UserError
from models.spec import CROP_SPECS, PRACTICAL, TARGETS
from models.text.small_bert import make_text_encoder
from models.visual.backbone import Backbone
from offline.bundling.bundle import BundlingOptions, make_bundle
from offline.composer.corpus import ComposeJob, compose_trials, prepare
from offline.composer.material_files import MaterialFiles
from offline.composer.plan import ComposePlan
from offline.data.store import Store
from offline.training.options import TrainOptions
from offline.training.pretrained import PretrainedEncoders, save_pretrained
from offline.training.results import open_run
from offline.training.run import RunFolder, prepare_run
from offline.training.schedule import ScheduleOptions
from offline.training.train import train_fold
from tests.offline.composer.made import write_faces, write_texts, write_voices

if TYPE_CHECKING:
    from pathlib import Path

PLAN = ComposePlan(minutes=1.0, test_minutes=1 / 6, trial_s=10.0, seed=3)


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> ComposeJob:
    """A small plan over made-up material, composed into `store`."""
    folder = tmp_path_factory.mktemp("composed")
    text_encoder = folder / "text"
    make_text_encoder(text_encoder, 64, seed=1)
    files = MaterialFiles(
        faces=write_faces(folder / "faces.npz", 90),
        voices=write_voices(folder / "voices"),
        texts=write_texts(folder / "texts"),
        test_faces=write_faces(folder / "unseen.npz", 20, seed=9),
        held_out_speakers=("09",),
    )
    job = ComposeJob(PLAN, files, folder / "store", "haar", text_encoder, 64, files.content_hash())
    compose_trials(job, prepare(job), 1, lambda trial: None)
    return job


def test_every_trial_of_the_plan_is_in_the_store(job: ComposeJob) -> None:
    store = Store.open(job.store)
    assert [t.partition for t in store.trials()] == ["train"] * 5 + ["validation", "test"]
    assert len({t.subject for t in store.trials()}) == 7, "no part is in two partitions"
    assert store.recipe.crop == CROP_SPECS["practical"]
    assert store.recipe.recogniser is not None
    assert store.recipe.recogniser.name == GIVEN_WORDS
    for trial in store.trials():
        assert trial.frames == 300
        labels = np.array(trial.labels)
        assert np.isfinite(labels).all()
        assert np.abs(labels).max() <= 1
        crops = np.array(trial.crops)
        assert (crops[..., 0] == crops[..., 2]).all(), "grey"
        assert (np.array(trial.faces) == crops.any(axis=(1, 2, 3))).all()
        partial = trial.partial_labels
        assert partial is not None
        assert (partial[:, 7] == labels).all(), "who is told of everything"
        assert (partial[:, 0] == 0).all(), "who is told of nothing"
        assert trial.voices is not None
        assert trial.voices.shape == (300,)


def test_faces_move_and_blend_and_do_not_flicker(job: ComposeJob) -> None:
    trial = Store.open(job.store).trials("train")[0]
    crops, faces = np.array(trial.crops, np.float32)[..., 0], np.array(trial.faces)
    shown = faces[1:] & faces[:-1]
    steps = np.abs(np.diff(crops, axis=0)).mean(axis=(1, 2))[shown]
    assert steps.min() > 0, "a camera's picture is never twice the same"
    assert np.median(steps) < 30


def test_what_is_there_is_not_composed_again_and_another_seed_is_another_trial(job: ComposeJob) -> None:
    assert prepare(job) == []
    other = replace(job, plan=replace(PLAN, seed=4))
    assert len(prepare(other)) == len(PLAN.trials)


def test_a_speaker_that_is_not_there_is_refused(job: ComposeJob) -> None:
    files = replace(job.files, held_out_speakers=("77",))
    with pytest.raises(UserError, match="no speaker 77: there are 03, 04"):
        replace(job, files=files).load_material()


def test_a_plan_of_too_few_trials_is_refused() -> None:
    with pytest.raises(UserError, match="fewer than 6"):
        ComposePlan(minutes=0.5)


@pytest.mark.slow
def test_folds_learn_from_composed_trials_and_their_bundle_says_how_wrong_it_may_be(
    job: ComposeJob, tmp_path: Path
) -> None:
    store = Store.open(job.store)
    assert PRACTICAL.visual is not None
    assert PRACTICAL.audio is not None
    torch.manual_seed(1)
    encoders = PretrainedEncoders(
        Backbone(PRACTICAL.visual.backbone).eval(), Vggish(PRACTICAL.audio.encoder).eval(), store.recipe, {}
    )
    save_pretrained(tmp_path / "trunk.safetensors", encoders)
    options = TrainOptions(
        preset="practical",
        schedule=ScheduleOptions(warm_up=0, learning_rate=1e-3),
        loss="frames",
        mask_share=0.5,
        max_steps=2,
        cache_trunk=1,
        context="stream",
    )
    run, _ = prepare_run(
        RunFolder(tmp_path / "run"),
        store,
        options,
        trunk=tmp_path / "trunk.safetensors",
        split=None,
        parts=2,
        resume=False,
    )
    for index in range(run.split.folds):
        train_fold(run, index, lambda event: None, tensorboard=False)
    made = make_bundle(
        [open_run(tmp_path / "run")],
        tmp_path / "bundle",
        BundlingOptions(text_encoder=job.text_encoder, calibrate_from=job.store),
    )
    bundle = load_bundle(str(tmp_path / "bundle"))
    assert bundle.manifest.preset == "practical"
    assert bundle.manifest.content_hash == made.manifest.content_hash
    assert len(bundle.ensemble.trunks) == 1, "the frozen backbone is computed once for all folds"
    spread = bundle.manifest.spread
    assert spread is not None
    assert all(floor[t] >= 0 for floor in spread.floor.values() for t in TARGETS)
    assert "nothing" in spread.floor


def test_more_minutes_leave_the_trials_that_are_there_as_they_are(job: ComposeJob) -> None:
    longer = replace(job, plan=replace(PLAN, minutes=2.0))
    assert len(prepare(longer)) == len(longer.plan.trials) - len(PLAN.trials)
