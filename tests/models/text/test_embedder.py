"""Word vectors, with a tiny random BERT (and a RoBERTa) made here."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from models.errors import UserError
from models.speech.words import UNKNOWN
from models.text.embedder import TextEmbedder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PIECES = ["i", "am", "so", "happy", "sad", "un", "##happy", "##ly", ".", ",", "a", "b", "##a", "##b"]
VOCABULARY = SPECIAL + PIECES
WORDS = ["i", "am", "so", "happy", "unhappy", "unhappyly", "abc", "zzz", UNKNOWN]
WIDTH, LAYERS, POSITIONS = 16, 5, 12


def make_bert(folder: Path, *, layers: int = LAYERS, positions: int = POSITIONS) -> Path:
    from transformers import BertConfig, BertModel, BertTokenizerFast

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=WIDTH,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=positions,
        initializer_range=0.5,
    )
    BertModel(config).save_pretrained(folder)
    BertTokenizerFast(vocab={piece: i for i, piece in enumerate(VOCABULARY)}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def embedder(folder: Path) -> TextEmbedder:
    return TextEmbedder(folder)


@pytest.fixture(scope="module")
def busy_and_fresh(folder: Path) -> tuple[TextEmbedder, TextEmbedder]:
    """One with a past, one that remembers nothing."""
    return TextEmbedder(folder, cache_size=2), TextEmbedder(folder, cache_size=0)


def by_hand(folder: Path, pieces: list[str]) -> torch.Tensor:
    """(pieces, width): the last four layers' sum, straight from the definition."""
    from transformers import BertModel

    model = BertModel.from_pretrained(folder).eval()
    ids = torch.tensor([[VOCABULARY.index(p) for p in ["[CLS]", *pieces, "[SEP]"]]])
    with torch.no_grad():
        states = model(input_ids=ids, output_hidden_states=True).hidden_states
    total: torch.Tensor = (states[-1] + states[-2] + states[-3] + states[-4])[0, 1:-1]
    return total


def test_a_word_is_the_sum_of_the_last_four_layers_over_its_pieces(
    folder: Path, embedder: TextEmbedder
) -> None:
    vectors = embedder.embed(["i", "am", "unhappyly"])
    pieces = by_hand(folder, ["i", "am", "un", "##happy", "##ly"])
    expected = torch.stack([pieces[0], pieces[1], pieces[2:].mean(0)])
    assert vectors.dtype == np.float32
    assert vectors.shape == (3, embedder.width)
    np.testing.assert_allclose(vectors, expected.numpy(), atol=1e-5)


def test_an_unknown_word_is_the_models_unknown_token(folder: Path, embedder: TextEmbedder) -> None:
    expected = by_hand(folder, ["i", "[UNK]", "am"]).numpy()
    for unknown in (UNKNOWN, "zzz", "\u200b"):
        np.testing.assert_allclose(embedder.embed(["i", unknown, "am"]), expected, atol=1e-5)


def test_a_model_of_fewer_than_four_layers_gives_the_sum_of_all(tmp_path: Path) -> None:
    from transformers import BertModel

    folder = make_bert(tmp_path, layers=2)
    ids = torch.tensor([[2, VOCABULARY.index("i"), 3]])
    with torch.no_grad():
        states = BertModel.from_pretrained(folder).eval()(ids, output_hidden_states=True).hidden_states
    expected = (states[1] + states[2])[0, 1:2]
    np.testing.assert_allclose(TextEmbedder(folder).embed(["i"]), expected.numpy(), atol=1e-5)


def test_no_words_give_no_vectors(embedder: TextEmbedder) -> None:
    assert embedder.embed([]).shape == (0, WIDTH)
    assert embedder.embed_batch([]) == []


def test_a_word_depends_on_its_utterance_so_far(embedder: TextEmbedder) -> None:
    assert np.abs(embedder.embed(["so", "happy"])[0] - embedder.embed(["so", "sad"])[0]).max() > 1e-3


utterances = st.lists(st.sampled_from(WORDS), max_size=15)


