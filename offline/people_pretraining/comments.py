"""The text encoder learns from comments that people labelled with emotions, as somebody would say them.

A small BERT whose word embeddings begin as a linear map of GloVe's. A sentence encoder's vectors
(`offline.people_pretraining.teachers`) may be further targets.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from models.errors import UserError
from models.files import put_in_place
from models.spec import SUMMED_LAYERS, TARGETS
from models.text.small_bert import BertShape, make_config, make_text_encoder
from offline.files import DiskProblem, Json, write_json
from offline.metrics import score
from offline.people.text_normalisation import spoken_words, written_tokens
from offline.people_pretraining.one_cycle import OneCycle
from offline.people_pretraining.progress import (
    Progress,
    Report,
    WordsEpoch,
    check_finite,
)
from offline.people_pretraining.teachers import TextTeacher, hash_texts
from offline.people_pretraining.vocabulary import (
    UNKNOWN_PIECE,
    Vocabulary,
    cut_pieces,
    mean_over_pieces,
    pad_pieces,
)
from offline.training.checkpoint import seed_everything
from offline.training.loss import ccc_loss

if TYPE_CHECKING:
    from collections.abc import Sequence

    from offline.people.goemotions import Comments
    from offline.people_pretraining.options import TextOptions

Float32 = NDArray[np.float32]

_SHAPE: Final = BertShape(layers=4, head=16, inner=2)
_RIDGE: Final = 5.0
_CYCLE: Final = OneCycle(rising=0.15)
_WORD_WEIGHT: Final = 0.5
_EMOTION_WEIGHT: Final = 10.0
_GRADIENT_NORM: Final = 1.0
_SORTED_WITHIN: Final = 4.0
_AT_ONCE: Final = 256
_EMOTION_THRESHOLD: Final = 0.3
"""The probability from which an emotion counts as said, as its authors have it (Demszky et al. 2020)."""


class TextModel(nn.Module):
    """A BERT whose word embeddings are a linear map of word vectors plus what learning adds, and its heads."""

    vectors: Tensor

    def __init__(
        self, vocabulary: Vocabulary, width: int, emotions: int, options: TextOptions, teacher_width: int
    ) -> None:
        super().__init__()
        from transformers import BertModel

        pieces, glove = vocabulary.vectors.shape
        config = make_config(pieces, width, _SHAPE)
        config.hidden_dropout_prob, config.attention_probs_dropout_prob = options.dropout, 0.0
        self.bert: Any = BertModel(config, add_pooling_layer=False)
        for name, parameter in self.bert.named_parameters():
            if parameter.dim() > 1 and "embeddings" not in name:
                nn.init.xavier_uniform_(parameter)
        self.bert.embeddings.word_embeddings.requires_grad_(False)
        self.register_buffer("vectors", torch.from_numpy(vocabulary.vectors))
        self.lift = nn.Linear(glove, width, bias=False)
        nn.init.orthogonal_(self.lift.weight, gain=0.3)
        self.drift = nn.Embedding(pieces, width)
        nn.init.normal_(self.drift.weight, std=0.02)
        self.feeling = nn.Linear(width, len(TARGETS))
        self.emotion = nn.Linear(width, emotions)
        self.teacher = nn.Linear(width, max(teacher_width, 1))

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Piece ids and mask (N, L) to the sum of the last four layers (N, L, width)."""
        embeddings = self.lift(self.vectors[ids]) + self.drift(ids)
        states = self.bert(
            inputs_embeds=embeddings, attention_mask=mask, output_hidden_states=True
        ).hidden_states
        return torch.stack(states[1:][-SUMMED_LAYERS:]).sum(0)

    @torch.no_grad()
    def encoder_weights(self) -> dict[str, Tensor]:
        """The state of a plain transformers BERT that computes the same."""
        table = self.lift(self.vectors) + self.drift.weight
        weights = {name: value.clone() for name, value in self.bert.state_dict().items()}
        return weights | {"embeddings.word_embeddings.weight": table}


@dataclass(frozen=True, eq=False)
class _TextTargets:
    """What a batch aims at, with a teacher or without."""

    feelings: Float32
    texts: Float32 | None = None
    word_pieces: tuple[int, ...] = ()
    word_vectors: Float32 | None = None
    word_feelings: Float32 | None = None


