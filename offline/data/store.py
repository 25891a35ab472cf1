"""The store: recordings made into features, one folder for each trial, read without being loaded.

    store.json                              format version and feature recipe
    <train|validation|test>/<trial>/        a finished trial; a folder appears whole or not at all
        trial.json      what it is and where it comes from
        crops.npy       uint8 (N, 48, 48, 3) RGB, zeros where no face was found
        faces.npy       bool (N,)
        voices.npy      bool (N,) whether a voice was heard; older stores lack it
        times.npy       float64 (N,) seconds from the first frame
        logmel.npy      float32 (J, 64)
        patch_ends.npy  int32 (N,): the patch of frame k is logmel[patch_ends[k] - 96 : patch_ends[k]]
        audio.npy       float32 (N, E), only where the recipe has an audio encoder
        language.npy    float32 (N, E) word vectors, zeros where no word; E = 0 without a text encoder
        words.json      the final words of each utterance
        labels.npy      float32 (N, 2) valence and arousal, NaN where not annotated
        partial_labels.npy  float32 (N, 8, 2) those of who is told of some modalities only; in composed trials

Frame k is label row k and stays so: rows without annotation are NaN and not left out. The report drops them
(section 3.2), but the branches are causal over time, so a trial with holes cut out would show the network jumps
that no recording has, and would shift every later picture against its label. Training masks NaN instead.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeVar, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from models.bundle.manifest import FeatureRecipe, Manifest, PartUse
from models.errors import UserError
from models.files import tree_hash
from models.spec import Modality
from offline.data.arrays import map_rows
from offline.files import reason

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from numpy.typing import NDArray

FORMAT_VERSION: Final = 1
STORE: Final = "store.json"
TRIAL: Final = "trial.json"

Partition = Literal["train", "validation", "test"]
PARTITIONS: Final[tuple[Partition, ...]] = get_args(Partition)

CropSource = Literal["distributed", "detected"]
"""Whether a trial's crops came with the data set, or from our own face stage."""

MODALITY_BITS: Final = {Modality.VISUAL: 4, Modality.AUDIO: 2, Modality.LANGUAGE: 1}
"""What each modality adds to the place of a set of modalities among all eight."""

Model = TypeVar("Model", bound=BaseModel)


