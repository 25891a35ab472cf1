"""The text encoder learns from recognised words: how the person felt while each of them was said."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from models.errors import UserError
from models.spec import SUMMED_LAYERS, TARGETS, LanguageSpec
from models.speech.words import UNKNOWN
from models.text.loading import open_text_model
from models.text.small_bert import make_text_encoder
from models.text.tokenizer import PieceTokenizer, pad, pool_words
from offline.pretraining.base import PretrainingTask

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from offline.data.store import TrialRecord
    from offline.training.options import PretrainOptions

_CUT_SHORT: Final = 0.3
"""How often an utterance ends early in training: a live one is seen before it is whole."""

_MISHEARD: Final = 0.1
"""How often a word is one that the recogniser does not know."""


@dataclass(frozen=True, eq=False)
class LabelledUtterance:
    """An utterance's words, and the mean label (words, K) while each of them was said; NaN where there was none."""

    texts: tuple[str, ...]
    labels: NDArray[np.float32]


class LanguageTask(PretrainingTask):
    """A small BERT under one linear layer, word by word, as `models.text.embedder` makes word vectors of it."""

    part = "language"

    def __init__(self, spec: LanguageSpec, options: PretrainOptions) -> None:
        super().__init__()
        encoder, self._tokenizer = new_text_encoder(spec, options.seed)
        self.encoder = encoder.requires_grad_(True)
        self.head = nn.Linear(spec.embedding, len(TARGETS))
        self.options = options
        self._read: dict[Path, list[LabelledUtterance]] = {}

    def steps(self, trials: Sequence[TrialRecord]) -> int:
        """Utterances, a batch at a time."""
        return max(1, len(self._utterances(trials)) // self.options.utterances)

    def epoch(
        self, trials: Sequence[TrialRecord], random: np.random.Generator
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Utterances in any order, some cut short, with words misheard here and there."""
        utterances, size = self._utterances(trials), self.options.utterances
        order = random.permutation(len(utterances))
        for begin in range(0, max(len(order) - size // 2, 1), size):
            some = [_disturbed(utterances[i], random) for i in order[begin : begin + size]]
            labels = torch.from_numpy(np.concatenate([u.labels for u in some])).to(self.options.device)
            yield self._estimate([u.texts for u in some]), labels

    def predict(self, trial: TrialRecord) -> tuple[Tensor, Tensor]:
        """Every word of whole utterances."""
        utterances = self._labelled(trial)
        if not utterances:
            return torch.zeros(0, len(TARGETS)), torch.zeros(0, len(TARGETS))
        labels = torch.from_numpy(np.concatenate([u.labels for u in utterances]))
        return self._estimate([u.texts for u in utterances]), labels

    def _utterances(self, trials: Sequence[TrialRecord]) -> list[LabelledUtterance]:
        """Those with a label. Raises UserError where there are none."""
        found = [utterance for trial in trials for utterance in self._labelled(trial)]
        if not found:
            raise UserError(
                "no labelled word was recognised in the store, so there is nothing to learn from",
                way_out="preprocess it with a recogniser, or leave the language part out with --parts",
            )
        return found

    def _labelled(self, trial: TrialRecord) -> list[LabelledUtterance]:
        """A trial's, read once: every epoch asks for them, and they are small."""
        if trial.folder not in self._read:
            self._read[trial.folder] = [u for u in read_utterances(trial) if not np.isnan(u.labels).all()]
        return self._read[trial.folder]

    def _estimate(self, texts: Sequence[tuple[str, ...]]) -> Tensor:
        """Word by word, (all words, K)."""
        cut = [self._tokenizer.segments(words) for words in texts]
        passes = [segment for segments in cut for segment in segments]
        ids, mask = (x.to(self.options.device) for x in pad(passes, self._tokenizer.pad_id))
        states = self.encoder(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
        values = iter(torch.stack(states[1:][-SUMMED_LAYERS:]).sum(dim=0).cpu())
        vectors = []
        for words, segments in zip(texts, cut, strict=True):
            own = torch.zeros(len(words), self.head.in_features)
            for segment in segments:
                pool_words(next(values), segment, own)
            vectors.append(own)
        estimates: Tensor = self.head(torch.cat(vectors).to(self.options.device))
        return estimates


def new_text_encoder(spec: LanguageSpec, seed: int) -> tuple[nn.Module, PieceTokenizer]:
    """A text encoder that has learned nothing, and its tokenizer; the same for the same seed."""
    with tempfile.TemporaryDirectory() as folder:
        make_text_encoder(Path(folder), spec.embedding, seed)
        model, tokenizer = open_text_model(Path(folder), "encoder", to_train=True)
        model.pooler = None  # not part of what was made; `transformers` adds one
        return model, tokenizer


def read_utterances(trial: TrialRecord) -> list[LabelledUtterance]:
    """A trial's recognised words by utterance. Raises UserError where the store's files are damaged."""
    times, labels = trial.times, trial.labels
    found = []
    for words in trial.words():
        spans = [np.searchsorted(times, (word["start_s"], word["end_s"])) for word in words]
        means = [_mean(labels[begin:end]) for begin, end in spans]
        found.append(LabelledUtterance(tuple(word["text"] for word in words), np.stack(means)))
    return found


def _mean(labels: NDArray[np.float32]) -> NDArray[np.float32]:
    known = labels[~np.isnan(labels).any(axis=1)]
    mean: NDArray[Any] = known.mean(axis=0) if len(known) else np.full(len(TARGETS), np.nan)
    return mean.astype(np.float32)


def _disturbed(utterance: LabelledUtterance, random: np.random.Generator) -> LabelledUtterance:
    count = len(utterance.texts)
    if random.random() < _CUT_SHORT:
        count = int(random.integers(1, count + 1))
    misheard = random.random(count) < _MISHEARD
    texts = tuple(UNKNOWN if wrong else text for text, wrong in zip(utterance.texts, misheard, strict=False))
    return LabelledUtterance(texts, utterance.labels[:count])
