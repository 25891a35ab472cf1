"""Larger models whose vectors a small encoder may learn to foretell: optional, run once, kept as an .npz.

What a teacher says is an aim in training only: nothing of it is in the encoder's file but what was learned. Its
packages are imported by the functions that run it, and by nothing else.
"""

from __future__ import annotations

import hashlib
import math
import zipfile
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from models.errors import UserError
from models.files import file_hash
from models.spec import SAMPLE_RATE
from offline.files import reason, replacing
from offline.people.sound import read_sound

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from offline.people.emodb import Recording

Float32 = NDArray[np.float32]

VOICE_RATE: Final = 50
"""Vectors a second of a speech teacher (Whisper's encoder)."""

_LONGEST_S: Final = 30
_SOURCE: Final = "source"
_TEACHER: Final = "give the folder of a teacher's model that is on this machine"
_WAY_OUT: Final = "give an .npz that offline-teach wrote, or make it again"
_TEXT_PIECES: Final = 64
_TEXT_BATCH: Final = 64


@dataclass(frozen=True, eq=False)
class VoiceTeacher:
    """By a recording's name its vectors (n, width), `VOICE_RATE` a second; `source` says what made them."""

    vectors: Mapping[str, Float32]
    source: dict[str, str]


@dataclass(frozen=True, eq=False)
class TextTeacher:
    """Vectors of the training texts (N, width) and of single words (n, width); `source` says what made them."""

    texts: Float32
    words: tuple[str, ...]
    word_vectors: Float32
    source: dict[str, str]


def load_voice_teacher(path: Path, recordings: Sequence[Recording]) -> VoiceTeacher:
    """A file of `write_voice_teacher`. Raises UserError where it is none or lacks one of the recordings."""
    with _opened(path) as archive:
        missing = [r.name for r in recordings if r.name not in archive]
        if missing:
            raise UserError(f"{path} lacks the vectors of {missing[0]}: make it with offline-teach voices")
        vectors = {r.name: archive[r.name].astype(np.float32) for r in recordings}
        source = _source(path, archive)
    widths = {v.shape[1:] for v in vectors.values()}
    if len(widths) != 1 or any(v.ndim != 2 or not v.size for v in vectors.values()):
        raise UserError(
            f"{path} must hold (n, width) vectors of one width, n > 0, for each recording",
            way_out="make it again with offline-teach voices",
        )
    if not all(np.isfinite(v).all() for v in vectors.values()):
        raise UserError(f"{path} holds vectors that are not finite", way_out=_WAY_OUT)
    return VoiceTeacher(vectors, source)


def load_text_teacher(path: Path, texts: Sequence[str]) -> TextTeacher:
    """A file of `write_text_teacher`. Raises UserError where it is none or was made of other texts."""
    with _opened(path) as archive:
        missing = [k for k in ("train", "words", "word_vectors") if k not in archive]
        if missing:
            raise UserError(f"{path} has no '{missing[0]}': make it with offline-teach texts")
        vectors = archive["train"].astype(np.float32)
        words = tuple(str(word) for word in archive["words"])
        word_vectors = archive["word_vectors"].astype(np.float32)
        made_of = str(archive["texts_sha256"]) if "texts_sha256" in archive else hash_texts(texts)
        source = _source(path, archive)
    if vectors.ndim != 2 or word_vectors.shape != (len(words), vectors.shape[-1]):
        raise UserError(
            f"{path} must hold vectors of one width: train (N, width), word_vectors (words, width)",
            way_out="make it again with offline-teach texts",
        )
    if len(vectors) != len(texts) or made_of != hash_texts(texts):
        raise UserError(f"{path} was made of other texts than these {len(texts)}: make it with offline-teach")
    if not (np.isfinite(vectors).all() and np.isfinite(word_vectors).all()):
        raise UserError(f"{path} holds vectors that are not finite", way_out=_WAY_OUT)
    return TextTeacher(vectors, words, word_vectors, source)


