"""A run on disk, and what its folds share.

run.json             the options, and everything else that a fold's weights depend on
folds.json           the split
trunk.safetensors    what all folds stand on (`offline.training.pretrained`)
fold-K/run.json      the same as above, and which fold this is
fold-K/checkpoint.safetensors, best.safetensors, history.jsonl, result.json
cache/               what can be computed again
"""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from filelock import FileLock, Timeout

from models.errors import UserError
from models.files import file_hash
from offline.data.folds import FoldSplit, check_split, read_folds, split_folds, write_folds
from offline.files import DiskProblem, Json, read_json, write_json, write_text
from offline.training.pretrained import (
    PretrainedEncoders,
    check_recipe,
    load_pretrained,
    random_pretrained,
    save_pretrained,
)

if TYPE_CHECKING:
    from pathlib import Path

    from offline.data.store import Store
    from offline.training.options import TrainOptions

FORMAT_VERSION: Final = 1
_OTHER_RUN: Final = "give another --run folder"
_PREPARING_TIMEOUT_S: Final = 600


@dataclass(frozen=True)
class RunFolder:
    """Where a run keeps its files."""

    path: Path

    @property
    def record(self) -> Path:
        """The run's options and what else it depends on."""
        return self.path / "run.json"

    @property
    def split(self) -> Path:
        """The fold split."""
        return self.path / "folds.json"

    @property
    def pretrained(self) -> Path:
        """What all folds stand on."""
        return self.path / "trunk.safetensors"

    @property
    def cache(self) -> Path:
        """What can be computed again."""
        return self.path / "cache"

    def fold(self, index: int) -> FoldFolder:
        """One fold's own folder."""
        return FoldFolder(self.path / f"fold-{index}")

    def drop_cache(self) -> None:
        """Remove what can be computed again."""
        shutil.rmtree(self.cache, ignore_errors=True)


@dataclass(frozen=True)
class FoldFolder:
    """Where a fold keeps its files."""

    path: Path

    @property
    def record(self) -> Path:
        """What the run's record says, and which fold this is."""
        return self.path / "run.json"

    @property
    def checkpoint(self) -> Path:
        """Everything that is needed to go on."""
        return self.path / "checkpoint.safetensors"

    @property
    def best(self) -> Path:
        """The best epoch's weights: an `EmotionNetwork.state_dict`."""
        return self.path / "best.safetensors"

    @property
    def history(self) -> Path:
        """One line of JSON for each epoch."""
        return self.path / "history.jsonl"

    @property
    def result(self) -> Path:
        """What came out so far."""
        return self.path / "result.json"

    @property
    def finished(self) -> bool:
        """Whether the fold's training is over."""
        return self.result.is_file() and self.read_result().get("finished") is True

    def read_result(self) -> Json:
        """What came out so far. Raises UserError where the file is absent or damaged."""
        return read_json(
            self.result,
            way_out=f"remove {self.path} and train the fold again with offline-train --resume",
        )

    def lock(self) -> FileLock:
        """Held while the fold is trained. A killed process lets go of it."""
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise UserError(
                f"{self.path} is being trained by another process: wait for it or stop it"
            ) from None
        return lock


@dataclass(frozen=True, eq=False)
class Run:
    """A run that is ready to train folds of."""

    folder: RunFolder
    store: Store
    options: TrainOptions
    split: FoldSplit
    pretrained: PretrainedEncoders
    record: Json

    @property
    def store_hash(self) -> str:
        """What the store held when the run began."""
        return str(self.record["store_hash"])


def prepare_run(
    folder: RunFolder,
    store: Store,
    options: TrainOptions,
    *,
    trunk: Path | None,
    split: Path | None,
    parts: int,
    resume: bool,
) -> tuple[Run, list[str]]:
    """Begin a run, or hold the one there is to the same options; also what the user should know, line by line.

    `trunk` is what folds stand on, `split` a split to use instead of a fresh one of `parts` parts. Raises UserError
    where the run exists and `resume` is not asked for, or where it was made with anything else.
    """
    try:
        spec = options.network
    except ValueError as e:
        raise UserError(str(e)) from e
    if folder.path.exists() and not folder.path.is_dir():
        raise UserError(f"{folder.path} is a file: give another --run folder")
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise DiskProblem.of(folder.path, e) from e
    notes: list[str] = []
    with FileLock(folder.path / ".lock", timeout=_PREPARING_TIMEOUT_S):
        begun = folder.record.is_file()
        found, note = _split(folder, store, split, parts, begun=begun)
        notes += note
        if spec.language is not None and store.recipe.recogniser is None:
            notes.append(
                f"{store.folder} has no words (no recogniser made it): the language branch will be masked; "
                "better leave it out with --modalities visual,audio"
            )
        recipe = store.recipe.model_dump(mode="json")
        if not folder.pretrained.is_file() or not begun:
            pretrained, note = _begin_pretrained(options, trunk)
            notes += note
            save_pretrained(folder.pretrained, pretrained)
        elif trunk is not None:
            pretrained, _ = _begin_pretrained(options, trunk)
            _check_same_trunk(folder.pretrained, pretrained, trunk)
        pretrained = load_pretrained(folder.pretrained, spec, options.seed)
        check_recipe(pretrained, store.recipe, str(trunk or folder.pretrained))
        record: Json = {
            "format_version": FORMAT_VERSION,
            "options": options.model_dump(mode="json"),
            "spec": spec.model_dump(mode="json"),
            "parts": parts,
            "split_sha256": file_hash(folder.split),
            "foundation_sha256": file_hash(folder.pretrained),
            "foundation": pretrained.provenance,
            "store": store.folder.name,
            "store_hash": hash_store(store),
            "recipe": recipe,
            "provenance": provenance(),
        }
        if begun:
            check_same(read_json(folder.record, way_out=_OTHER_RUN), record, folder.record)
            if not resume:
                raise UserError(
                    f"{folder.path} holds a run already: continue it with --resume, or give another --run folder"
                )
        else:
            write_json(folder.record, record)
    return Run(folder, store, options, found, pretrained, record), notes


