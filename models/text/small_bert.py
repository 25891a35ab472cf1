"""A BERT small enough for a bundle to bring along, with a vocabulary that fits the shipped recogniser."""

from __future__ import annotations

import json
import string
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch
from safetensors.torch import save
from torch import Tensor, nn

from models.parts.registry import SHIPPED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

RECOGNISER: Final = "vosk-tiny"

SPECIAL: Final = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""Pieces that are no words, in the order of their numbers."""

_POSITIONS: Final = 128


@dataclass(frozen=True)
class BertShape:
    """Layers, the width of one of a layer's heads, and how many times its own width a layer is wide inside."""

    layers: int
    head: int
    inner: int


SMALL: Final = BertShape(layers=4, head=12, inner=2)
BASE: Final = BertShape(layers=12, head=64, inner=4)
"""That of BERT base (Devlin et al. 2019), which is 768 wide."""


def make_text_encoder(
    folder: Path,
    width: int,
    seed: int,
    weights: Mapping[str, Tensor] | None = None,
    *,
    shape: BertShape = SMALL,
    vocabulary: Sequence[str] | None = None,
    compact: bool = False,
) -> None:
    """Write a BERT, `width` wide, as a transformers folder; it can spell any word of printable ASCII.

    Its vocabulary is `vocabulary`, or the words that the shipped recogniser knows, single characters, and their
    continuations. It is random unless `weights`, the state of one made here before, are given. `compact` writes
    weights as float16, which loaders widen, and no spaces into the tokenizer's file.
    """
    from transformers import BertModel

    pieces = spell_words(recogniser_words()) if vocabulary is None else tuple(vocabulary)
    tokenizer = make_tokenizer(pieces)
    config = make_config(len(pieces), width, shape)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = BertModel(config, add_pooling_layer=False)
        for parameter in model.parameters():
            if parameter.dim() > 1:
                nn.init.uniform_(parameter, -0.1, 0.1)
    if weights is not None:
        model.load_state_dict(weights)
    tokenizer.save_pretrained(folder)
    config.architectures = ["BertModel"]
    config.save_pretrained(folder)
    state = model.state_dict()
    if compact:
        state = {name: value.half() for name, value in state.items()}
        path = folder / "tokenizer.json"
        content = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps(content, separators=(",", ":")), encoding="utf-8")
    (folder / "model.safetensors").write_bytes(save(state, metadata={"format": "pt"}))
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")


def spell_words(words: Sequence[str], endings: Sequence[str] = ()) -> tuple[str, ...]:
    """The pieces of a vocabulary: special ones, single characters, what may continue a word, and whole words."""
    characters = sorted(set(string.ascii_lowercase + string.digits + string.punctuation))
    continued = [f"##{ending}" for ending in (*characters, *endings)]
    return tuple(dict.fromkeys([*SPECIAL, *characters, *continued, *words]))


def make_tokenizer(pieces: Sequence[str]) -> Any:
    """A fast transformers tokenizer of these pieces, in lower case."""
    from transformers import BertTokenizerFast

    return BertTokenizerFast(
        vocab={piece: i for i, piece in enumerate(pieces)}, do_lower_case=True, model_max_length=_POSITIONS
    )


def make_config(pieces: int, width: int, shape: BertShape) -> Any:
    """The transformers configuration of a BERT with so many pieces."""
    from transformers import BertConfig

    return BertConfig(
        vocab_size=pieces,
        hidden_size=width,
        num_hidden_layers=shape.layers,
        num_attention_heads=_count_heads(width, shape.head),
        intermediate_size=shape.inner * width,
        max_position_embeddings=_POSITIONS,
    )


def _count_heads(width: int, head: int) -> int:
    """Heads about as wide as asked for; they must share the width evenly."""
    return max(n for n in range(1, max(1, width // head) + 1) if width % n == 0)


def recogniser_words() -> list[str]:
    """The words that the shipped recogniser can say."""
    lines = (SHIPPED / RECOGNISER / "graph" / "words.txt").read_text(encoding="utf-8").splitlines()
    words = [line.split()[0] for line in lines]
    return sorted(word for word in words if word.strip("'").isalpha())
