"""Punctuation and capitals, with a tiny random token-classification model made here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import UserError
from models.speech.words import UNKNOWN
from models.text.punctuation import Mark, TokenPunctuator, parse_label

if TYPE_CHECKING:
    from pathlib import Path

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PIECES = ["i", "am", "so", "happy", "sad", "how", "are", "you", "un", "##happy", "##ly"]
VOCABULARY = SPECIAL + PIECES
WORDS = ["i", "am", "so", "happy", "unhappyly", "how", "are", "you", "zzz", UNKNOWN]


def make_punctuator(folder: Path, labels: list[str], favourites: dict[str, str] | None = None) -> Path:
    """A random model; with `favourites`, one whose answer for a piece is that label."""
    from transformers import BertConfig, BertForTokenClassification, BertTokenizerFast

    torch.manual_seed(1)
    width = len(VOCABULARY)
    config = BertConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=width + width % 2,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
        initializer_range=0.5,
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
    )
    model = BertForTokenClassification(config)
    if favourites is not None:
        with torch.no_grad():
            for parameter in model.bert.encoder.parameters():
                parameter.zero_()  # layers that add nothing: a piece's state is its embedding
            for norm in (m for m in model.modules() if isinstance(m, torch.nn.LayerNorm)):
                norm.weight.fill_(1.0)
            embeddings = model.bert.embeddings
            embeddings.position_embeddings.weight.zero_()
            embeddings.token_type_embeddings.weight.zero_()
            embeddings.word_embeddings.weight.copy_(torch.eye(len(VOCABULARY), config.hidden_size))
            model.classifier.weight.zero_()
            model.classifier.bias.zero_()
            for piece, label in favourites.items():
                model.classifier.weight[labels.index(label), VOCABULARY.index(piece)] = 5.0
    model.save_pretrained(folder)
    BertTokenizerFast(vocab={piece: i for i, piece in enumerate(VOCABULARY)}).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("label", "mark"),
    [
        ("0", Mark()),
        ("O", Mark()),
        (".", Mark(".")),
        ("-", Mark("-")),
        ("?", Mark("?")),
        ("OO", Mark()),
        ("OU", Mark(case="first")),
        (".O", Mark(".")),
        (",U", Mark(",", "first")),
        ("'O", Mark("'")),
        ("-O", Mark("-")),
        ("COMMA", Mark(",")),
        ("B-PERIOD", Mark(".")),
        ("question", Mark("?")),
        ("UPPER", Mark(case="first")),
        ("Upper_comma", Mark(",", "first")),
        ("LOWER-PERIOD", Mark(".")),
        ("CAP+QUESTION", Mark("?", "first")),
        ("ALLCAPS-EXCLAMATION", Mark("!", "all")),
        ("Upper.", Mark(".", "first")),
    ],
)
def test_common_labels_are_understood(label: str, mark: Mark) -> None:
    assert parse_label(label) == mark


@pytest.mark.parametrize("label", ["LABEL_0", "B-PER", "happy", "..", "UPPER-UPPER", "COMMA PERIOD"])
def test_other_labels_are_not_guessed(label: str) -> None:
    with pytest.raises(ValueError, match="names no punctuation"):
        parse_label(label)


def test_a_model_with_other_labels_is_refused(tmp_path: Path) -> None:
    folder = make_punctuator(tmp_path, ["O", "B-PER", "I-PER"])
    with pytest.raises(UserError, match="B-PER"):
        TokenPunctuator(folder)


def test_a_mark_goes_after_its_word_and_a_capital_in_front(tmp_path: Path) -> None:
    labels = ["OO", "OU", ".O", "?O", ",U"]
    favourites = {
        "i": "OU",
        "am": "OO",
        "so": "OO",
        "happy": ".O",
        "how": "OU",
        "are": "OO",
        "you": "?O",
        "un": ",U",
    }
    punctuator = TokenPunctuator(make_punctuator(tmp_path, labels, favourites))
    words = ["i", "am", "so", "happy", "how", "are", "you", "unhappyly"]
    assert punctuator.punctuate(words) == ("I", "am", "so", "happy.", "How", "are", "you?", "Unhappyly,")


def test_an_unknown_word_keeps_its_name() -> None:
    assert Mark(".", "all").apply(UNKNOWN) == "[unk]."
    assert Mark("", "all").apply("so") == "SO"
    assert Mark(",", "first").apply("so") == "So,"


@pytest.fixture(scope="module")
def random_punctuator(tmp_path_factory: pytest.TempPathFactory) -> TokenPunctuator:
    return TokenPunctuator(
        make_punctuator(tmp_path_factory.mktemp("punctuator"), ["0", ".", ",", "?", "U", "U."])
    )


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=40))
def test_words_keep_their_count_and_order(random_punctuator: TokenPunctuator, words: list[str]) -> None:
    punctuated = random_punctuator.punctuate(words)
    assert [w.lower().rstrip(".,?") for w in punctuated] == words
    assert random_punctuator.punctuate(words) == punctuated


def test_it_does_something(random_punctuator: TokenPunctuator) -> None:
    assert random_punctuator.punctuate(WORDS) != tuple(WORDS)


def test_a_folder_without_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no punctuation model"):
        TokenPunctuator(tmp_path / "nowhere")


def test_an_encoder_without_the_classifier_is_refused(tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel, BertTokenizerFast

    config = BertConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=8,
    )
    BertModel(config).save_pretrained(tmp_path)
    BertTokenizerFast(vocab={piece: i for i, piece in enumerate(VOCABULARY)}).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="classifier"):
        TokenPunctuator(tmp_path)
