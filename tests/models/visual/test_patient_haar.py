"""The cascades' longer search: it finds what the usual one misses, sees nothing in noise, and is not always made."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from models.spec import CropSpec
from models.visual.detectors import (
    Box,
    Face,
    FollowingDetector,
    GlancingDetector,
    HaarDetector,
    YunetDetector,
    make_detector,
    overlap,
)
from models.visual.framing import FRAMINGS
from models.visual.patient_haar import PatientHaarDetector
from models.visual.tracker import FaceTracker
from tests.models.face_clips import ONE_FACE, YUNET_FILE, pictures

if TYPE_CHECKING:
    from pathlib import Path

Picture = NDArray[np.uint8]
PEOPLE = (*ONE_FACE[2:4], ONE_FACE[6], *ONE_FACE[8:])


@pytest.fixture(scope="module")
def patient() -> PatientHaarDetector:
    return PatientHaarDetector()


@pytest.fixture(scope="module")
def yunet(fixtures: Path) -> YunetDetector:
    return YunetDetector(fixtures / "face" / YUNET_FILE)


def turn(picture: Picture, degrees: float) -> Picture:
    """The picture turned about its middle, its edges continued."""
    height, width = picture.shape[:2]
    about = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
    turned: Picture = cv2.warpAffine(picture, about, (width, height), borderMode=cv2.BORDER_REPLICATE)
    return turned


def same_faces(first: list[Face], second: list[Face]) -> bool:
    return [(f.box, f.score) for f in first] == [(f.box, f.score) for f in second]


@pytest.mark.parametrize("clip", PEOPLE)
@pytest.mark.parametrize("degrees", [-20, 20])
def test_a_face_turned_by_20_degrees_is_found_and_framed_as_yunet_does(
    patient: PatientHaarDetector, yunet: YunetDetector, fixtures: Path, clip: str, degrees: int
) -> None:
    picture = turn(pictures(fixtures / "clips" / clip, every=30)[0], degrees)
    (face,), (reference,) = patient.detect(picture), yunet.detect(picture)
    ours, theirs = FRAMINGS[patient.name].square(face.box), FRAMINGS["yunet"].square(reference.box)
    a, b = ((s.x - s.side / 2, s.y - s.side / 2, s.side, s.side) for s in (ours, theirs))
    assert overlap(a, b) > 0.5


def test_a_face_that_is_easily_seen_is_found_as_usual(patient: PatientHaarDetector, fixtures: Path) -> None:
    picture = pictures(fixtures / "clips" / ONE_FACE[3], every=30)[0]
    usual = HaarDetector()
    assert same_faces(patient.detect(picture), usual.detect(picture))
    (face,) = patient.detect(picture)
    assert same_faces(patient.detect_near(picture, face.box), usual.detect_near(picture, face.box))


def test_the_same_picture_gives_the_same_faces(patient: PatientHaarDetector, fixtures: Path) -> None:
    picture = turn(pictures(fixtures / "clips" / ONE_FACE[2], every=30)[0], 25)
    first = patient.detect(picture)
    assert first
    assert same_faces(first, PatientHaarDetector().detect(picture))


@pytest.mark.parametrize("clip", ["no_face.mp4", "face_noface.mov"])
def test_no_face_is_seen_where_there_is_none(
    patient: PatientHaarDetector, yunet: YunetDetector, fixtures: Path, clip: str
) -> None:
    frames = pictures(fixtures / "clips" / clip, every=10)
    assert not [face for frame in frames if not yunet.detect(frame) for face in patient.detect(frame)]


def test_nothing_is_seen_beside_the_faces(
    patient: PatientHaarDetector, yunet: YunetDetector, fixtures: Path
) -> None:
    for clip in ONE_FACE:
        frame = pictures(fixtures / "clips" / clip, every=30)[0]
        (face,) = yunet.detect(frame)
        x, y, width, height = (int(v) for v in face.box)
        painted = frame.copy()
        rows = slice(max(0, y - height // 3), y + height + height // 4)
        painted[rows, max(0, x - width // 3) : x + width + width // 3] = 128
        assert patient.detect(painted) == []


@pytest.mark.parametrize("shape", [(1, 1), (2, 400), (400, 2), (19, 19), (33, 47), (481, 641), (31, 900)])
def test_pictures_of_any_size_without_a_face_give_none(
    patient: PatientHaarDetector, shape: tuple[int, int]
) -> None:
    assert patient.detect(np.zeros((*shape, 3), np.uint8)) == []
    noise = np.random.default_rng(3).integers(0, 256, (*shape, 3), np.uint8)
    assert patient.detect(noise) == []


@pytest.mark.parametrize(
    "box", [(-500, -500, 100, 100), (5_000, 10, 50, 50), (0, 0, 1, 1), (-20, -20, 9_000, 9_000)]
)
def test_near_nowhere_there_is_nothing(patient: PatientHaarDetector, box: Box) -> None:
    noise = np.random.default_rng(4).integers(0, 256, (240, 320, 3), np.uint8)
    assert patient.detect_near(noise, box) == []


@pytest.mark.parametrize("degrees", [-25, 25])
def test_a_turned_face_is_followed(patient: PatientHaarDetector, fixtures: Path, degrees: int) -> None:
    frames = [turn(frame, degrees) for frame in pictures(fixtures / "clips" / ONE_FACE[2])[:20]]
    tracker = FaceTracker(patient, CropSpec(framing="box"))
    state, found = tracker.initial_state(), []
    for frame in frames:
        state, seen = tracker.step(state, frame)
        found.append(seen.detected)
    assert all(found)


class CountingDetector:
    """Sees nobody, and counts how it is asked."""

    name = "haar-patient"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def detect(self, rgb: Picture) -> list[Face]:
        self.asked.append("whole")
        return []

    def glance(self, rgb: Picture) -> list[Face]:
        self.asked.append("glance")
        return []


def test_while_nobody_is_there_the_long_search_is_made_now_and_then() -> None:
    detector = CountingDetector()
    tracker = FaceTracker(detector, search_every=10)
    state = tracker.initial_state()
    for _ in range(30):
        state, _ = tracker.step(state, np.zeros((8, 8, 3), np.uint8))
    assert detector.asked == (["whole"] + ["glance"] * 9) * 3


def test_who_was_lost_is_sought_at_a_glance_and_then_wholly(monkeypatch: pytest.MonkeyPatch) -> None:
    detector = CountingDetector()
    tracker = FaceTracker(detector, CropSpec(framing="box"), patience=2)
    face = Face((2.0, 2.0, 4.0, 4.0), np.zeros((5, 2), np.float32), 0.5)
    with monkeypatch.context() as patch:
        patch.setattr(detector, "detect", lambda rgb: [face])
        state, _ = tracker.step(tracker.initial_state(), np.zeros((8, 8, 3), np.uint8))
    for _ in range(5):
        state, _ = tracker.step(state, np.zeros((8, 8, 3), np.uint8))
    assert detector.asked == ["glance", "glance", "glance", "whole", "glance"]


def test_it_serves_crops_framed_about_a_box_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AFFECT_MODELS", str(tmp_path / "models"))
    choices: tuple[Literal["auto", "haar"], ...] = ("auto", "haar")
    for choice in choices:
        assert isinstance(make_detector(choice, framing="box"), PatientHaarDetector)
        assert type(make_detector(choice)) is HaarDetector


def test_it_follows_and_glances_and_has_a_hash_of_its_own(
    patient: PatientHaarDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(patient, FollowingDetector)
    assert isinstance(patient, GlancingDetector)
    assert not isinstance(HaarDetector(), GlancingDetector)
    ours = patient.sha256()
    assert re.fullmatch("[0-9a-f]{64}", ours)
    assert ours != HaarDetector.sha256()
    monkeypatch.setattr(PatientHaarDetector, "_PATIENT_REVISION", 1_000)
    assert patient.sha256() != ours