def train_text(
    comments: Comments,
    validation: Comments | None,
    vocabulary: Vocabulary,
    width: int,
    options: TextOptions,
    teacher: TextTeacher | None,
    checkpoint: Path,
    report: Report,
) -> tuple[TextModel, list[Json]]:
    """The model after all epochs, in eval mode, and each epoch's loss and figures (`judge_text`); goes on where a
    killed run stopped. The same bits for the same seed and threads.

    Raises UserError where there are too few comments, the checkpoint is of another run, or learning diverges.
    """
    if len(comments) < options.batch:
        raise UserError(
            f"{len(comments)} comments are fewer than a batch of {options.batch}",
            way_out="give a table with more",
        )
    random = seed_everything((options.seed, 2))
    targets = _make_targets(comments, vocabulary, options, teacher)
    tokenizer = vocabulary.tokenizer()
    spoken = cut_pieces(tokenizer, [spoken_words(text) for text in comments.texts])
    written = cut_pieces(tokenizer, [written_tokens(text) for text in comments.texts])
    labelled = comments.labelled.astype(np.float32)
    model = TextModel(
        vocabulary, width, len(comments.emotions), options, 0 if teacher is None else teacher.texts.shape[1]
    )
    plain = [p for n, p in model.named_parameters() if p.requires_grad and n != "drift.weight"]
    optimizer = torch.optim.AdamW(
        [
            {"params": plain, "weight_decay": options.weight_decay},
            {"params": [model.drift.weight], "weight_decay": 0.0},
        ],
        lr=options.learning_rate,
    )
    identity: Json = {
        "part": "text",
        "options": options.model_dump(mode="json"),
        "width": width,
        "comments": hash_comments(comments),
        "validation": None if validation is None else hash_comments(validation),
        "vocabulary": hash_texts(vocabulary.pieces),
        "vectors": hashlib.sha256(vocabulary.vectors.tobytes()).hexdigest(),
        "teacher": None if teacher is None else teacher.source["sha256"],
    }
    progress = Progress(checkpoint, identity, model, optimizer, random)
    done, log = progress.restore()
    per_epoch = len(spoken) // options.batch
    for epoch in range(done, options.epochs):
        started, losses = time.monotonic(), []
        model.train()
        for k, some in enumerate(_batches([len(p) for p in spoken], options.batch, random)):
            drawn = [_augment_text(spoken[i], written[i], options, random) for i in some]
            loss = _loss(model, some, drawn, labelled, targets, options, random)
            check_finite(loss.item(), "text", epoch + 1)
            step, total = epoch * per_epoch + k, options.epochs * per_epoch
            _CYCLE.apply(optimizer, step, total, options.learning_rate)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(plain, _GRADIENT_NORM)
            optimizer.step()
            losses.append(loss.item())
        model.eval()
        figures = {} if validation is None else judge_text(model, tokenizer, validation)
        log = [*log, {"epoch": epoch + 1, "loss": float(np.mean(losses)), **figures}]
        progress.save(epoch + 1, log)
        report(
            WordsEpoch(
                "text", epoch + 1, options.epochs, log[-1]["loss"], figures, time.monotonic() - started
            )
        )
    return model.eval(), log


def save_text_encoder(folder: Path, vocabulary: Vocabulary, model: TextModel, provenance: Json) -> None:
    """Write the encoder as a transformers folder, weights as float16, with `provenance.json`: whole or not at all, in
    place of one that was there. Raises UserError where it cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
            staged = Path(temporary) / "text"
            make_text_encoder(
                staged,
                model.feeling.in_features,
                0,
                model.encoder_weights(),
                shape=_SHAPE,
                vocabulary=vocabulary.pieces,
                compact=True,
            )
            write_json(staged / "provenance.json", provenance)
            put_in_place(staged, folder, Path(temporary) / "before")
    except OSError as e:
        raise DiskProblem.of(folder, e) from e


@torch.inference_mode()
def judge_text(model: TextModel, tokenizer: Any, comments: Comments) -> Json:
    """Figures of whole texts, of their first halves, and of written ones: Pearson's r of valence and arousal, and the
    macro F1 of emotions of whole texts. Leaves the model in eval mode.
    """
    model.eval()
    said = [spoken_words(text) for text in comments.texts]
    whole, logits = _estimate(model, cut_pieces(tokenizer, said))
    halves, _ = _estimate(model, cut_pieces(tokenizer, [w[: max(1, len(w) // 2)] for w in said]))
    marked, _ = _estimate(model, cut_pieces(tokenizer, [written_tokens(text) for text in comments.texts]))
    named = 1 / (1 + np.exp(-logits)) > _EMOTION_THRESHOLD
    hits = (named & comments.labelled).sum(0)
    f1 = 2 * hits / np.maximum(named.sum(0) + comments.labelled.sum(0), 1)
    labels = comments.valence_arousal
    return {
        "r": _correlations(whole, labels),
        "r_half": _correlations(halves, labels),
        "r_written": _correlations(marked, labels),
        "macro_f1": round(float(f1.mean()), 3),
    }


def hash_comments(comments: Comments) -> str:
    """SHA-256 of texts, emotions and labels, in hex."""
    return hashlib.sha256(
        (hash_texts(comments.texts) + hash_texts(comments.emotions)).encode() + comments.labelled.tobytes()
    ).hexdigest()


def _make_targets(
    comments: Comments, vocabulary: Vocabulary, options: TextOptions, teacher: TextTeacher | None
) -> _TextTargets:
    feelings = comments.valence_arousal.astype(np.float32)
    if teacher is None:
        return _TextTargets(feelings)
    texts = teacher.texts - teacher.texts.mean(0)
    gram = texts.T @ texts + _RIDGE * np.eye(texts.shape[1], dtype=np.float32)
    ridge = np.linalg.solve(gram, texts.T @ (feelings - feelings.mean(0))).astype(np.float32)
    raw = texts @ ridge
    # A ridge says everything too weakly: what it says is spread as the labels are.
    scale = feelings.std(0) / (raw.std(0) + np.float32(1e-6))
    soft = raw * scale + feelings.mean(0)
    pieces = {piece: i for i, piece in enumerate(vocabulary.pieces)}
    known = [i for i, word in enumerate(teacher.words) if word in pieces]
    mixed = (1 - options.soft_share) * feelings + options.soft_share * soft
    if not known or not options.lone_words:
        return _TextTargets(mixed.astype(np.float32), texts)
    words = teacher.word_vectors - teacher.word_vectors.mean(0)
    return _TextTargets(
        mixed.astype(np.float32),
        texts,
        tuple(pieces[teacher.words[i]] for i in known),
        words[known],
        (words[known] @ ridge * scale).clip(-0.9, 0.9).astype(np.float32),
    )


def _augment_text(
    spoken: Sequence[int], written: Sequence[int], options: TextOptions, random: np.random.Generator
) -> tuple[list[int], bool]:
    """A text's pieces as they are learned from this time, and whether they are the whole text."""
    pieces = written if random.random() < options.written_share else spoken
    cut = random.random() < options.cut_share
    if cut:
        pieces = pieces[: int(random.integers(1, len(pieces) + 1))]
    lost = random.random(len(pieces)) < options.word_dropout
    return [UNKNOWN_PIECE if gone else p for p, gone in zip(pieces, lost, strict=True)], not cut


