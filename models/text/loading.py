"""Text models from folders that `transformers` saved: by that library, or without it where that gives the same.

A BERT encoder is read by `models.text.bert` and the tokenizers package: of all that a live run would import,
`transformers` takes the longest. Any other model of the BERT family, and any for punctuation, is the library's.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from models.errors import UserError
from models.text.bert import BertConfig, BertEncoder
from models.text.tokenizer import Pieces, PieceTokenizer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Task = Literal["encoder", "token-classification"]

_SAVE_AGAIN: Final = "save it again from a sound one, or give another"
_ONE_FILE: Final = "model.safetensors"
_BERT_TOKENIZERS: Final = ("BertTokenizer", "BertTokenizerFast")


def open_text_model(folder: Path, task: Task, *, to_train: bool = False) -> tuple[Any, PieceTokenizer]:
    """Loads the model and tokenizer in `folder`: local files, safetensors, float32, eval mode.

    A model `to_train` is the library's whatever it is, with its dropout.

    Raises UserError, in one line, where the folder does not exist, holds no such model, has weights in
    another form than safetensors, lacks a weight, or has one that is not finite. Runs no code of the folder.
    """
    folder = Path(folder)
    what = "text encoder" if task == "encoder" else "punctuation model"
    if not folder.is_dir():
        raise UserError(f"no {what} at '{folder}': give the folder of a saved transformers model")
    if not (folder / "config.json").is_file():
        raise UserError(
            f"'{folder}' holds no {what} (config.json is missing): give a saved transformers model"
        )
    if not any(folder.glob("*.safetensors")):
        raise UserError(f"the {what} in '{folder}' has no .safetensors weights: save it as safetensors")
    config = BertConfig.read(folder) if task == "encoder" and not to_train else None
    pieces = None if config is None else _bert_pieces(folder, config)
    if config is not None and pieces is not None and (folder / _ONE_FILE).is_file():
        model: Any = BertEncoder(config)
        odd = _load_weights(model, folder, what)
    else:
        model, config, pieces, odd = _open_by_transformers(folder, task, what)
    if odd:
        raise UserError(
            f"the {what} in '{folder}' does not fit its config.json: weight {odd[0]} is missing or wrong; "
            f"{_SAVE_AGAIN}"
        )
    bad = [name for name, p in model.named_parameters() if not bool(torch.isfinite(p).all())]
    if bad:
        raise UserError(f"the {what} in '{folder}' is damaged: weight {bad[0]} is not finite; {_SAVE_AGAIN}")
    model.eval().requires_grad_(False)
    return model, PieceTokenizer(pieces, int(config.vocab_size), folder)


def _load_weights(model: nn.Module, folder: Path, what: str) -> list[str]:
    """Reads the weights into the model; gives the names of those that are missing or of another shape."""
    try:
        read = load_file(folder / _ONE_FILE)
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot load the {what} in '{folder}': {_one_line(error)}; {_SAVE_AGAIN}") from error
    # A model that was saved with what it was trained by has its encoder under a name.
    there = {name.removeprefix("bert."): weight.float() for name, weight in read.items()}
    wanted = model.state_dict()
    odd = sorted(n for n, w in wanted.items() if n not in there or there[n].shape != w.shape)
    if not odd:
        model.load_state_dict({name: there[name] for name in wanted})
    return odd


def _bert_pieces(folder: Path, config: BertConfig) -> Pieces | None:
    """A BERT's own tokenizer, None where another one, none in its fast form, or an odd description lies there."""
    from tokenizers import Tokenizer

    try:
        facts = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception:  # what tokenizers raises has no name; `transformers` says what is wrong
        return None
    if not isinstance(facts, dict) or facts.get("tokenizer_class") not in _BERT_TOKENIZERS:
        return None
    unknown, padding = facts.get("unk_token", "[UNK]"), facts.get("pad_token", "[PAD]")
    longest = facts.get("model_max_length", config.max_position_embeddings)
    if not (isinstance(unknown, str) and isinstance(padding, str) and isinstance(longest, int | float)):
        return None  # as older versions wrote them
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def encode(texts: Sequence[str]) -> tuple[Sequence[int], Sequence[int | None]]:
        found = tokenizer.encode(list(texts), is_pretokenized=True)
        return found.ids, found.word_ids

    return Pieces(
        encode=encode,
        unknown=unknown,
        unknown_id=tokenizer.token_to_id(unknown),
        pad_id=tokenizer.token_to_id(padding) or 0,
        count=tokenizer.get_vocab_size(with_added_tokens=True),
        limit=int(min(config.max_position_embeddings, longest)),
    )


def _open_by_transformers(folder: Path, task: Task, what: str) -> tuple[Any, Any, Pieces, list[str]]:
    """Model, its configuration, its tokenizer, and the weights that do not fit it."""
    with _silence_transformers():
        from transformers import AutoModel, AutoModelForTokenClassification, AutoTokenizer

        auto = AutoModel if task == "encoder" else AutoModelForTokenClassification
        only = {"local_files_only": True, "trust_remote_code": False}
        try:
            model, info = auto.from_pretrained(
                str(folder), use_safetensors=True, dtype=torch.float32, output_loading_info=True, **only
            )
            # Byte-level tokenizers (RoBERTa's) tell a word's start by the space before it.
            tokenizer = AutoTokenizer.from_pretrained(str(folder), add_prefix_space=True, **only)
        except Exception as error:  # OSError, ValueError, SafetensorError and more
            raise UserError(
                f"cannot load the {what} in '{folder}': {_one_line(error)}; {_SAVE_AGAIN}"
            ) from error
    # An encoder's pooler is not used here, and often not saved.
    missing = sorted(name for name in info["missing_keys"] if "pooler" not in name)
    odd = missing + sorted(str(m[0]) for m in info["mismatched_keys"])
    return model, model.config, _transformers_pieces(tokenizer, model.config, folder), odd


def _transformers_pieces(tokenizer: Any, config: Any, folder: Path) -> Pieces:
    if not getattr(tokenizer, "is_fast", False):
        raise UserError(f"the tokenizer in '{folder}' has no tokenizer.json: save its fast form there")
    positions = int(getattr(config, "max_position_embeddings", 0) or 512)
    if "roberta" in config.model_type or config.model_type in ("camembert", "mpnet"):
        positions -= int(getattr(config, "pad_token_id", 1) or 0) + 1  # positions start after the padding

    def encode(texts: Sequence[str]) -> tuple[Sequence[int], Sequence[int | None]]:
        out = tokenizer(list(texts), is_split_into_words=True, truncation=False, verbose=False)
        return out["input_ids"], out.word_ids()

    return Pieces(
        encode=encode,
        unknown=tokenizer.unk_token,
        unknown_id=None if tokenizer.unk_token_id is None else int(tokenizer.unk_token_id),
        pad_id=tokenizer.pad_token_id or 0,
        count=len(tokenizer),
        limit=min(positions, int(tokenizer.model_max_length)),
    )


@contextmanager
def _silence_transformers() -> Iterator[None]:
    """No progress bars and no warnings of `transformers` on the terminal."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _one_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
