"""The text encoder learns from labelled comments, and the command that makes both encoders."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from models.errors import UserError
from models.spec import preset
from models.text.embedder import TextEmbedder
from models.text.small_bert import make_text_encoder
from models.visual.backbone import Backbone
from offline.people.goemotions import Comments, read_comments
from offline.people_pretraining.comments import TextModel, judge_text, save_text_encoder, train_text
from offline.people_pretraining.options import TextOptions
from offline.people_pretraining.teachers import load_text_teacher, write_text_teacher
from offline.people_pretraining.vocabulary import (
    Vocabulary,
    choose_vocabulary,
    cut_pieces,
    mean_over_pieces,
    pad_pieces,
    read_word_vectors,
)
from offline.tensors import load_tensors
from offline.training.pretrained import PretrainedEncoders, load_pretrained, save_pretrained
from tests.offline.people_pretraining.spoken import PHRASES, write_texts, write_vectors, write_voices

if TYPE_CHECKING:
    from pathlib import Path

    from offline.people_pretraining.progress import WordsEpoch
    from tests.commands import RunCommand

WIDTH = 64
OPTIONS = TextOptions(epochs=2, batch=12, words=30, lone_words=4)


def nothing(event: WordsEpoch) -> None:
    pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts, their word vectors and a teacher."""
    made = tmp_path_factory.mktemp("texts")
    write_texts(made / "goemotions")
    write_vectors(made / "glove.npz")
    random = np.random.default_rng(2)
    count = len(PHRASES) * 10
    np.savez(
        made / "teacher.npz",
        train=random.standard_normal((count, 6)).astype(np.float16),
        words=np.array(["sunny", "gloomy", "elsewhere"]),
        word_vectors=random.standard_normal((3, 6)).astype(np.float16),
    )
    return made


@pytest.fixture(scope="module")
def comments(folder: Path) -> Comments:
    return read_comments(folder / "goemotions" / "train.tsv")


@pytest.fixture(scope="module")
def vocabulary(folder: Path, comments: Comments) -> Vocabulary:
    return choose_vocabulary(read_word_vectors(folder / "glove.npz"), comments.texts, OPTIONS.words)