def _loss(
    model: TextModel,
    some: Sequence[int],
    drawn: Sequence[tuple[list[int], bool]],
    labelled: Float32,
    targets: _TextTargets,
    options: TextOptions,
    random: np.random.Generator,
) -> Tensor:
    chosen, whole = [pieces for pieces, _ in drawn], [entire for _, entire in drawn]
    wanted, count = targets.feelings[some], len(some)
    vectors = None if targets.texts is None else targets.texts[some]
    if vectors is not None and targets.word_vectors is not None and targets.word_feelings is not None:
        rows = random.integers(len(targets.word_pieces), size=options.lone_words)
        chosen += [[targets.word_pieces[k]] for k in rows]
        whole += [True] * len(rows)
        wanted = np.concatenate([wanted, targets.word_feelings[rows]])
        vectors = np.concatenate([vectors, targets.word_vectors[rows]])
    ids, mask, own = pad_pieces(chosen)
    states = model(ids, mask)
    texts = mean_over_pieces(states, own)
    target = torch.from_numpy(wanted)
    each = (model.feeling(states) - target[:, None]).pow(2).mean(-1)
    estimate = model.feeling(texts)
    loss: Tensor = ccc_loss(estimate[None, :count], target[None, :count]) + functional.mse_loss(
        estimate, target
    )
    loss = loss + _WORD_WEIGHT * ((each * own).sum(1) / own.sum(1)).mean()
    named = functional.binary_cross_entropy_with_logits(
        model.emotion(texts[:count]), torch.from_numpy(labelled[some])
    )
    loss = loss + options.category_weight * _EMOTION_WEIGHT * named
    entire = torch.tensor(whole)
    if vectors is not None and bool(entire.any()):
        near = functional.cosine_similarity(model.teacher(texts), torch.from_numpy(vectors))
        loss = loss + options.teacher_weight * (1 - near)[entire].mean()
    kept: Tensor = options.drift * model.drift(ids).pow(2).mean()
    return loss + kept


def _batches(lengths: Sequence[int], size: int, random: np.random.Generator) -> list[list[int]]:
    """Texts of like length together, in any order."""
    keys = np.array(lengths) + random.uniform(0, _SORTED_WITHIN, len(lengths))
    order = np.argsort(keys, kind="stable")
    count = len(order) // size
    batches = order[: count * size].reshape(count, size)
    return [batches[k].tolist() for k in random.permutation(count)]


def _estimate(model: TextModel, pieces: Sequence[Sequence[int]]) -> tuple[Float32, Float32]:
    """(Valence and arousal (n, 2), emotion logits) of texts."""
    order = sorted(range(len(pieces)), key=lambda i: len(pieces[i]))
    feelings = np.zeros((len(pieces), len(TARGETS)), np.float32)
    logits = np.zeros((len(pieces), model.emotion.out_features), np.float32)
    for at in range(0, len(order), _AT_ONCE):
        some = order[at : at + _AT_ONCE]
        ids, mask, own = pad_pieces([pieces[i] for i in some])
        texts = mean_over_pieces(model(ids, mask), own)
        feelings[some], logits[some] = model.feeling(texts).numpy(), model.emotion(texts).numpy()
    return feelings, logits


def _correlations(estimates: Float32, labels: NDArray[np.float64]) -> list[float]:
    found = [score(estimates[:, k], labels[:, k]) for k in range(len(TARGETS))]
    return [round(s.pcc, 3) for s in found if s is not None]