def check_same(before: Mapping[str, Any], after: Mapping[str, Any], path: Path) -> None:
    """Refuse to go on with other options, features or parts than a run was begun with. Raises UserError."""
    if before.get("format_version") != FORMAT_VERSION:
        raise UserError(f"{path} has format version {before.get('format_version')}: update affectstream")
    old, new = (_flatten(r.get("options", {})) for r in (before, after))
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            raise UserError(
                f"{path.parent} was begun with {name.replace('_', '-')} {_format_value(old.get(name))}, not "
                f"{_format_value(new.get(name))}: give the same options, or another --run folder"
            )
    changed = {
        "spec": "the preset has changed",
        "parts": "--parts has changed",
        "split_sha256": "its folds.json has changed",
        "foundation_sha256": "its trunk.safetensors has changed",
        "recipe": "the store was made by another recipe",
        "store_hash": "the store has changed",
    }
    for name, what in changed.items():
        if name in before and before[name] != after.get(name):
            raise UserError(
                f"{path.parent} cannot go on, {what} since it was begun: give another --run folder"
            )


def hash_store(store: Store) -> str:
    """A short hash of the store's trials: their records and labels, not their features' bytes."""
    digest = hashlib.sha256()
    for trial in sorted(store.trials(), key=lambda t: t.name):
        digest.update(trial.facts.model_dump_json().encode())
        for labels in (trial.labels, trial.partial_labels):
            if labels is not None:
                digest.update(np.ascontiguousarray(labels, np.float32).tobytes())
    return digest.hexdigest()[:16]


def provenance() -> dict[str, str]:
    """What software this is running on."""
    return {
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": platform.system(),
    }


def append_history(path: Path, line: Mapping[str, Any], epoch: int) -> None:
    """Make `line` the history's line number `epoch`, and the last: lines of an epoch that is repeated give way."""
    lines = path.read_text(encoding="utf-8").splitlines()[: epoch - 1] if path.is_file() else []
    write_text(path, "\n".join([*lines, json.dumps(line, allow_nan=False)]) + "\n")


def _split(
    folder: RunFolder, store: Store, given: Path | None, parts: int, *, begun: bool
) -> tuple[FoldSplit, list[str]]:
    """The run's split, written where the run has not begun: what a start that failed left there says nothing."""
    if not begun:
        fresh = read_folds(given) if given is not None else split_folds(store.trials(), parts)
        check_split(fresh, store.trials(), given or folder.split)
        write_folds(folder.split, fresh)
    elif given is not None and read_folds(given) != read_folds(folder.split):
        raise UserError(f"{folder.split} is another split than {given}: give another --run folder")
    found = read_folds(folder.split)
    check_split(found, store.trials(), folder.split)
    left_out = sorted(
        t.name for t in store.trials() if t.partition != "test" and t.name not in set(found.trials)
    )
    if not left_out:
        return found, []
    return found, [
        f"{len(left_out)} trials are in no fold of {given or folder.split} and are left out: {left_out[0]}"
        + (", ..." if len(left_out) > 1 else "")
    ]


def _begin_pretrained(options: TrainOptions, trunk: Path | None) -> tuple[PretrainedEncoders, list[str]]:
    spec = options.network
    if trunk is not None:
        pretrained = load_pretrained(trunk, spec, options.seed)
        if spec.visual is not None and pretrained.backbone is None:
            raise UserError(f"{trunk} has no face backbone: make one with offline-pretrain")
        missing = pretrained.provenance.get("missing")
        note = (
            [f"{trunk} lacks {len(missing)} of the backbone's tensors, which start random"] if missing else []
        )
        if options.preset != "paper" and spec.audio is not None and pretrained.audio_encoder is None:
            raise UserError(
                f"{trunk} has no audio encoder, and the {options.preset} preset has no other: make it with "
                "offline-pretrain (--parts visual,audio), or leave the branch out with --modalities visual,language"
            )
        return pretrained, note
    if options.preset != "paper" and (spec.visual is not None or spec.audio is not None):
        raise UserError(
            f"the {options.preset} preset stands on a pretrained trunk and audio encoder: make them with "
            "offline-pretrain and give --trunk trunk.safetensors"
        )
    note = (
        ["no --trunk was given: the face backbone starts random, not from face recognition"]
        if spec.visual
        else []
    )
    return random_pretrained(spec, options.seed), note


def _check_same_trunk(path: Path, given: PretrainedEncoders, trunk: Path) -> None:
    again = path.with_name(f".{path.name}.compare")
    try:
        same = save_pretrained(again, given) == file_hash(path)
    finally:
        again.unlink(missing_ok=True)
    if not same:
        raise UserError(
            f"{trunk} is not the trunk that {path.parent} was begun with: give another --run folder"
        )


def _flatten(options: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in options.items():
        flat |= _flatten(value) if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat


def _format_value(value: object) -> str:
    return json.dumps(value)
