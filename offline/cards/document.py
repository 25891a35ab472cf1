"""What `offline-judge --json` wrote, read back strictly."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

from pydantic import BaseModel, ConfigDict, ValidationError

from models.errors import UserError
from models.spec import Target
from offline.cards.markdown import without_folders
from offline.files import read_json
from offline.judging.material import Kind
from offline.judging.scoring import CategoryMean, Score

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_WAY_OUT: Final = "judge the bundle again with offline-judge --json, or give another file"
_ALL_NAMED: Final = 3
"""Recordings given one by one are named in full up to so many; of more the first, and how many others."""


class Read(BaseModel):
    """Base of what is read: immutable, fields that a card does not use passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Item(Read):
    """One item: what was published of it with its spread, the folds' mean, and its labels by what they come from."""

    name: str
    present: bool
    centered: tuple[float, float]
    centered_spread: tuple[float, float]
    folds_mean: tuple[float, float]
    labels: dict[str, tuple[float, float]]


class Deviation(Read):
    """The item whose published estimate is furthest from zero."""

    name: str
    target: Target
    value: float


class KindJudged(Read):
    """What a bundle was worth on one kind of material: `items` of the `available` ones, each in `each`."""

    kind: Kind
    source: str
    items: int
    available: int
    present: int
    notes: tuple[str, ...]
    scores: tuple[Score, ...]
    categories: tuple[CategoryMean, ...]
    each: tuple[Item, ...]
    largest_deviation: Deviation | None = None


class JudgedBundle(Read):
    """Which bundle was judged."""

    name: str
    content_hash: str


class JudgedWith(Read):
    """The parts in use: the detector that found the faces, None where no face was looked for, and the recogniser."""

    detector_used: str | None
    recogniser: str


class Document(Read):
    """A whole document of `offline-judge --json`."""

    command: str
    bundle: JudgedBundle
    options: JudgedWith
    versions: dict[str, str]
    judgements: tuple[KindJudged, ...]


@dataclass(frozen=True)
class Judged:
    """One kind of material, the parts that it was judged with, and the command that did it."""

    what: KindJudged
    options: JudgedWith
    command: str

    @property
    def material(self) -> str:
        """The material's name; which of it was judged, where that is not all; the detector where faces were looked
        for.
        """
        what = self.what
        said = [self._name()]
        if what.kind == "voices":
            # A note on voices says which speakers they are of.
            said += map(without_folders, what.notes)
        if what.items < what.available:
            said.append(f"{what.items} of {what.available}")
        if what.kind not in ("voices", "texts") and self.options.detector_used is not None:
            said.append(f"faces by {self.options.detector_used}")
        return ", ".join(said)

    def _name(self) -> str:
        """The source's last name; people who talk are given as recordings, one or many, and are named by these."""
        if self.what.kind != "talking":
            return PurePath(self.what.source).name
        names = [item.name for item in self.what.each]
        if len(names) <= _ALL_NAMED:
            return ", ".join(names)
        return f"{names[0]} and {len(names) - 1} more"


def read_document(path: Path) -> Document:
    """Read a document. Raises UserError where the file is absent or is none of `offline-judge --json`."""
    content = read_json(path, way_out=_WAY_OUT)
    try:
        return Document.model_validate(content)
    except ValidationError as e:
        first = e.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UserError(
            f"{path} is no document of offline-judge --json: {place}: {first['msg']}",
            way_out=_WAY_OUT,
        ) from e


def collect(documents: Sequence[Document]) -> tuple[Judged, ...]:
    """Every kind that was judged, in the order given."""
    return tuple(Judged(what, d.options, d.command) for d in documents for what in d.judgements)