@settings(max_examples=25, deadline=None)
@given(st.lists(utterances, max_size=8))
def test_a_batch_gives_what_single_utterances_give(embedder: TextEmbedder, batch: list[list[str]]) -> None:
    for words, vectors in zip(batch, embedder.embed_batch(batch), strict=True):
        np.testing.assert_allclose(vectors, embedder.embed(words), atol=5e-5)


@settings(max_examples=25, deadline=None)
@given(utterances, st.lists(utterances, max_size=5))
def test_the_same_words_give_the_same_bits_whatever_came_before(
    busy_and_fresh: tuple[TextEmbedder, TextEmbedder], words: list[str], before: list[list[str]]
) -> None:
    busy, fresh = busy_and_fresh
    for other in before:
        busy.embed(other)
    busy.embed_batch([words, *before])
    assert busy.embed(words).tobytes() == fresh.embed(words).tobytes()


def test_another_encoder_may_compute_single_utterances(folder: Path, embedder: TextEmbedder) -> None:
    passes: list[tuple[int, ...]] = []

    def encode(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        passes.append(tuple(ids.shape))
        with torch.no_grad():
            states = embedder.model(input_ids=ids, attention_mask=mask, output_hidden_states=True)
        return 2 * torch.stack(states.hidden_states[-4:]).sum(0)

    embedder.embed(["i", "am"])
    other = embedder.run_by(encode)
    assert (other.hits, other.misses) == (0, 0)
    np.testing.assert_allclose(other.embed(["i", "am"]), 2 * embedder.embed(["i", "am"]), rtol=1e-5)
    other.embed(["i", "am", "unhappyly"] * 9)
    assert passes == [(1, 4), *[(1, 12)] * 4, (1, 7)], "one at a time"
    (bulk,) = other.embed_batch([["i", "am"]])
    np.testing.assert_allclose(bulk, embedder.embed(["i", "am"]), rtol=1e-4, atol=1e-5)
    assert len(passes) == 6, "work in bulk is the model's own"


def test_utterances_are_remembered_up_to_a_bound(folder: Path) -> None:
    embedder = TextEmbedder(folder, cache_size=2)
    embedder.embed(["i"])
    embedder.embed(["am"])
    first = embedder.embed(["i"])
    assert (embedder.hits, embedder.misses) == (1, 2)
    embedder.embed(["so"])
    assert embedder.embed(["i"]) is first, "the latest used stays"
    embedder.embed(["am"])
    assert (embedder.hits, embedder.misses) == (2, 4), "the one that was not used is gone"
    with pytest.raises(ValueError, match="read-only"):
        first[0, 0] = 1.0


def test_an_utterance_beyond_the_models_positions_is_split(folder: Path, embedder: TextEmbedder) -> None:
    words = ["i", "am", "unhappyly"] * 9
    vectors = embedder.embed(words)
    assert vectors.shape == (27, WIDTH)
    assert np.all(np.abs(vectors).max(axis=1) > 0)
    # Ten pieces fit: two rounds of five.
    first = by_hand(folder, ["i", "am", "un", "##happy", "##ly"] * 2)
    np.testing.assert_allclose(vectors[3], first[5].numpy(), atol=1e-5)
    longer = embedder.embed([*words, "so"])
    np.testing.assert_array_equal(longer[:6], vectors[:6])


def test_a_word_of_too_many_pieces_still_has_a_vector(embedder: TextEmbedder) -> None:
    assert np.isfinite(embedder.embed(["a" + "b" * 40, "i"])).all()


class Shouting:
    """A punctuator that gives every word an exclamation mark, or loses one."""

    def __init__(self, lost: int = 0) -> None:
        self.lost = lost

    def punctuate(self, words: Sequence[str]) -> tuple[str, ...]:
        return tuple(word + "." for word in words[self.lost :])


def test_a_punctuated_word_is_pooled_with_its_mark(folder: Path) -> None:
    embedder = TextEmbedder(folder, Shouting())
    pieces = by_hand(folder, ["i", ".", "[UNK]", "."])
    expected = torch.stack([pieces[:2].mean(0), pieces[2:].mean(0)])
    np.testing.assert_allclose(embedder.embed(["i", UNKNOWN]), expected.numpy(), atol=1e-5)
    with pytest.raises(ValueError, match="made 1 words of 2"):
        TextEmbedder(folder, Shouting(lost=1)).embed(["i", "am"])


def test_byte_level_tokenizers_see_where_words_start(tmp_path: Path) -> None:
    from tokenizers import ByteLevelBPETokenizer
    from transformers import RobertaConfig, RobertaModel, RobertaTokenizerFast

    trainer = ByteLevelBPETokenizer(add_prefix_space=True)
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer.train_from_iterator(["i am so happy to see you"] * 9, vocab_size=400, special_tokens=special)
    trainer.save_model(str(tmp_path))
    tokenizer = RobertaTokenizerFast(vocab=str(tmp_path / "vocab.json"), merges=str(tmp_path / "merges.txt"))
    tokenizer.save_pretrained(tmp_path)
    config = RobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=20,
    )
    RobertaModel(config).save_pretrained(tmp_path)
    embedder = TextEmbedder(tmp_path)
    model = RobertaModel.from_pretrained(tmp_path).eval()
    ids = tokenizer(" so happy", return_tensors="pt")["input_ids"]
    assert ids.shape == (1, 4), "a piece a word, and the two around them"
    with torch.no_grad():
        states = model(ids, output_hidden_states=True).hidden_states
    np.testing.assert_allclose(embedder.embed(["so", "happy"]), sum(states[1:])[0, 1:-1].numpy(), atol=1e-5)
    assert embedder.embed(["happy"] * 100).shape == (100, WIDTH), "positions start after the padding's"


