"""BERT's encoder without `transformers`: the library's outputs to the last bit, and its refusals."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from models.bundle.shipped import resolve_bundle, shipped_bundles
from models.errors import UserError
from models.text.bert import BertConfig, BertEncoder
from models.text.loading import open_text_model
from tests.models.text.test_embedder import make_bert

if TYPE_CHECKING:
    from pathlib import Path

    from models.text.tokenizer import PieceTokenizer

SHIPPED = sorted(name for name in shipped_bundles() if (resolve_bundle(name) / "text").is_dir())


def by_transformers(folder: Path, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
    from transformers import BertModel

    model = BertModel.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        found = model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
    assert found is not None
    return tuple(found)


def random_pieces(count: int, lengths: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    ids = torch.randint(0, count, (len(lengths), max(lengths)), generator=generator)
    mask = torch.zeros_like(ids)
    for row, length in enumerate(lengths):
        mask[row, :length] = 1
    return ids, mask


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("lengths", [[3], [40], [128], [5, 3], [60, 1, 33]])
def test_shipped_encoders_give_the_librarys_states_to_the_bit(name: str, lengths: list[int]) -> None:
    folder = resolve_bundle(name) / "text"
    model, _ = open_text_model(folder, "encoder")
    assert isinstance(model, BertEncoder)
    ids, mask = random_pieces(model.config.vocab_size, lengths)
    with torch.inference_mode():
        states = model(ids, None if mask.all() else mask).hidden_states
    for found, expected in zip(states, by_transformers(folder, ids, mask), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_tokenizers_cut_words_as_the_library_does(name: str) -> None:
    from transformers import AutoTokenizer

    folder = resolve_bundle(name) / "text"
    theirs = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    own: PieceTokenizer = open_text_model(folder, "encoder")[1]

    @settings(max_examples=200, deadline=None)
    @given(st.lists(st.text(max_size=12), min_size=1, max_size=12))
    def check(words: list[str]) -> None:
        found = own._pieces.encode(words)
        expected = theirs(words, is_split_into_words=True, truncation=False)
        assert list(found[0]) == expected["input_ids"]
        assert list(found[1]) == expected.word_ids()

    check()
    assert own._pieces.count == len(theirs)
    assert (own.pad_id, own._pieces.unknown_id) == (theirs.pad_token_id, theirs.unk_token_id)
    assert own._pieces.limit == theirs.model_max_length


def test_a_live_run_with_a_berts_words_imports_no_transformers() -> None:
    folder = resolve_bundle("demo") / "text"
    probe = (
        "import sys; from pathlib import Path; from models.text.embedder import TextEmbedder; "
        f"TextEmbedder(Path({str(folder)!r})).embed(['so', 'happy']); print('transformers' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"


def test_weights_of_a_whole_model_are_found_under_its_name(tmp_path: Path) -> None:
    folder = make_bert(tmp_path)
    plain, _ = open_text_model(folder, "encoder")
    weights = load_file(folder / "model.safetensors")
    named = {f"bert.{name}": w for name, w in weights.items()} | {"cls.predictions.bias": torch.zeros(3)}
    save_file(named, folder / "model.safetensors", metadata={"format": "pt"})
    found, _ = open_text_model(folder, "encoder")
    assert all(torch.equal(a, b) for a, b in zip(found.parameters(), plain.parameters(), strict=True))


@pytest.mark.parametrize(
    "changed",
    [
        {"model_type": "roberta"},
        {"hidden_act": "relu"},
        {"is_decoder": True},
        {"position_embedding_type": "relative_key"},
        {"num_attention_heads": 5},
        {"hidden_size": 0},
    ],
)
def test_other_models_are_left_to_the_library(tmp_path: Path, changed: dict[str, object]) -> None:
    folder = make_bert(tmp_path)
    assert BertConfig.read(folder) is not None
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changed))
    assert BertConfig.read(folder) is None
    (folder / "config.json").write_text("[")
    assert BertConfig.read(folder) is None


@pytest.mark.parametrize(
    "changed",
    [{"unk_token": {"content": "[UNK]", "__type": "AddedToken"}}, {"model_max_length": None}],
)
def test_a_tokenizer_that_is_described_in_another_way_is_left_to_the_library(
    tmp_path: Path, changed: dict[str, object]
) -> None:
    folder = make_bert(tmp_path)
    expected = open_text_model(folder, "encoder")[1]._pieces
    described = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(described | changed))
    found = open_text_model(folder, "encoder")[1]._pieces
    assert found.encode(["so", "happy"]) == expected.encode(["so", "happy"])
    assert found.unknown_id == expected.unknown_id


def test_a_weight_of_another_shape_is_named(tmp_path: Path) -> None:
    folder = make_bert(tmp_path)
    weights = load_file(folder / "model.safetensors")
    weights["encoder.layer.0.intermediate.dense.weight"] = torch.zeros(2, 2)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        UserError, match=r"weight encoder\.layer\.0\.intermediate\.dense\.weight is missing or wrong"
    ):
        open_text_model(folder, "encoder")
