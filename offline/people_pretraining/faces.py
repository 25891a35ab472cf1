"""The face backbone learns from pictures that people voted on: its batches, its loss, its scores."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.spec import TARGETS, CropSpec, Target, VisualSpec
from models.visual.backbone import Backbone
from offline.metrics import score_targets
from offline.people.emotions import place_emotions
from offline.people.face_augmentation import FaceAugmentation, crop_augmented, crop_centred
from offline.people.ferplus import EXPRESSIONS, Pictures
from offline.people.mouth_augmentation import open_mouths, swap_mouths
from offline.training.loss import ccc_loss, squared_error

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from offline.composer.detected_faces import DetectedFaces
    from offline.files import Json
    from offline.people_pretraining.options import FaceOptions

NEUTRAL, HAPPINESS, SURPRISE = (EXPRESSIONS.index(name) for name in ("neutral", "happiness", "surprise"))

_RAREST: Final = 0.02
"""An expression is drawn at most as if it were this much rarer than the most frequent one."""

_DONOR_AGREEMENT: Final = 0.6
"""Mouths are taken from faces of which at least so many votes agree."""

_SURPRISED_MOUTH_SHARE: Final = 0.7
"""How many of the neutral faces whose mouth is swapped get a surprised one; the others get another neutral one."""

_OWN_LABEL_SHARE: Final = 0.9
"""How much of its label a face keeps whose mouth was swapped; the rest is the donor's."""

_SHUT_LABEL_SHARE: Final = 0.7
"""How much a surprised face keeps whose mouth is shut."""

_PRIOR_COUNT: Final = 4
"""An expression's mean error in a batch counts as if so many more of its pictures were judged rightly."""

_AT_ONCE: Final = 256


@dataclass(frozen=True, eq=False)
class FaceSet:
    """N pictures to learn from or be judged by: `images` (N, s, s) uint8 grey, `shares` (N, 8) of the votes per
    expression, and of each face the square that the live path keeps (N, 3), landmarks (N, 5, 2), in the picture's
    pixels, and whether a detector found it (N,).
    """

    images: Tensor
    shares: Tensor
    squares: Tensor
    landmarks: Tensor
    found: Tensor

    @classmethod
    def from_pictures(cls, pictures: Pictures, detected: DetectedFaces) -> FaceSet:
        """Pictures, and what a detector saw in them."""
        return cls(
            torch.from_numpy(pictures.images),
            torch.from_numpy(pictures.shares.astype(np.float32)),
            torch.from_numpy(detected.squares),
            torch.from_numpy(detected.landmarks),
            torch.from_numpy(detected.found),
        )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def majority(self) -> Tensor:
        """The expression with the most votes (N,), as an index of `EXPRESSIONS`."""
        return self.shares.argmax(dim=1)

    def take(self, rows: Tensor) -> FaceSet:
        """Some of them."""
        return FaceSet(
            self.images[rows], self.shares[rows], self.squares[rows], self.landmarks[rows], self.found[rows]
        )

    def pictures(self, rows: Tensor) -> Tensor:
        """Some pictures, float32 in [0, 1]."""
        return self.images[rows].float() / 255