def test_loading_is_quiet(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    TextEmbedder(folder).embed(["i"] * 50)
    assert capfd.readouterr() == ("", "")


# Bad folders


def refused(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        TextEmbedder(folder)
    message = str(caught.value)
    assert str(folder) in message
    assert "\n" not in message
    return message


def test_another_width_than_the_bundles_is_refused(folder: Path) -> None:
    assert TextEmbedder(folder, expected_width=WIDTH).width == WIDTH
    with pytest.raises(UserError, match="16 wide, but the bundle wants 768"):
        TextEmbedder(folder, expected_width=768)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    assert "no text encoder" in refused(tmp_path / "nowhere")
    assert "config.json" in refused(tmp_path)


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    folder = make_bert(tmp_path)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert "safetensors" in refused(folder)


def test_truncated_weights_are_refused(tmp_path: Path) -> None:
    weights = make_bert(tmp_path) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    refused(tmp_path)
    weights.write_bytes(b"")
    refused(tmp_path)


def test_a_missing_weight_is_not_made_up(tmp_path: Path) -> None:
    weights = make_bert(tmp_path) / "model.safetensors"
    tensors = load_file(weights)
    del tensors["encoder.layer.1.output.dense.weight"]
    save_file(tensors, weights, {"format": "pt"})
    assert "encoder.layer.1.output.dense.weight" in refused(tmp_path)


def test_a_weight_of_another_shape_is_refused(tmp_path: Path) -> None:
    weights = make_bert(tmp_path) / "model.safetensors"
    tensors = load_file(weights)
    tensors["embeddings.word_embeddings.weight"] = torch.zeros(5, WIDTH)
    save_file(tensors, weights, {"format": "pt"})
    refused(tmp_path)


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    weights = make_bert(tmp_path) / "model.safetensors"
    tensors = load_file(weights)
    tensors["encoder.layer.0.output.dense.bias"][3] = torch.nan
    save_file(tensors, weights, {"format": "pt"})
    assert "not finite" in refused(tmp_path)


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    from transformers import BertTokenizerFast

    folder = make_bert(tmp_path)
    pieces = [*VOCABULARY, "more", "words"]
    BertTokenizerFast(vocab={piece: i for i, piece in enumerate(pieces)}).save_pretrained(folder)
    assert "do not belong together" in refused(folder)


def test_code_in_a_folder_is_not_run(tmp_path: Path) -> None:
    folder = make_bert(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "code.Config", "AutoModel": "code.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    refused(folder)
    assert not (tmp_path / "ran").exists()


def test_a_config_that_is_not_one_is_refused(tmp_path: Path) -> None:
    folder = make_bert(tmp_path)
    (folder / "config.json").write_text("{")
    refused(folder)
