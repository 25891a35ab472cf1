"""OpenCV's cascades with more patience: for crops framed about a box, where a missed face means no answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from models.files import file_hash, tree_hash
from models.visual.detectors import (
    Box,
    Face,
    HaarDetector,
    Image,
    as_rgb,
    by_score,
    cascade_path,
    face_in_box,
    load_cascade,
    overlap,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

Hits = NDArray[np.float64]
"""(N, 3): centre x, centre y and side of a cascade's raw hits, in pixels."""

_TURNS: Final = (0, 15, -15, 30, -30)


class _Look(NamedTuple):
    """One cascade over the picture turned by some degrees, or turned and then mirrored."""

    cascade: str
    degrees: int
    mirrored: bool = False


class PatientHaarDetector(HaarDetector):
    """Haar's usual search, and where it finds nobody a longer one, which finds tilted, half turned and dim faces too.

    The longer search has the `default` cascade look at the whole picture turned five ways; each place with two raw
    hits is then enlarged, its contrast stretched, and looked at by four cascades, turned five ways. A face is what
    several looks agree on: hits are counted over all of them, no look counting for more than `_MOST_VOTES`. The votes
    needed were chosen on FER+ training pictures and on backgrounds of five clips, in none of which it saw a face.
    Boxes are of upright squares whichever look found them. Landmarks are only guessed, and in turned faces wrongly.
    """

    name = "haar-patient"

    # Counted up when the same picture no longer gives the same boxes.
    _PATIENT_REVISION: Final = 1
    _CASCADES: Final = {
        "default": "haarcascade_frontalface_default.xml",
        "alt2": "haarcascade_frontalface_alt2.xml",
        "alt": "haarcascade_frontalface_alt.xml",
        "profile": "haarcascade_profileface.xml",
    }
    _LOOKS: Final = (
        *(_Look(cascade, degrees) for cascade in ("alt2", "default", "alt") for degrees in _TURNS),
        _Look("profile", 0),
        _Look("profile", 0, mirrored=True),
    )
    _WHOLE_SIDE: Final = 240
    _WHOLE_SMALLEST: Final = 30
    _MOST_PLACES: Final = 4
    _VIEW_SIDE: Final = 128
    """Of a place as it is looked at: twice the supposed face's side."""
    _MOST_VOTES: Final = 4
    _VOTES_TO_FIND: Final = 14
    _VOTES_TO_FOLLOW: Final = 8
    _SOUGHT_FACTOR: Final = 1.35
    _FOLLOWED_FACTOR: Final = 1.2

    def __init__(self) -> None:
        super().__init__()
        self._cascades = {name: load_cascade(file) for name, file in self._CASCADES.items()}

    @classmethod
    def sha256(cls) -> str:
        """What a feature recipe pins: a hash over the cascades and how they are used."""
        cascades = {file: file_hash(cascade_path(file)) for file in cls._CASCADES.values()}
        return tree_hash(
            cascades | {"usual search": super().sha256(), "revision": str(cls._PATIENT_REVISION)}
        )

    def detect(self, rgb: Image) -> list[Face]:
        """All faces in `rgb` (H, W, 3) uint8, the most certain first. ValueError for what is no picture."""
        found = self.glance(rgb)
        if found:
            return found
        grey = cv2.cvtColor(as_rgb(rgb), cv2.COLOR_RGB2GRAY)
        faces: list[Face] = []
        for place in self._find_places(grey):
            face = self._vote(grey, place, self._SOUGHT_FACTOR, self._VOTES_TO_FIND)
            if face is not None and all(overlap(face.box, other.box) < self._AGREEMENT for other in faces):
                faces.append(face)
        return sorted(faces, key=by_score)

    def glance(self, rgb: Image) -> list[Face]:
        """The faces that Haar's usual search finds."""
        return super().detect(rgb)

    def detect_near(self, rgb: Image, box: Box) -> list[Face]:
        """Faces of about the size of `box`, no further from it than a face moves in a frame or two, the most certain
        first.
        """
        found = super().detect_near(rgb, box)
        if found:
            return found
        x, y, width, height = box
        height_there, width_there = rgb.shape[:2]
        place = np.array([x + width / 2, y + height / 2, width])
        if not (0 <= place[0] < width_there and 0 <= place[1] < height_there):
            return []
        grey = cv2.cvtColor(as_rgb(rgb), cv2.COLOR_RGB2GRAY)
        face = self._vote(grey, place, self._FOLLOWED_FACTOR, self._VOTES_TO_FOLLOW)
        return [] if face is None else [face]

    def _find_places(self, grey: Image) -> list[Hits]:
        """Where a face may be: centre and side (3,), the most hits first."""
        shrink = min(1.0, self._WHOLE_SIDE / max(grey.shape))
        size = [max(1, round(side * shrink)) for side in grey.shape[1::-1]]
        small = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
        limits = (self._WHOLE_SMALLEST, max(small.shape))
        middle = np.array([size[0] / 2, size[1] / 2])
        hits = []
        for degrees in _TURNS:
            turn = _turn(degrees)
            width, height = np.ceil(np.abs(turn) @ size).astype(int)
            to_picture = np.c_[turn, middle - turn @ [width / 2, height / 2]]
            view = _view(small, to_picture, (int(width), int(height)), cv2.BORDER_CONSTANT)
            hits.append(_on_picture(self._raw_hits("default", view, *limits), to_picture))
        left = np.concatenate(hits)
        places: list[Hits] = []
        while len(left) >= 2 and len(places) < self._MOST_PLACES:
            together = _largest_group(left)
            if together.sum() < 2:
                break
            places.append(np.median(left[together], axis=0) / shrink)
            left = left[~together]
        return places

    def _vote(self, grey: Image, place: Hits, factor: float, needed: int) -> Face | None:
        """The face about a place, `factor` times smaller to larger, if the looks give it the votes `needed`."""
        votes = self._looks_at(grey, place, factor)
        if not len(votes):
            return None
        hits, looks = votes[:, :3], votes[:, 3].astype(int)
        together = _largest_group(hits)
        counts = np.bincount(looks[together], minlength=len(self._LOOKS))
        count = int(np.minimum(counts, self._MOST_VOTES).sum())
        if count < needed:
            return None
        x, y, side = np.median(hits[together], axis=0).tolist()
        return face_in_box((x - side / 2, y - side / 2, side, side), count // len(_TURNS))

    def _looks_at(self, grey: Image, place: Hits, factor: float) -> NDArray[np.float64]:
        """(N, 4): raw hits about a place, and which look each is of."""
        view_side = self._VIEW_SIDE
        centre, side = place[:2], float(place[2])
        smallest, largest = int(view_side / 2 / factor), int(view_side / 2 * factor) + 1
        region, corner, shrink = _shrunk_region(grey, place, view_side)
        step = 2 * side / view_side
        votes, views = [], {}
        for degrees in _TURNS:
            turn = _turn(degrees) * step
            to_picture = np.c_[turn, centre - turn @ [view_side / 2, view_side / 2]]
            to_region = np.c_[to_picture[:, :2], to_picture[:, 2] - corner] * shrink
            views[degrees] = (_view(region, to_region, (view_side, view_side)), to_picture)
        for index, look in enumerate(self._LOOKS):
            view, to_picture = views[look.degrees]
            if look.mirrored:
                view = np.ascontiguousarray(view[:, ::-1])
            hits = self._raw_hits(look.cascade, view, smallest, largest)
            if look.mirrored:
                hits[:, 0] = view_side - hits[:, 0]
            hits = _on_picture(hits, to_picture)
            votes.append(np.c_[hits, np.full(len(hits), index)])
        return np.concatenate(votes)

    def _raw_hits(self, cascade: str, view: Image, smallest: int, largest: int) -> Hits:
        boxes: Sequence[Sequence[int]] = self._cascades[cascade].detectMultiScale(
            view, 1.1, 0, minSize=(smallest, smallest), maxSize=(largest, largest)
        )
        # OpenCV's threads report their hits in any order.
        rows = np.array(sorted(tuple(box) for box in boxes), np.float64).reshape(-1, 4)
        hits: Hits = np.c_[rows[:, :2] + rows[:, 2:] / 2, rows[:, 2]]
        return hits


def _turn(degrees: int) -> NDArray[np.float64]:
    """From directions in a view turned by so much to directions in the picture."""
    angle = np.deg2rad(degrees)
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _view(
    picture: Image, to_picture: NDArray[np.float64], size: tuple[int, int], border: int = cv2.BORDER_REPLICATE
) -> Image:
    """A turned part of a grey picture, its contrast stretched; `to_picture` (2, 3) maps its points there."""
    view = cv2.warpAffine(
        picture,
        to_picture,
        size,
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=border,
        borderValue=128,
    )
    stretched: Image = cv2.equalizeHist(view)
    return stretched


def _shrunk_region(grey: Image, place: Hits, view_side: int) -> tuple[Image, NDArray[np.float64], float]:
    """The part of a picture around a place, shrunk by area where the view is coarser; its corner, and by how much."""
    reach = 1.6 * place[2]
    left, top = np.maximum(0, place[:2] - reach).astype(int)
    right, bottom = np.maximum(0, place[:2] + reach).astype(int) + 1
    region = grey[top:bottom, left:right]
    shrink = min(1.0, view_side / (2 * float(place[2])))
    if shrink < 1:
        region = cv2.resize(region, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    return region, np.array([left, top], np.float64), shrink


def _on_picture(hits: Hits, to_picture: NDArray[np.float64]) -> Hits:
    scale = np.hypot(*to_picture[:, 0])
    moved: Hits = np.c_[hits[:, :2] @ to_picture[:, :2].T + to_picture[:, 2], hits[:, 2] * scale]
    return moved


def _largest_group(hits: Hits) -> NDArray[np.bool_]:
    """Which of `hits` (N, 3), N > 0, are at one place and of one size: those about the hit with most such others."""
    apart = np.abs(hits[:, None, :2] - hits[None, :, :2]).max(axis=2)
    sides = hits[:, 2]
    smaller, larger = np.minimum(sides[:, None], sides), np.maximum(sides[:, None], sides)
    together = (apart < 0.3 * smaller) & (larger < 1.4 * smaller)
    largest: NDArray[np.bool_] = together[int(together.sum(axis=1).argmax())]
    return largest
