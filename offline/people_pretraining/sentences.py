"""The audio encoder learns from sentences that actors played: from patches of them and of disturbed copies.

A slim VGGish with batch norms, which fold into its convolutions and linear layers when it has learned. A speech
teacher's vectors (`offline.people_pretraining.teachers`) may be further targets.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from models.audio.logmel import LogMel
from models.audio.vggish import Vggish
from models.errors import UserError
from models.spec import SAMPLE_RATE, TARGETS, VggishSpec
from offline.metrics import score
from offline.people.emodb import EMOTIONS
from offline.people.sound_augmentation import background
from offline.people_pretraining.augmented_sentences import (
    AugmentedSentence,
    Sentence,
    augment_sentences,
    hash_sentences,
    make_patches,
    mask_spectrogram,
)
from offline.people_pretraining.one_cycle import OneCycle
from offline.people_pretraining.progress import (
    Progress,
    Report,
    WordsEpoch,
    check_finite,
)
from offline.people_pretraining.teachers import VOICE_RATE, VoiceTeacher
from offline.training.checkpoint import seed_everything
from offline.training.loss import ccc_loss

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from offline.files import Json
    from offline.people_pretraining.options import VoiceOptions

Float32 = NDArray[np.float32]

_EARLIEST: Final = 60
"""Frames of a sentence that a patch holds at least, where there are so many; silence fills what lies before."""

_FRAMES_PER_VECTOR: Final = 100 // VOICE_RATE
_RIDGE: Final = 0.3
_SILENCES: Final = 100
_CYCLE: Final = OneCycle(rising=0.2)
_QUIET_WEIGHT: Final = 0.1
_SMOOTHING: Final = 0.1
_JUDGED_RATE: Final = 10.0
_FIRST_JUDGED_S: Final = 0.5


class VoiceModel(nn.Module):
    """The encoder with what only learning needs: batch norms, dropout, and heads."""

    def __init__(self, spec: VggishSpec, options: VoiceOptions, teacher_width: int) -> None:
        super().__init__()
        self.spec = spec
        plain = Vggish(spec)
        layers: list[nn.Module] = []
        for layer in plain.features:
            layers.append(layer)
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                layers.append(nn.BatchNorm2d(layer.out_channels))
        self.features = nn.Sequential(*layers)
        tail: list[nn.Module] = []
        for layer in plain.embeddings:
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                tail += [nn.Dropout(options.dropout), layer, nn.BatchNorm1d(layer.out_features)]
            else:
                tail.append(layer)
        self.tail = nn.Sequential(*tail)
        self.feeling = nn.Linear(spec.embedding, len(TARGETS))
        self.emotion = nn.Linear(spec.embedding, len(EMOTIONS))
        self.teacher = nn.Linear(spec.embedding, max(teacher_width, 1))

    def forward(self, patches: Tensor) -> Tensor:
        """Log-mel patches (N, frames, bands) to embeddings (N, E)."""
        maps = self.features(patches.unsqueeze(1))
        embeddings: Tensor = self.tail(maps.permute(0, 2, 3, 1).flatten(1))
        return embeddings

    @torch.no_grad()
    def folded(self) -> Vggish:
        """The plain encoder that computes what this one does in eval mode."""
        plain = Vggish(self.spec)
        modules = [*self.features, *self.tail]
        targets = iter(m for m in plain.modules() if isinstance(m, nn.Conv2d | nn.Linear))
        for layer, norm in pairwise(modules):
            if isinstance(layer, nn.Conv2d | nn.Linear) and isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
                _fold(layer, norm, next(targets))
        return plain.eval().requires_grad_(False)


def _fold(
    layer: nn.Conv2d | nn.Linear,
    norm: nn.BatchNorm1d | nn.BatchNorm2d,
    target: nn.Conv2d | nn.Linear,
) -> None:
    """Give `target` the weights with which it alone computes what `layer` and then `norm` do in eval mode."""
    mean, variance = norm.running_mean, norm.running_var
    if mean is None or variance is None or layer.bias is None or target.bias is None:
        raise ValueError("only layers with biases and norms with running statistics can be folded")
    scale = norm.weight / torch.sqrt(variance + norm.eps)
    target.weight.copy_(layer.weight * scale.view(-1, *[1] * (layer.weight.dim() - 1)))
    target.bias.copy_((layer.bias - mean) * scale + norm.bias)


class TeacherSpace:
    """A teacher's vectors over a patch's time in their main directions, and the valence and arousal they tell.

    For each speaker a ridge fitted on all others, so that only what carries over to new speakers is aimed at.
    """

    def __init__(self, examples: Sequence[AugmentedSentence], width: int, patch_frames: int) -> None:
        self._patch_frames = patch_frames
        pooled = np.concatenate(
            [
                self._pool(
                    x, range(patch_frames // 2, max(len(_vectors(x)) * 2, patch_frames // 2 + 1), 16), 1.0
                )
                for x in examples
            ]
        )
        self._mean, spread = pooled.mean(0), pooled.std(0) + np.float32(1e-6)
        _, sizes, directions = np.linalg.svd(pooled - self._mean, full_matrices=False)
        self.width = min(width, int((sizes > 1e-5 * sizes[0]).sum()))
        self._basis = directions[: self.width].T / (sizes[: self.width] / np.sqrt(len(pooled)))
        sentences = np.stack([_vectors(x).mean(0) for x in examples])
        labels = np.stack([x.sentence.valence_arousal for x in examples])
        speakers = np.array([x.sentence.recording.speaker for x in examples])
        if len(set(speakers)) < 2:
            raise UserError("a teacher needs sentences of at least two speakers: leave out fewer")
        self._ridges: dict[str, tuple[Float32, Float32]] = {}
        for speaker in sorted(set(speakers)):
            others = speakers != speaker
            x, y = (sentences[others] - self._mean) / spread, labels[others]
            gram = x.T @ x / len(x) + _RIDGE * np.eye(x.shape[1], dtype=np.float32)
            weights = np.linalg.solve(gram, (x - x.mean(0)).T @ (y - y.mean(0)) / len(x))
            offset = y.mean(0) - x.mean(0) @ weights
            self._ridges[speaker] = (weights / spread[:, None]).astype(np.float32), offset.astype(np.float32)

    def targets(
        self, example: AugmentedSentence, ends: Sequence[int], slowness: float
    ) -> tuple[Float32, Float32]:
        """(n, width) and (n, 2) for patches that end at frames of a version `slowness` times as long."""
        centred = self._pool(example, ends, slowness) - self._mean
        weights, offset = self._ridges[example.sentence.recording.speaker]
        feelings = (centred @ weights + offset).clip(-1.0, 1.0)
        return (centred @ self._basis).astype(np.float32), feelings.astype(np.float32)

    def _pool(self, example: AugmentedSentence, ends: Sequence[int], slowness: float) -> Float32:
        vectors = _vectors(example)
        rows = []
        for end in ends:
            last = min(len(vectors), max(1, round(end / slowness / _FRAMES_PER_VECTOR)))
            first = max(0, min(last - 1, round((end - self._patch_frames) / slowness / _FRAMES_PER_VECTOR)))
            rows.append(vectors[first:last].mean(0))
        return np.stack(rows)


def train_voice(
    sentences: Sequence[Sentence],
    spec: VggishSpec,
    options: VoiceOptions,
    teacher: VoiceTeacher | None,
    checkpoint: Path,
    report: Report,
) -> VoiceModel:
    """The model after all epochs, in eval mode; goes on where a killed run stopped. The same bits for the same seed
    and threads.

    Raises UserError where there are too few sentences, the checkpoint is of another run, or learning diverges.
    """
    if len(sentences) < options.sentences:
        raise UserError(
            f"{len(sentences)} sentences are fewer than a batch of {options.sentences}",
            way_out="give a folder with more, or leave out fewer speakers",
        )
    examples = augment_sentences(sentences, options.versions, options.seed, teacher)
    random = seed_everything((options.seed, 1))
    space = None if teacher is None else TeacherSpace(examples, options.teacher_width, spec.patch_frames)
    model = VoiceModel(spec, options, 0 if space is None else space.width)
    still = np.random.default_rng([options.seed, 2])
    log_mel = LogMel()
    size = (spec.patch_frames + 2) * log_mel.spec.hop_samples + log_mel.spec.window_samples
    silences = [log_mel.forward(background(size, still))[: spec.patch_frames] for _ in range(_SILENCES)]
    optimizer = torch.optim.AdamW(
        [
            {
                "params": [p for p in model.parameters() if p.dim() > 1],
                "weight_decay": options.weight_decay,
            },
            {"params": [p for p in model.parameters() if p.dim() <= 1], "weight_decay": 0.0},
        ],
        lr=options.learning_rate,
    )
    identity: Json = {
        "part": "voice",
        "options": options.model_dump(mode="json"),
        "spec": spec.model_dump(mode="json"),
        "sentences": hash_sentences(sentences),
        "teacher": None if teacher is None else teacher.source["sha256"],
    }
    progress = Progress(checkpoint, identity, model, optimizer, random)
    done, log = progress.restore()
    per_epoch = len(examples) // options.sentences
    for epoch in range(done, options.epochs):
        started, losses = time.monotonic(), []
        model.train()
        order = random.permutation(len(examples))
        for k in range(per_epoch):
            some = [examples[i] for i in order[k * options.sentences : (k + 1) * options.sentences]]
            batch = _draw_batch(some, space, silences, options, random)
            loss = _loss(model, batch, options)
            check_finite(loss.item(), "audio", epoch + 1)
            step, total = epoch * per_epoch + k, options.epochs * per_epoch
            _CYCLE.apply(optimizer, step, total, options.learning_rate)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(loss.item())
        log = [*log, {"epoch": epoch + 1, "loss": float(np.mean(losses))}]
        progress.save(epoch + 1, log)
        report(
            WordsEpoch("voice", epoch + 1, options.epochs, log[-1]["loss"], {}, time.monotonic() - started)
        )
    return model.eval()


@dataclass(frozen=True, eq=False)
class _Batch:
    patches: Tensor
    """(sentences * patches, frames, bands), then `quiet` ones without a voice."""

    wanted: Tensor
    """(sentences, patches, 2)."""

    emotions: Tensor
    vectors: Tensor | None


def _draw_batch(
    examples: Sequence[AugmentedSentence],
    space: TeacherSpace | None,
    silences: Sequence[Float32],
    options: VoiceOptions,
    random: np.random.Generator,
) -> _Batch:
    patches, wanted, vectors = [], [], []
    frames_of_patch = silences[0].shape[0]
    for example in examples:
        frames = example.versions[random.integers(len(example.versions))]
        ends = random.integers(min(_EARLIEST, len(frames)), len(frames) + 1, options.patches).tolist()
        patches += [mask_spectrogram(p, random) for p in make_patches(frames, ends, frames_of_patch)]
        label = np.tile(example.sentence.valence_arousal, (options.patches, 1))
        if space is not None:
            vector, soft = space.targets(example, ends, len(frames) / len(example.versions[0]))
            vectors.append(vector)
            label = (1 - options.soft_share) * label + options.soft_share * soft
        wanted.append(label.astype(np.float32))
    patches += [silences[k] for k in random.integers(len(silences), size=options.quiet)]
    emotions = [EMOTIONS.index(example.sentence.recording.emotion) for example in examples]
    return _Batch(
        torch.from_numpy(np.stack(patches)),
        torch.from_numpy(np.stack(wanted)),
        torch.tensor(emotions).repeat_interleave(options.patches),
        torch.from_numpy(np.concatenate(vectors)) if vectors else None,
    )


def _loss(model: VoiceModel, batch: _Batch, options: VoiceOptions) -> Tensor:
    embeddings = model(batch.patches)
    count = len(batch.emotions)
    spoken, silent = embeddings[:count], embeddings[count:]
    each = model.feeling(spoken).view_as(batch.wanted)
    mean, wanted = each.mean(1), batch.wanted.mean(1)
    loss: Tensor = (
        ccc_loss(mean[None], wanted[None])
        + functional.mse_loss(each, batch.wanted)
        + functional.mse_loss(mean, wanted)
    )
    loss = loss + _QUIET_WEIGHT * model.feeling(silent).pow(2).mean()
    named = functional.cross_entropy(model.emotion(spoken), batch.emotions, label_smoothing=_SMOOTHING)
    loss = loss + options.category_weight * named
    if batch.vectors is not None:
        loss = loss + options.teacher_weight * functional.mse_loss(model.teacher(spoken), batch.vectors)
    return loss


@torch.inference_mode()
def judge_voice(model: VoiceModel, sentences: Sequence[Sentence]) -> Json:
    """CCC per target of sentences' means over ten patches a second, with the folded encoder."""
    encoder, log_mel = model.folded(), LogMel()
    spec = log_mel.spec
    estimates = []
    for sentence in sentences:
        seconds = len(sentence.samples) / SAMPLE_RATE
        times = np.arange(min(_FIRST_JUDGED_S, seconds / 2), seconds, 1 / _JUDGED_RATE)
        ends = [max(1, (int(t * SAMPLE_RATE) - spec.window_samples) // spec.hop_samples + 1) for t in times]
        patches = make_patches(log_mel.forward(sentence.samples), ends, model.spec.patch_frames)
        estimates.append(model.feeling(encoder(torch.from_numpy(patches))).mean(0).numpy())
    found, labels = np.stack(estimates), np.stack([s.valence_arousal for s in sentences])
    scores = {t: score(found[:, k], labels[:, k]) for k, t in enumerate(TARGETS)}
    return {t: round(s.ccc, 3) for t, s in scores.items() if s is not None}


def _vectors(example: AugmentedSentence) -> Float32:
    if example.teacher is None:
        raise ValueError(f"{example.sentence.recording.name} has no teacher's vectors")
    return example.teacher
