"""The audio encoder learns from played sentences, with a teacher or without, and goes on after a kill."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import nn

from models.audio.logmel import LogMel
from models.errors import UserError
from models.spec import VggishSpec
from offline.people.emodb import Recording, read_recordings
from offline.people_pretraining.augmented_sentences import (
    Sentence,
    augment_sentences,
    make_patches,
    mask_spectrogram,
    read_sentences,
)
from offline.people_pretraining.options import VoiceOptions
from offline.people_pretraining.sentences import TeacherSpace, VoiceModel, judge_voice, train_voice
from offline.people_pretraining.teachers import VoiceTeacher, load_voice_teacher, write_voice_teacher
from offline.tensors import load_tensors
from tests.offline.people_pretraining.spoken import write_voices

if TYPE_CHECKING:
    from pathlib import Path

    from offline.people_pretraining.progress import WordsEpoch

SPEC = VggishSpec(widths=(2, 4, 4, 6, 6, 6), hidden=(12, 12), embedding=8)
OPTIONS = VoiceOptions(epochs=2, sentences=6, patches=2, versions=2, quiet=2, teacher_width=4)


@pytest.fixture(scope="module")
def voices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_voices(tmp_path_factory.mktemp("voices") / "emodb")


@pytest.fixture(scope="module")
def recordings(voices: Path) -> tuple[Recording, ...]:
    return read_recordings(voices)


@pytest.fixture(scope="module")
def sentences(recordings: tuple[Recording, ...]) -> list[Sentence]:
    return read_sentences(recordings, ())[0]


def nothing(event: WordsEpoch) -> None:
    pass


def taught(recordings: tuple[Recording, ...], path: Path, rows: int = 50) -> Path:
    """A teacher whose first number rises with the emotion's arousal."""
    random = np.random.default_rng(1)
    vectors = {r.name: random.standard_normal((rows, 6)).astype(np.float16) for r in recordings}
    for r in recordings:
        vectors[r.name][:, 0] += 4 * "TFW".index(r.name[5])
    np.savez(path, allow_pickle=False, **vectors)
    return path


def test_it_learns_what_is_played(sentences: list[Sentence], tmp_path: Path) -> None:
    events: list[WordsEpoch] = []
    options = OPTIONS.model_copy(update={"epochs": 12, "dropout": 0.0})
    model = train_voice(sentences, SPEC, options, None, tmp_path / "c", events.append)
    assert [e.epoch for e in events] == list(range(1, 13))
    assert events[-1].loss < 0.8 * events[0].loss
    assert judge_voice(model, sentences)["arousal"] > 0.5


def test_a_teacher_is_one_more_target(
    sentences: list[Sentence], recordings: tuple[Recording, ...], tmp_path: Path
) -> None:
    teacher = load_voice_teacher(taught(recordings, tmp_path / "t.npz"), recordings)
    model = train_voice(sentences, SPEC, OPTIONS, teacher, tmp_path / "c", nothing)
    assert model.teacher.out_features == 4
    assert teacher.source["file"] == "t.npz"


def test_a_teacher_s_ridge_hears_the_emotion_from_other_speakers(
    sentences: list[Sentence], recordings: tuple[Recording, ...], tmp_path: Path
) -> None:
    teacher = load_voice_teacher(taught(recordings, tmp_path / "t.npz"), recordings)
    examples = augment_sentences(sentences, 1, 0, teacher)
    space = TeacherSpace(examples, 4, SPEC.patch_frames)
    vectors, feelings = space.targets(examples[0], [60, 96], 1.0)
    assert vectors.shape == (2, 4)
    assert feelings.shape == (2, 2)
    told = np.stack([space.targets(x, [96], 1.0)[1][0] for x in examples])
    labels = np.stack([x.sentence.valence_arousal for x in examples])
    assert np.corrcoef(told[:, 1], labels[:, 1])[0, 1] > 0.5


@pytest.mark.parametrize("with_teacher", [False, True])
def test_killed_after_an_epoch_it_goes_on_to_the_same_bits(
    sentences: list[Sentence], recordings: tuple[Recording, ...], tmp_path: Path, *, with_teacher: bool
) -> None:
    class Killed(BaseException):
        pass

    def die(event: WordsEpoch) -> None:
        torch.manual_seed(77)
        raise Killed

    teacher = load_voice_teacher(taught(recordings, tmp_path / "t.npz"), recordings) if with_teacher else None
    train_voice(sentences, SPEC, OPTIONS, teacher, tmp_path / "whole", nothing)
    with pytest.raises(Killed):
        train_voice(sentences, SPEC, OPTIONS, teacher, tmp_path / "cut", die)
    train_voice(sentences, SPEC, OPTIONS, teacher, tmp_path / "cut", nothing)
    (wanted, state), (found, other) = (load_tensors(tmp_path / name) for name in ("whole", "cut"))
    assert state == other
    assert all(torch.equal(found[k], wanted[k]) for k in wanted)