def write_voice_teacher(path: Path, recordings: Sequence[Recording], folder: Path) -> None:
    """What the encoder of a Whisper in faster-whisper's form says of each recording, float16, into an .npz.

    Sound beyond 30 s is left out. Raises UserError where faster-whisper is not installed or cannot open the folder.
    """
    try:
        from faster_whisper import WhisperModel
    except ImportError as e:
        raise UserError(
            f"a speech teacher needs the package faster-whisper ({reason(e)})",
            way_out="pip install faster-whisper",
        ) from e
    _check_folder(folder)
    try:
        whisper = WhisperModel(str(folder), device="cpu", compute_type="float32", local_files_only=True)
    except Exception as e:  # RuntimeError, ValueError and more
        raise UserError(
            f"{folder} is no faster-whisper model ({reason(e)})",
            way_out="give the folder of one, with its model.bin and config.json",
        ) from e
    found: dict[str, NDArray[Any]] = {}
    for recording in recordings:
        samples = read_sound(recording.path)[: _LONGEST_S * SAMPLE_RATE]
        silent = np.zeros(_LONGEST_S * SAMPLE_RATE, np.float32)
        silent[: len(samples)] = samples
        mel = whisper.feature_extractor(silent, padding=0)[:, : _LONGEST_S * 100]
        states = np.array(whisper.encode(mel.astype(np.float32)))[0]
        found[recording.name] = states[: math.ceil(len(samples) / SAMPLE_RATE * VOICE_RATE)].astype(
            np.float16
        )
    found[_SOURCE] = np.array(
        f"faster-whisper {folder.name}, model.bin {file_hash(folder / 'model.bin')[:16]}"
    )
    _write(path, found)


def write_text_teacher(path: Path, texts: Sequence[str], words: Sequence[str], folder: Path) -> None:
    """Unit sentence vectors (the mean over pieces) of a transformers encoder, float16, into an .npz.

    Raises UserError where the folder holds no such encoder.
    """
    from models.text.loading import open_text_model

    _check_folder(folder)
    weights = _hash_weights(folder)
    model, _ = open_text_model(folder, "encoder")
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as e:  # OSError, ValueError, KeyError and more
        raise UserError(f"{folder} has no tokenizer ({reason(e)})", way_out=_TEACHER) from e
    found = {
        "train": _sentence_vectors(model, tokenizer, texts),
        "words": np.array(list(words)),
        "word_vectors": _sentence_vectors(model, tokenizer, words),
        "texts_sha256": np.array(hash_texts(texts)),
        _SOURCE: np.array(f"transformers {model.config.model_type} {folder.name}, {weights[:16]}"),
    }
    _write(path, found)


def hash_texts(texts: Sequence[str]) -> str:
    """SHA-256 of texts in their order, in hex."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()


@torch.inference_mode()
def _sentence_vectors(model: Any, tokenizer: Any, texts: Sequence[str]) -> NDArray[np.float16]:
    if not texts:
        return np.zeros((0, model.config.hidden_size), np.float16)
    pieces = tokenizer(list(texts), truncation=True, max_length=_TEXT_PIECES)["input_ids"]
    pad = tokenizer.pad_token_id or 0
    order = sorted(range(len(pieces)), key=lambda i: len(pieces[i]))
    found = np.zeros((len(texts), model.config.hidden_size), np.float16)
    for at in range(0, len(order), _TEXT_BATCH):
        some = order[at : at + _TEXT_BATCH]
        lengths = torch.tensor([[len(pieces[i])] for i in some])
        longest = int(lengths.max())
        ids = torch.tensor([pieces[i] + [pad] * (longest - len(pieces[i])) for i in some])
        mask = (torch.arange(longest)[None] < lengths).long()
        states = model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states[-1]
        means = (states * mask[..., None]).sum(1) / lengths
        found[some] = torch.nn.functional.normalize(means, dim=-1).numpy().astype(np.float16)
    return found


def _hash_weights(folder: Path) -> str:
    """Of the first of a model's files. Raises UserError where it has none."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise UserError(f"{folder} holds no model: no file ending in .safetensors", way_out=_TEACHER)
    return file_hash(files[0])


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder", way_out=_TEACHER)


def _write(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    with replacing(path) as file:
        np.savez(file, allow_pickle=False, **arrays)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """An .npz, read without pickles. Raises UserError where it is absent or none."""
    try:
        archive = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist", way_out=_WAY_OUT) from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as e:
        raise UserError(f"{path} cannot be read as .npz ({reason(e)})", way_out=_WAY_OUT) from e
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise UserError(f"{path} is a single array: give an .npz of offline-teach")
    with archive:
        try:
            yield archive
        except (OSError, ValueError, zipfile.BadZipFile, zlib.error) as e:
            raise UserError(f"{path} is damaged ({reason(e)})", way_out=_WAY_OUT) from e


def _source(path: Path, archive: Any) -> dict[str, str]:
    known = {"made_by": str(archive[_SOURCE])} if _SOURCE in archive else {}
    return {"file": path.name, "sha256": file_hash(path)} | known