class _Facts(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StoreManifest(_Facts):
    """What `store.json` says. `recipe.audio_encoder` is None where the store holds sound as log-mel alone."""

    format_version: Literal[1] = FORMAT_VERSION
    recipe: FeatureRecipe


class _SpokenWord(_Facts):
    text: str
    start_s: float
    end_s: float
    confidence: float | None


_UTTERANCES: Final = TypeAdapter(list[list[_SpokenWord]])


class TrialFacts(_Facts):
    """What `trial.json` says.

    `frames` is N: the number of label rows, or of decoded frames where there are no labels. `padded` and
    `trimmed` count the frames by which the video was shorter or longer. `fingerprint` tells whether a trial must
    be made again: its labels' content, or its video's name and size, or the number of its crops has changed.
    """

    name: str
    partition: Partition
    subject: str
    video: str
    frames: Annotated[int, Field(gt=0)]
    frame_rate: Annotated[float, Field(gt=0)]
    annotated: Annotated[int, Field(ge=0)]
    with_face: Annotated[int, Field(ge=0)]
    crop_source: CropSource
    has_sound: bool
    padded: Annotated[int, Field(ge=0)] = 0
    trimmed: Annotated[int, Field(ge=0)] = 0
    warnings: tuple[str, ...] = ()
    fingerprint: str = ""


@dataclass(frozen=True)
class TrialRecord:
    """One trial of a store. Arrays are mapped anew at each access (no file stays open): hold one for a loop.

    Their properties raise UserError where a file is missing or damaged.
    """

    folder: Path
    facts: TrialFacts
    recipe: FeatureRecipe

    @property
    def name(self) -> str:
        """The trial's name, unique in the store."""
        return self.facts.name

    @property
    def partition(self) -> Partition:
        """`train`, `validation` or `test`."""
        return self.facts.partition

    @property
    def subject(self) -> str:
        """Who is seen: trials of one subject belong together."""
        return self.facts.subject

    @property
    def frames(self) -> int:
        """N."""
        return self.facts.frames

    @property
    def frame_rate(self) -> float:
        """The video's average, in frames per second."""
        return self.facts.frame_rate

    @property
    def crops(self) -> NDArray[np.uint8]:
        """(N, 48, 48, 3) RGB, zeros where no face was found."""
        side = self.recipe.crop.stored_size
        return self._map("crops", (side, side, 3), np.uint8)

    @property
    def faces(self) -> NDArray[np.bool_]:
        """(N,): whether there is a crop."""
        return self._map("faces", (), np.bool_)

    @property
    def voices(self) -> NDArray[np.bool_] | None:
        """(N,): whether a voice was heard, None in a store that does not say."""
        return self._map("voices", (), np.bool_) if (self.folder / "voices.npy").is_file() else None

    @property
    def times(self) -> NDArray[np.float64]:
        """(N,) seconds from the first frame, increasing."""
        return self._map("times", (), np.float64)

    @property
    def labels(self) -> NDArray[np.float32]:
        """(N, 2) valence and arousal in [-1, 1], NaN where not annotated or not known."""
        return self._map("labels", (2,), np.float32)

    @property
    def partial_labels(self) -> NDArray[np.float32] | None:
        """(N, 8, 2): the labels that somebody would give who is told of some modalities only, by `modality_set`; None
        where the trial has one label for all, as recordings that people annotated have.
        """
        name = "partial_labels"
        return self._map(name, (8, 2), np.float32) if (self.folder / f"{name}.npy").is_file() else None

    def labels_given(self, modalities: Collection[Modality]) -> NDArray[np.float32]:
        """(N, 2): `labels` as they are for somebody who is told of these modalities only, where the trial says so."""
        partial = self.partial_labels
        return self.labels if partial is None else partial[:, modality_set(modalities)]

    @property
    def log_mel(self) -> NDArray[np.float32]:
        """(J, 64): all log-mel frames that some patch shows."""
        return map_rows(self.folder / "logmel.npy", (self.recipe.logmel.bands,), np.float32)

    @property
    def patch_ends(self) -> NDArray[np.int32]:
        """(N,): one past the last log-mel frame of each frame's patch, at least 96."""
        return self._map("patch_ends", (), np.int32)

    @property
    def language(self) -> NDArray[np.float32]:
        """(N, E) word vectors, zeros where no word is spoken; E = 0 where the recipe has no text encoder."""
        return self._map("language", (None,), np.float32)

    @property
    def audio(self) -> NDArray[np.float32] | None:
        """(N, E) audio embeddings, None where the recipe has no audio encoder."""
        return None if self.recipe.audio_encoder is None else self._map("audio", (None,), np.float32)

    def patches(self, start: int, stop: int) -> NDArray[np.float32]:
        """(n, 96, 64): the log-mel patches of frames `start` to `stop` (exclusive)."""
        return gather_patches(self.log_mel, self.patch_ends[start:stop], self.recipe.logmel.patch_frames)

    def words(self) -> list[list[dict[str, Any]]]:
        """Utterances of words: `text`, `start_s`, `end_s`, `confidence`. Raises UserError where damaged."""
        path = self.folder / "words.json"
        try:
            utterances = _UTTERANCES.validate_json(path.read_text(encoding="utf-8"))
        except OSError as e:
            raise UserError(f"{path} cannot be read ({reason(e)})", way_out=_again(path)) from e
        except ValueError as e:
            raise UserError(f"{path} is damaged: it holds no words", way_out=_again(path)) from e
        return [[word.model_dump() for word in utterance] for utterance in utterances]

    def _map(self, name: str, row: tuple[int | None, ...], dtype: type[np.generic]) -> NDArray[Any]:
        return map_rows(self.folder / f"{name}.npy", row, dtype, self.frames)


def modality_set(modalities: Iterable[Modality]) -> int:
    """The place in `TrialRecord.partial_labels` of what is told of some modalities only: 0 is of none, 7 of all."""
    return sum(MODALITY_BITS[modality] for modality in set(modalities))


def gather_patches(
    log_mel: NDArray[np.float32], ends: NDArray[np.int32], patch_frames: int
) -> NDArray[np.float32]:
    """(n, patch_frames, bands): for each end the log-mel frames before it."""
    rows = ends[:, None].astype(np.int64) + np.arange(-patch_frames, 0)
    patches: NDArray[np.float32] = log_mel[rows]
    return patches


@dataclass(frozen=True)
class Store:
    """An opened store: its recipe, and the trials that are finished."""

    folder: Path
    recipe: FeatureRecipe
    _trials: tuple[TrialRecord, ...]

    @classmethod
    def open(cls, folder: Path | str) -> Store:
        """Opens a store, in order of partitions and names. Raises UserError where it is none, or is damaged."""
        folder = Path(folder)
        recipe = read_store_manifest(folder).recipe
        trials = tuple(TrialRecord(path, facts, recipe) for path, facts in _finished(folder))
        names = [trial.name for trial in trials]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise UserError(f"{folder} has the trial '{twice}' in two partitions: remove one of its folders")
        return cls(folder, recipe, trials)

    def trials(self, partition: Partition | None = None) -> tuple[TrialRecord, ...]:
        """All trials, or a partition's."""
        return tuple(trial for trial in self._trials if partition in (None, trial.partition))

    def trial(self, name: str) -> TrialRecord:
        """The named trial. Raises UserError where there is none."""
        for trial in self._trials:
            if trial.name == name:
                return trial
        raise UserError(f"{self.folder} has no trial '{name}': see the folders in it, or preprocess it")

    def check_recipe(self, other: FeatureRecipe, what: str) -> None:
        """Holds the store's features to another recipe: `what` is whose (a bundle, a run).

        Raises UserError that names everything that differs.
        """
        differences = recipe_differences(self.recipe, other)
        if differences:
            raise UserError(
                f"{what} was made with other features than the store {self.folder}: {'; '.join(differences)}",
                way_out="preprocess again in the same way, into another store",
            )


def recipe_differences(
    ours: FeatureRecipe, theirs: FeatureRecipe, *, strict: bool = False
) -> tuple[str, ...]:
    """What differs between two feature recipes, each in a few words; empty where they go together.

    `ours` are the features there are, `theirs` what is wanted of them: a part that only ours has is no
    difference. A part without a hash is any content under its name; the same content under another name is the
    same part. An audio encoder counts only where both have one: log-mel patches fit every encoder. With `strict`
    every difference counts.
    """
    found = []
    for name in ("frame_rate", "crop", "logmel"):
        mine, other = getattr(ours, name), getattr(theirs, name)
        if mine != other:
            found.append(f"{name} is {_short(mine)} here, {_short(other)} there")
    for role in ("detector", "audio_encoder", "recogniser", "text_encoder"):
        mine, other = getattr(ours, role), getattr(theirs, role)
        if mine == other or (not strict and _is_compatible(mine, other, role)):
            continue
        names = [_describe_part(use, detailed=_same_name(mine, other)) for use in (mine, other)]
        found.append(f"{role.replace('_', ' ')} is {names[0]} here, {names[1]} there")
    return tuple(found)


def _is_compatible(ours: PartUse | None, theirs: PartUse | None, role: str) -> bool:
    if ours is None or theirs is None:
        return theirs is None or role == "audio_encoder"
    if None in (ours.sha256, theirs.sha256):
        return ours.name == theirs.name
    return ours.sha256 == theirs.sha256


def _same_name(ours: PartUse | None, theirs: PartUse | None) -> bool:
    return ours is not None and theirs is not None and ours.name == theirs.name


def _describe_part(use: PartUse | None, *, detailed: bool) -> str:
    if use is None:
        return "none"
    return f"{use.name} ({str(use.sha256)[:12]})" if detailed else use.name


def bundle_recipe(manifest: Manifest) -> FeatureRecipe:
    """A bundle's feature recipe in a store's terms: a bundled text encoder by its hash, no bundled audio encoder.

    A store's features do not depend on an encoder that the bundle brings for the sound.
    """
    recipe = manifest.recipe
    changes: dict[str, Any] = {}
    if recipe.audio_encoder is not None and recipe.audio_encoder.bundled:
        changes["audio_encoder"] = None
    if recipe.text_encoder is not None and recipe.text_encoder.bundled:
        sha256 = tree_hash({file.name: file.sha256 for file in manifest.text})
        changes["text_encoder"] = recipe.text_encoder.model_copy(update={"sha256": sha256})
    return recipe.model_copy(update=changes)


def read_store_manifest(folder: Path) -> StoreManifest:
    """`store.json`. Raises UserError where there is none, or it is damaged or of another format."""
    path = folder / STORE
    if not path.is_file():
        raise UserError(f"{folder} is not a store: it has no {STORE}; make one with offline-preprocess")
    try:
        version = json.loads(path.read_text(encoding="utf-8"))["format_version"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as e:
        raise UserError(
            f"{path} is damaged: it is not a store's manifest with a format version",
            way_out="preprocess again, into another folder",
        ) from e
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise UserError(f"{path} has format version {version}: update affectstream")
    return _read(path, StoreManifest)


def read_trial(folder: Path) -> TrialFacts | None:
    """The facts of the finished trial in `folder`, None where there is none. Raises UserError where damaged."""
    path = folder / TRIAL
    return _read(path, TrialFacts) if path.is_file() else None


def _finished(folder: Path) -> Iterator[tuple[Path, TrialFacts]]:
    for partition in PARTITIONS:
        for path in sorted((folder / partition).glob(f"*/{TRIAL}")):
            if path.parent.name.startswith("."):
                continue
            facts = _read(path, TrialFacts)
            if (facts.name, facts.partition) != (path.parent.name, partition):
                raise UserError(
                    f"{path} is of the trial {facts.partition}/{facts.name}: move its folder back"
                )
            yield path.parent, facts


def _read(path: Path, kind: type[Model]) -> Model:
    try:
        return kind.model_validate_json(path.read_text(encoding="utf-8"), strict=True)
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(f"{path} cannot be read ({reason(e)})", way_out=_again(path)) from e
    except ValidationError as e:
        first = e.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UserError(
            f"{path} is damaged: {place + ': ' if place else ''}{first['msg']}", way_out=_again(path)
        ) from e


def _again(path: Path) -> str:
    """What mends a damaged file of a store: the manifest is the whole store's, all others are a trial's."""
    if path.name == STORE:
        return "preprocess again, into another folder"
    return f"remove {path.parent} and run offline-preprocess again"


def _short(value: object) -> str:
    text = value.model_dump_json() if isinstance(value, BaseModel) else str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
