"""Pretraining: other people teach the encoders: one file that folds stand on, and a text encoder's folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from models.errors import UserError
from models.spec import COMPACT, PAPER
from models.text.embedder import TextEmbedder
from models.visual.backbone import Backbone
from offline.data.store import Store
from offline.pretraining.audio import mix_up, shift_bands
from offline.pretraining.base import ENCODERS, EncoderName
from offline.pretraining.language import read_utterances
from offline.pretraining.pretrain import PretrainEpoch, join_parts, pretrain_part, split_people
from offline.tensors import load_tensors
from offline.training.options import PretrainOptions
from offline.training.pretrained import load_pretrained
from tests.offline.stores import write_trial

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.commands import RunCommand

OPTIONS = PretrainOptions(
    epochs=2, audio_epochs=2, language_epochs=2, every=2, pictures=16, patches=16, utterances=4
)


def nothing(event: PretrainEpoch) -> None:
    pass


def test_all_parts_learn_and_make_one_foundation(tmp_path: Path, tiny_store: Path) -> None:
    store = Store.open(tiny_store)
    events: list[PretrainEpoch] = []
    paths: dict[EncoderName, Path] = {part: tmp_path / part for part in ENCODERS}
    options = OPTIONS.model_copy(update={"epochs": 3, "audio_epochs": 4, "language_epochs": 4})
    reached = {part: pretrain_part(store, part, options, path, events.append) for part, path in paths.items()}
    join_parts(store, options, paths, tmp_path / "trunk.safetensors", tmp_path / "text")
    for part in ENCODERS:
        losses = [e.loss for e in events if e.part == part]
        assert losses[-1] < losses[0], part
    pretrained = load_pretrained(tmp_path / "trunk.safetensors", COMPACT)
    assert pretrained.backbone is not None
    assert pretrained.audio_encoder is not None
    assert pretrained.recipe == store.recipe
    assert pretrained.provenance["reached"]["visual"]["validation_ccc"] == reached["visual"]
    assert not pretrained.backbone.training
    assert TextEmbedder(tmp_path / "text", expected_width=48).embed(["happy", "calm"]).shape == (2, 48)


@pytest.mark.parametrize("part", ENCODERS)
def test_killed_after_an_epoch_it_goes_on_to_the_same_weights(
    part: EncoderName, tmp_path: Path, tiny_store: Path
) -> None:
    class Killed(BaseException):
        pass

    def die(event: PretrainEpoch) -> None:
        torch.manual_seed(77)
        raise Killed

    store = Store.open(tiny_store)
    pretrain_part(store, part, OPTIONS, tmp_path / "whole", nothing)
    with pytest.raises(Killed):
        pretrain_part(store, part, OPTIONS, tmp_path / "cut", die)
    pretrain_part(store, part, OPTIONS, tmp_path / "cut", nothing)
    (wanted, state), (found, other) = (load_tensors(tmp_path / name) for name in ("whole", "cut"))
    assert state == other
    assert all(torch.equal(found[k], wanted[k]) for k in wanted)


def test_another_pretraining_s_checkpoint_is_refused(tmp_path: Path, tiny_store: Path) -> None:
    store, brief = Store.open(tiny_store), OPTIONS.model_copy(update={"max_steps": 1})
    pretrain_part(store, "audio", brief, tmp_path / "audio", nothing)
    with pytest.raises(UserError, match="of another pretraining"):
        pretrain_part(store, "audio", brief.model_copy(update={"seed": 4}), tmp_path / "audio", nothing)


def test_people_are_held_out_where_nobody_is_to_validate_on(make_store: Callable[..., Path]) -> None:
    folder = make_store(people=5, trials=2, validation=0, frames=10)
    training, validation = split_people(Store.open(folder))
    assert {t.subject for t in validation} == {"p4"}
    assert {t.subject for t in training} == {"p0", "p1", "p2", "p3"}


def test_one_person_is_not_enough(make_store: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match="at least two"):
        split_people(Store.open(make_store(people=1, trials=3, validation=0, frames=10)))


def test_people_without_labels_teach_nothing(make_store: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_store(people=1, trials=0, validation=1, frames=20)
    write_trial(folder, "mute", "train", "m", labelled=False, frames=20)
    with pytest.raises(UserError, match="no frame of the training people has a label"):
        pretrain_part(Store.open(folder), "visual", OPTIONS, tmp_path / "c", nothing)


@pytest.mark.parametrize("part", ["visual", "audio"])
def test_of_frames_further_apart_than_a_trial_is_long_each_gives_one_at_most(
    part: EncoderName, make_store: Callable[..., Path], tmp_path: Path
) -> None:
    sparse = OPTIONS.model_copy(update={"every": 500})
    pretrain_part(
        Store.open(make_store(people=4, trials=1, validation=1, frames=20)),
        part,
        sparse,
        tmp_path / "c",
        nothing,
    )


@pytest.mark.parametrize("part", ["visual", "audio"])
def test_one_frame_is_too_few(part: EncoderName, make_store: Callable[..., Path], tmp_path: Path) -> None:
    one = Store.open(make_store(people=1, trials=1, validation=1, frames=20))
    with pytest.raises(UserError, match="see --every"):
        pretrain_part(one, part, OPTIONS.model_copy(update={"every": 500}), tmp_path / "c", nothing)


def test_a_face_checkpoint_fills_the_paper_s_backbone(tmp_path: Path) -> None:
    assert PAPER.visual is not None
    torch.manual_seed(3)
    wild = {f"backbone.{k}": v for k, v in Backbone(PAPER.visual.backbone).state_dict().items()}
    wild["backbone.output_layer.3.weight"] = torch.zeros(512, 512 * 49)
    save_file(wild, tmp_path / "faces.safetensors")
    pretrained = load_pretrained(tmp_path / "faces.safetensors", PAPER)
    assert pretrained.backbone is not None
    assert torch.equal(
        pretrained.backbone.state_dict()["body.0.res_layer.1.weight"],
        wild["backbone.body.0.res_layer.1.weight"],
    )
    assert "output_layer.3.weight" in pretrained.provenance["missing"]


@pytest.mark.parametrize("content", [b"", b"\x08\x00\x00\x00\x00\x00\x00\x00nonsense", b"{}" * 50])
def test_a_damaged_trunk_gets_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "trunk.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"trunk\.safetensors") as refused:
        load_pretrained(path, COMPACT)
    assert "\n" not in str(refused.value)


def test_a_checkpoint_of_training_is_no_trunk(tmp_path: Path, tiny_store: Path) -> None:
    brief = OPTIONS.model_copy(update={"max_steps": 1})
    pretrain_part(Store.open(tiny_store), "audio", brief, tmp_path / "c.safetensors", nothing)
    with pytest.raises(UserError, match="checkpoint of something else"):
        load_pretrained(tmp_path / "c.safetensors", COMPACT)


def test_the_command_writes_what_folds_stand_on_and_a_text_encoder_and_nothing_else(
    tmp_path: Path, tiny_store: Path, run_command: RunCommand
) -> None:
    out = tmp_path / "out" / "trunk.safetensors"
    arguments = [
        "--audio-epochs",
        "1",
        "--language-epochs",
        "1",
        "--epochs",
        "1",
        "--every",
        "4",
        "--patches",
        "8",
        "--max-steps",
        "2",
        "--threads",
        "1",
        "--device",
        "cpu",
    ]
    ended = run_command("offline-pretrain", tiny_store, "-o", out, *arguments)
    assert ended.status == 0, ended.err
    assert {p.name for p in out.parent.iterdir()} == {"trunk.safetensors", "trunk-text"}
    assert "visual: epoch 1/1" in ended.out
    ended = run_command("offline-pretrain", tiny_store, "-o", out, "--preset", "huge")
    assert ended.status == 2
    assert "unknown preset 'huge'" in ended.err
    ended = run_command("offline-pretrain", tiny_store, "-o", out, "--parts", "visual,smell")
    assert ended.status == 2
    assert "there is no part 'smell': choose from visual, audio, language" in ended.err


@pytest.mark.parametrize("option", ["--learning-rate", "--weight-decay"])
def test_a_number_that_is_not_finite_is_refused_by_its_option(
    option: str,
    tmp_path: Path,
    tiny_store: Path,
    run_command: RunCommand,
) -> None:
    out = tmp_path / "trunk.safetensors"
    ended = run_command("offline-pretrain", tiny_store, "-o", out, option, "inf")
    assert ended.status == 2
    assert ended.err == f"offline-pretrain: {option}: Input should be a finite number\n"
    assert list(tmp_path.iterdir()) == []


def test_words_get_the_mean_label_of_the_time_in_which_they_are_said(tiny_store: Path) -> None:
    trial = Store.open(tiny_store).trials("train")[0]
    first = read_utterances(trial)[0]
    assert len(first.texts) == 2
    # Frames 5 to 7 have no label, and the second word begins with frame 6.
    assert np.allclose(first.labels[0], trial.labels[0:5].mean(axis=0), atol=1e-6)
    assert np.allclose(first.labels[1], trial.labels[8:12].mean(axis=0), atol=1e-6)


def test_a_voice_is_shifted_along_the_bands_and_by_nothing_where_by_zero() -> None:
    patches = np.random.default_rng(3).normal(size=(2, 96, 64)).astype(np.float32)
    assert np.array_equal(shift_bands(patches, 0), patches)
    for by in (-3, -1, 2):
        moved = shift_bands(patches, by)
        assert moved.shape == patches.shape
        assert np.array_equal(moved[..., 3:-3], np.roll(patches, by, axis=2)[..., 3:-3])
        assert np.array_equal(moved[..., 0 if by > 0 else -1], patches[..., 0 if by > 0 else -1])


@given(st.integers(0, 2**32 - 1))
def test_what_is_mixed_lies_between_two_and_its_label_as_far_between_theirs(seed: int) -> None:
    random = np.random.default_rng(seed)
    labels = random.uniform(-1, 1, (8, 2)).astype(np.float32)
    # Patches that say what their label is.
    patches = np.broadcast_to(labels[:, :1, None], (8, 96, 64)).astype(np.float32)
    mixed, wanted = mix_up(patches, labels, random)
    assert np.allclose(mixed[:, 0, 0], wanted[:, 0], atol=1e-6)
    assert labels.min() - 1e-6 <= wanted.min()
    assert wanted.max() <= labels.max() + 1e-6


def test_a_store_without_words_teaches_no_language(make_store: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_store(people=3, trials=1, validation=1, frames=20)
    for path in folder.glob("*/*/words.json"):
        path.write_text("[]")
    with pytest.raises(UserError, match="no labelled word was recognised"):
        pretrain_part(Store.open(folder), "language", OPTIONS, tmp_path / "c", nothing)