def test_folding_changes_nothing() -> None:
    torch.manual_seed(0)
    model = VoiceModel(SPEC, OPTIONS, 4)
    patches = torch.randn(32, 96, 64)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2.0)
            nn.init.uniform_(module.bias, -1.0, 1.0)
    model.train()
    with torch.no_grad():
        for _ in range(30):
            model(patches)
    model.eval()
    with torch.no_grad():
        wanted, found = model(patches), model.folded()(patches)
    assert wanted.abs().max() > 0.1
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


def test_leaving_a_speaker_out_leaves_the_others_copies_as_they_are(
    recordings: tuple[Recording, ...],
) -> None:
    everyone, nobody = read_sentences(recordings, ())
    some, held = read_sentences(recordings, ["03"])
    assert not nobody
    assert {s.recording.speaker for s in held} == {"03"}
    assert {s.recording.speaker for s in some} == {"08", "09"}
    whole = {x.sentence.recording.name: x for x in augment_sentences(everyone, 2, 7, None)}
    for example in augment_sentences(some, 2, 7, None):
        same = whole[example.sentence.recording.name].versions
        assert all(np.array_equal(a, b) for a, b in zip(example.versions, same, strict=True))


def test_a_patch_before_the_sentence_is_silent() -> None:
    frames = np.ones((70, 64), np.float32)
    (patch,) = make_patches(frames, [70], 96)
    assert (patch[26:] == 1).all()
    assert (patch[:26] == LogMel().silence).all()


def test_masking_keeps_the_original_and_is_seeded() -> None:
    patch = np.random.default_rng(0).standard_normal((96, 64)).astype(np.float32)
    before = patch.copy()
    one, same = (mask_spectrogram(patch, np.random.default_rng(4)) for _ in range(2))
    assert np.array_equal(patch, before)
    assert np.array_equal(one, same)
    assert not np.array_equal(one, patch)


def test_bad_input_is_told_in_one_line(
    sentences: list[Sentence], recordings: tuple[Recording, ...], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="no speaker 77 to leave out: there are 03, 08, 09"):
        read_sentences(recordings, ["77"])
    with pytest.raises(UserError, match="every speaker is left out"):
        read_sentences(recordings, ["03", "08", "09"])
    with pytest.raises(UserError, match="3 sentences are fewer than a batch of 6"):
        train_voice(sentences[:3], SPEC, OPTIONS, None, tmp_path / "c", nothing)
    short = Sentence(recordings[0], np.zeros(100, np.float32))
    with pytest.raises(UserError, match="too short to learn from"):
        augment_sentences([short], 1, 0, None)
    train_voice(sentences, SPEC, OPTIONS.model_copy(update={"epochs": 1}), None, tmp_path / "c", nothing)
    with pytest.raises(UserError, match="of another pretraining"):
        train_voice(sentences, SPEC, OPTIONS, None, tmp_path / "c", nothing)


def test_a_bad_teacher_is_told_in_one_line(recordings: tuple[Recording, ...], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        load_voice_teacher(tmp_path / "none.npz", recordings)
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(UserError, match=r"cannot be read as \.npz"):
        load_voice_teacher(tmp_path / "text.npz", recordings)
    lacking = taught(recordings[1:], tmp_path / "lacking.npz")
    with pytest.raises(UserError, match=f"lacks the vectors of {recordings[0].name}"):
        load_voice_teacher(lacking, recordings)
    np.savez(tmp_path / "odd.npz", allow_pickle=False, **{r.name: np.zeros(5) for r in recordings})
    with pytest.raises(UserError, match=r"must hold \(n, width\) vectors"):
        load_voice_teacher(tmp_path / "odd.npz", recordings)
    np.savez(
        tmp_path / "nan.npz", allow_pickle=False, **{r.name: np.full((5, 2), np.nan) for r in recordings}
    )
    with pytest.raises(UserError, match="not finite"):
        load_voice_teacher(tmp_path / "nan.npz", recordings)
    one = {r.name: np.zeros((5, 2), np.float32) for r in recordings}
    same_speaker = [r for r in recordings if r.speaker == "03"]
    examples = augment_sentences(read_sentences(same_speaker, ())[0], 1, 0, VoiceTeacher(one, {}))
    with pytest.raises(UserError, match="at least two speakers"):
        TeacherSpace(examples, 2, 96)
    with pytest.raises(UserError, match=r"is no folder|needs the package faster-whisper"):
        write_voice_teacher(tmp_path / "t.npz", recordings, tmp_path / "nowhere")