class FaceModel(nn.Module):
    """The backbone under a linear layer for valence and arousal, and under one for expressions."""

    def __init__(self, spec: VisualSpec) -> None:
        super().__init__()
        self.encoder = Backbone(spec.backbone)
        self.head = nn.Linear(spec.embedding, len(TARGETS))
        self.expressions = nn.Linear(spec.embedding, len(EXPRESSIONS))
        # Embeddings have unit length: the heads begin at a scale at which they matter.
        nn.init.normal_(self.head.weight, std=1.0)
        nn.init.normal_(self.expressions.weight, std=1.0)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3, S, S) to (valence and arousal (N, 2), logits of expressions (N, 8))."""
        embedding = self.encoder(inputs).float()
        return self.head(embedding), self.expressions(embedding)


class FaceBatches:
    """Training batches: rarer expressions drawn more often, some mouths changed, each face under another camera."""

    def __init__(
        self,
        faces: FaceSet,
        options: FaceOptions,
        crop: CropSpec,
        random: torch.Generator,
        augmentation: FaceAugmentation | None = None,
    ) -> None:
        self.faces, self.options, self.crop = faces, options, crop
        self.random = random
        self.augmentation = augmentation or FaceAugmentation()
        majority = faces.majority
        counts = torch.bincount(majority, minlength=len(EXPRESSIONS)).float()
        self._weights = (counts / counts.max()).clamp_min(_RAREST)[majority] ** -options.balance
        sure = faces.found & (faces.shares.max(dim=1).values >= _DONOR_AGREEMENT)
        self._donors = [torch.nonzero(sure & (majority == k))[:, 0] for k in range(len(EXPRESSIONS))]
        self._size = min(options.batch, len(faces))
        self.steps = len(faces) // self._size

    def draw(self) -> tuple[Tensor, Tensor]:
        """A batch: (what the network takes (n, 3, S, S), vote shares (n, 8))."""
        rows = torch.multinomial(self._weights, self._size, generator=self.random)
        pictures, shares = self._augment_mouths(rows)
        crops = crop_augmented(pictures, self.faces.squares[rows], self.crop, self.augmentation, self.random)
        return network_inputs(crops, self.crop), shares

    def _augment_mouths(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Some mouths opened, some swapped, neutral faces' twice as often: people talk.

        A neutral face gets a surprised or another neutral mouth, a surprised one a neutral mouth, any other the mouth
        of its own kind. What is smiling keeps its mouth.
        """
        faces, random = self.faces, self.random
        pictures, shares = faces.pictures(rows), faces.shares[rows].clone()
        landmarks, found = faces.landmarks[rows], faces.found[rows]
        likely = 1 + (shares[:, NEUTRAL] > 0.5).float()
        draw = torch.rand(len(rows), generator=random)
        surprised = shares[:, SURPRISE] > 0.5
        opened = found & ~surprised & (draw < self.options.open_share * likely)
        swapped = found & (draw > 1 - self.options.swap_share * likely) & (shares[:, HAPPINESS] < 0.3)
        if opened.any():
            pictures[opened] = open_mouths(pictures[opened], landmarks[opened], random)
        at = torch.nonzero(swapped)[:, 0]
        if len(at):
            kinds = shares[at].argmax(dim=1)
            talks = (kinds == NEUTRAL) & (torch.rand(len(at), generator=random) < _SURPRISED_MOUTH_SHARE)
            shuts = (kinds == SURPRISE) & surprised[at]
            kinds = torch.where(talks, SURPRISE, torch.where(shuts, NEUTRAL, kinds))
            at, kinds, shuts = self._with_donors(at, kinds, shuts)
        if len(at):
            donors = torch.cat([self._draw_donor(int(kind)) for kind in kinds])
            pictures[at] = swap_mouths(
                pictures[at], landmarks[at], faces.pictures(donors), faces.landmarks[donors], random
            )
            kept = torch.where(shuts, _SHUT_LABEL_SHARE, _OWN_LABEL_SHARE)[:, None]
            shares[at] = shares[at] * kept + faces.shares[donors] * (1 - kept)
        return pictures, shares

    def _with_donors(self, at: Tensor, kinds: Tensor, shuts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Those for whose kind there is a donor."""
        there = torch.tensor([len(pool) > 0 for pool in self._donors])[kinds]
        return at[there], kinds[there], shuts[there]

    def _draw_donor(self, kind: int) -> Tensor:
        pool = self._donors[kind]
        return pool[torch.randint(len(pool), (1,), generator=self.random)]


def network_inputs(crops: Tensor, spec: CropSpec) -> Tensor:
    """Grey crops (N, S, S) in [0, 1] as the network takes them, (N, 3, S, S)."""
    grey = (crops - spec.pixel_mean) / spec.pixel_std
    return grey[:, None].expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)


def valence_arousal(shares: Tensor) -> Tensor:
    """What votes (N, 8) mean, (N, 2)."""
    return shares @ torch.from_numpy(place_emotions(EXPRESSIONS).astype(np.float32))


def face_loss(estimates: Tensor, logits: Tensor, shares: Tensor, level_weight: float) -> Tensor:
    """Cross-entropy with the votes; CCC and squared error of valence and arousal; and each expression's mean error.

    The last is against estimates that shrink towards the middle: negative expressions are rarer and harder to tell,
    and what is best for each picture by itself is then too weak for all of them together.
    """
    wanted = valence_arousal(shares)
    votes = -(shares * functional.log_softmax(logits, dim=1)).sum(dim=1).mean()
    concordance = ccc_loss(estimates[None], wanted[None])
    levels = _mean_errors(estimates, wanted, shares).square().sum(dim=1).mean()
    return votes + concordance + 8 * squared_error(estimates, wanted) + level_weight * levels


def _mean_errors(estimates: Tensor, wanted: Tensor, shares: Tensor) -> Tensor:
    """(8, 2): by how much each majority expression's faces are misjudged on average."""
    member = functional.one_hot(shares.argmax(dim=1), len(EXPRESSIONS)).float()
    return member.T @ (estimates - wanted) / (member.sum(dim=0)[:, None] + _PRIOR_COUNT)


@dataclass(frozen=True)
class FaceScores:
    """How well estimates agree with the votes: CCC per target, `correct` the share of majority expressions told, and
    by majority expression the mean estimate and the mean vote, (valence, arousal) each.
    """

    ccc: dict[Target, float]
    correct: float
    estimated: dict[str, tuple[float, float]]
    voted: dict[str, tuple[float, float]]

    def as_json(self) -> Json:
        """For a checkpoint's state, or a record."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Json) -> FaceScores:
        """The reverse of `as_json`."""
        return cls(
            dict(content["ccc"]),
            float(content["correct"]),
            {name: (pair[0], pair[1]) for name, pair in content["estimated"].items()},
            {name: (pair[0], pair[1]) for name, pair in content["voted"].items()},
        )

    @property
    def level_error(self) -> float:
        """The mean absolute difference of estimated and voted means, over expressions and targets."""
        return float(np.mean([np.abs(np.subtract(self.estimated[k], self.voted[k])) for k in self.voted]))


@torch.inference_mode()
def score_faces(model: FaceModel, faces: FaceSet, crop: CropSpec) -> FaceScores:
    """Scores of a model on unchanged crops, in float32; leaves it in eval mode. Raises ValueError as `compare`."""
    model.eval()
    parts = []
    for rows in torch.split(torch.arange(len(faces)), _AT_ONCE):
        crops = crop_centred(faces.pictures(rows), faces.squares[rows], crop)
        parts.append(model(network_inputs(crops, crop)))
    estimates, logits = (torch.cat(part) for part in zip(*parts, strict=True))
    return compare(estimates.numpy(), logits.numpy(), faces.shares)


def compare(estimates: NDArray[np.float32], logits: NDArray[np.float32], shares: Tensor) -> FaceScores:
    """Estimates (N, 2) and logits (N, 8) against votes (N, 8). Raises ValueError where an estimate is not finite."""
    wanted, majority = valence_arousal(shares).numpy(), shares.argmax(dim=1).numpy()

    def means(values: NDArray[np.float32]) -> dict[str, tuple[float, float]]:
        by_kind = {EXPRESSIONS[k]: values[majority == k].mean(axis=0).tolist() for k in np.unique(majority)}
        return {name: (valence, arousal) for name, (valence, arousal) in by_kind.items()}

    scores = score_targets(estimates, wanted, TARGETS)
    return FaceScores(
        {target: found.ccc for target, found in scores.items()},
        float((logits.argmax(axis=1) == majority).mean()),
        means(estimates),
        means(wanted),
    )