def test_it_learns_and_is_written_as_the_embedder_reads_it(
    comments: Comments, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    events: list[WordsEpoch] = []
    options = OPTIONS.model_copy(update={"epochs": 8})
    model, log = train_text(
        comments, comments, vocabulary, WIDTH, options, None, tmp_path / "c", events.append
    )
    assert events[-1].loss < 0.8 * events[0].loss
    assert log[-1]["r"][0] > 0.7
    save_text_encoder(tmp_path / "text", vocabulary, model, {"source": "a test"})
    embedder = TextEmbedder(tmp_path / "text", expected_width=WIDTH)
    words = ("what", "a", "happy", "zyzzyva")
    vectors = embedder.embed(words)
    assert vectors.shape == (4, WIDTH)
    ids, mask, own = pad_pieces(cut_pieces(vocabulary.tokenizer(), [words[:3]]))
    with torch.no_grad():
        wanted = mean_over_pieces(model(ids, mask), own)[0].numpy()
    # Weights are stored as float16.
    np.testing.assert_allclose(embedder.embed(words[:3]).mean(0), wanted, atol=0.05)
    assert json.loads((tmp_path / "text" / "provenance.json").read_text()) == {"source": "a test"}
    with torch.no_grad():
        feelings = model.feeling(torch.from_numpy(np.array(embedder.embed(["happy"])))).numpy()[0]
    assert np.isfinite(feelings).all()


@pytest.mark.parametrize("with_teacher", [False, True])
def test_killed_after_an_epoch_it_goes_on_to_the_same_bits(
    folder: Path, comments: Comments, vocabulary: Vocabulary, tmp_path: Path, *, with_teacher: bool
) -> None:
    class Killed(BaseException):
        pass

    def die(event: WordsEpoch) -> None:
        torch.manual_seed(77)
        raise Killed

    def train(name: str, report: object = nothing) -> None:
        teacher = load_text_teacher(folder / "teacher.npz", comments.texts) if with_teacher else None
        train_text(comments, None, vocabulary, WIDTH, OPTIONS, teacher, tmp_path / name, report)  # type: ignore[arg-type]

    train("whole")
    with pytest.raises(Killed):
        train("cut", die)
    train("cut")
    (wanted, state), (found, other) = (load_tensors(tmp_path / name) for name in ("whole", "cut"))
    assert state == other
    assert all(torch.equal(found[k], wanted[k]) for k in wanted)


def test_the_written_weights_are_the_learner_s(vocabulary: Vocabulary) -> None:
    torch.manual_seed(0)
    model = TextModel(vocabulary, WIDTH, 3, OPTIONS, 0).eval()
    weights = model.encoder_weights()
    table = weights["embeddings.word_embeddings.weight"]
    ids = torch.tensor([[2, 40, 41, 3]])
    with torch.no_grad():
        wanted = model(ids, torch.ones_like(ids))
        model.bert.load_state_dict(weights)
        states = model.bert(input_ids=ids, output_hidden_states=True).hidden_states
    assert table.shape == (len(vocabulary.pieces), WIDTH)
    torch.testing.assert_close(torch.stack(states[-4:]).sum(0), wanted, rtol=0, atol=1e-5)


def test_the_vocabulary_holds_what_texts_use_and_spells_the_rest(vocabulary: Vocabulary) -> None:
    assert {"happy", "sad", "table"} <= set(vocabulary.pieces)
    assert not vocabulary.vectors[vocabulary.pieces.index("[UNK]")].any()
    assert vocabulary.vectors[vocabulary.pieces.index("happy")].any()
    tokenizer = vocabulary.tokenizer()
    (spelled, known, nothing_said) = cut_pieces(tokenizer, [["zyzzyva"], ["happy"], []])
    assert len(spelled) > 1
    assert len(known) == 1
    assert nothing_said == [vocabulary.pieces.index("[UNK]")]


def test_judging_leaves_out_nothing(comments: Comments, vocabulary: Vocabulary) -> None:
    torch.manual_seed(0)
    figures = judge_text(TextModel(vocabulary, WIDTH, 3, OPTIONS, 0), vocabulary.tokenizer(), comments)
    assert set(figures) == {"r", "r_half", "r_written", "macro_f1"}


def test_a_sentence_encoder_s_vectors_are_written_and_read_again(comments: Comments, tmp_path: Path) -> None:
    make_text_encoder(tmp_path / "minilm", 12, seed=1)
    write_text_teacher(tmp_path / "t.npz", comments.texts, ["happy", "sad"], tmp_path / "minilm")
    teacher = load_text_teacher(tmp_path / "t.npz", comments.texts)
    assert teacher.texts.shape == (len(comments), 12)
    assert teacher.words == ("happy", "sad")
    np.testing.assert_allclose(np.linalg.norm(teacher.texts, axis=1), 1, atol=1e-2)
    assert "minilm" in teacher.source["made_by"]
    with pytest.raises(UserError, match="made of other texts"):
        load_text_teacher(tmp_path / "t.npz", [*comments.texts[1:], "other"])


def test_bad_input_is_told_in_one_line(
    folder: Path, comments: Comments, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    big = OPTIONS.model_copy(update={"batch": 1000})
    with pytest.raises(UserError, match="60 comments are fewer than a batch of 1000"):
        train_text(comments, None, vocabulary, WIDTH, big, None, tmp_path / "c", nothing)
    with pytest.raises(UserError, match="made of other texts"):
        load_text_teacher(folder / "teacher.npz", comments.texts[1:])
    with pytest.raises(UserError, match="has no 'train'"):
        load_text_teacher(folder / "glove.npz", comments.texts)
    with pytest.raises(UserError, match="does not exist"):
        read_word_vectors(tmp_path / "none.npz")
    with pytest.raises(UserError, match=r"no \.npz of words and vectors"):
        read_word_vectors(folder / "teacher.npz")
    np.savez(tmp_path / "odd.npz", words=np.array(["a", "b"]), vectors=np.zeros(2))
    with pytest.raises(UserError, match=r"must hold words \(n,\) and vectors \(n, width\)"):
        read_word_vectors(tmp_path / "odd.npz")


def test_the_command_joins_the_backbone_and_keeps_it_the_next_time(
    folder: Path, tmp_path: Path, run_command: RunCommand
) -> None:
    spec = preset("practical")
    assert spec.visual is not None
    torch.manual_seed(9)
    backbone = Backbone(spec.visual.backbone)
    save_pretrained(
        tmp_path / "faces.safetensors", PretrainedEncoders(backbone, None, None, {"source": "faces"})
    )
    voices, out = write_voices(tmp_path / "emodb", takes="abcdef"), tmp_path / "trunk.safetensors"
    learn = ["--voices", voices, "--leave-out", "09", "--voice-epochs", 1, "-o", out]
    printed = run_command("offline-pretrain-words", *learn, "--join", tmp_path / "faces.safetensors").said
    assert "CCC of speakers left out" in printed
    for _ in range(2):
        found = load_pretrained(out, spec)
        assert found.audio_encoder is not None
        assert found.backbone is not None
        assert all(torch.equal(v, backbone.state_dict()[k]) for k, v in found.backbone.state_dict().items())
        assert found.provenance["backbone"] == {"source": "faces"}
        assert found.provenance["audio_encoder"]["speakers"] == ["03", "08"]
        assert found.provenance["audio_encoder"]["teacher"] is None
        assert run_command("offline-pretrain-words", *learn).status == 0
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to learn from: give --voices, --texts or both"),
        (
            ["--texts", "train.tsv"],
            "--texts needs --vectors: the word vectors that word embeddings begin with",
        ),
        (
            ["--texts", "t", "--vectors", "v", "--text-epochs", "0"],
            "--text-epochs: Input should be greater than 0",
        ),
        (
            ["--voices", "v", "--preset", "huge"],
            "unknown preset 'huge': choose one of paper, compact, practical",
        ),
        (["--voices", "nowhere"], "nowhere is no folder: give one that holds EmoDB's recordings"),
    ],
)
def test_the_command_refuses_in_one_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run_command: RunCommand,
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = run_command("offline-pretrain-words", *arguments)
    assert ended.status == 2
    assert ended.err == f"offline-pretrain-words: {message}\n"


def test_a_file_without_a_backbone_cannot_be_joined(tmp_path: Path, run_command: RunCommand) -> None:
    save_pretrained(tmp_path / "deaf.safetensors", PretrainedEncoders())
    ended = run_command(
        "offline-pretrain-words", "--voices", tmp_path, "--join", tmp_path / "deaf.safetensors"
    )
    assert ended.status
    assert "has no face backbone to join" in ended.err


def test_the_teach_command_writes_vectors_of_texts(
    folder: Path, tmp_path: Path, run_command: RunCommand
) -> None:
    make_text_encoder(tmp_path / "minilm", 12, seed=1)
    texts, glove, out = folder / "goemotions" / "train.tsv", folder / "glove.npz", tmp_path / "t.npz"
    given = ["texts", texts, "--model", tmp_path / "minilm", "--vectors", glove, "-o", out, "--words", 5]
    assert run_command("offline-teach", *given).out == f"{out}: 60 comments, 5 words\n"
