"""One face through a recording: chosen once, kept by overlap, never made up."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.errors import UserError
from models.spec import CropSpec
from models.visual.alignment import TEMPLATE, align, to_crop
from models.visual.detectors import Box, Face, FaceDetector, HaarDetector, YunetDetector
from models.visual.tracker import FaceObservation, FaceTracker, TrackerState
from tests.models.face_clips import ONE_FACE, YUNET_FILE, pictures

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Picture = NDArray[np.uint8]

PICTURE = np.random.default_rng(0).integers(1, 256, (240, 320, 3), np.uint8)


def face_at(x: float, y: float = 60, side: float = 80, score: float = 0.9) -> Face:
    return Face((x, y, side, side), ((TEMPLATE / 112) * side + [x, y]).astype(np.float32), score)


@dataclass
class ScriptedDetector:
    """Says what it was told to say, picture by picture."""

    script: Sequence[Sequence[Face]]
    name: str = "scripted"
    at: int = 0

    def detect(self, rgb: Picture) -> list[Face]:
        self.at += 1
        return list(self.script[self.at - 1])


@dataclass
class ScriptedFollower:
    """Finds `near` where a face is known, `anywhere` else, and keeps count."""

    near: list[Face]
    anywhere: list[Face]
    name: str = "follower"
    asked: list[Box | None] = field(default_factory=list)

    def detect(self, rgb: Picture) -> list[Face]:
        self.asked.append(None)
        return self.anywhere

    def detect_near(self, rgb: Picture, box: Box) -> list[Face]:
        self.asked.append(box)
        return self.near


def follow(tracker: FaceTracker, frames: Sequence[Picture]) -> list[FaceObservation]:
    state, seen = tracker.initial_state(), []
    for frame in frames:
        state, observation = tracker.step(state, frame)
        seen.append(observation)
    return seen


def positions(script: Sequence[Sequence[Face]], **options: float) -> list[float | None]:
    """Where the followed face is, frame by frame."""
    tracker = FaceTracker(ScriptedDetector(script), **options)  # type: ignore[arg-type]
    return [o.face.box[0] if o.face else None for o in follow(tracker, [PICTURE] * len(script))]


class TestChoice:
    def test_the_first_is_the_largest_and_surest(self) -> None:
        assert positions([[face_at(10, side=40), face_at(150, side=80)]]) == [150]
        assert positions([[face_at(10, side=70, score=0.9), face_at(150, side=80, score=0.5)]]) == [10]

    def test_it_is_kept_when_a_larger_one_comes(self) -> None:
        assert positions([[face_at(10)], [face_at(14), face_at(150, side=160)]]) == [10, 14]

    def test_of_two_that_overlap_the_nearer_is_the_same(self) -> None:
        assert positions([[face_at(50)], [face_at(70), face_at(45), face_at(90)]]) == [50, 45]

    def test_it_is_followed_across_the_picture(self) -> None:
        walk = [[face_at(x), face_at(200 - x, y=0, side=60)] for x in range(0, 200, 20)]
        assert positions(walk) == list(range(0, 200, 20))


class TestLoss:
    def test_a_frame_without_a_face_is_the_zero_crop(self) -> None:
        seen = follow(FaceTracker(ScriptedDetector([[face_at(50)], [], [face_at(50)]])), [PICTURE] * 3)
        assert [o.detected for o in seen] == [True, False, True]
        assert seen[1].face is None
        assert seen[1].crop.shape == (48, 48, 3)
        assert not seen[1].crop.any()

    def test_nobody_else_is_taken_for_a_face_just_lost(self) -> None:
        stranger = face_at(200)
        script = [[face_at(10)], *[[stranger]] * 3, [stranger, face_at(12)]]
        assert positions(script, patience=5) == [10, None, None, None, 12]

    def test_after_the_patience_the_choice_is_open_again(self) -> None:
        script = [[face_at(10)], *[[face_at(200)]] * 4]
        assert positions(script, patience=2) == [10, None, None, None, 200]
        assert positions(script, patience=0) == [10, None, 200, 200, 200]

    def test_too_little_overlap_is_somebody_else(self) -> None:
        script = [[face_at(0)], [face_at(40)]]
        assert positions(script, min_overlap=0.3) == [0, 40]
        assert positions(script, min_overlap=0.4) == [0, None]


class TestState:
    @settings(deadline=None)
    @given(
        script=st.lists(
            st.lists(st.builds(face_at, st.integers(0, 240), st.integers(0, 160)), max_size=2),
            min_size=1,
            max_size=12,
        ),
        cut=st.integers(0, 12),
    )
    def test_a_snapshot_goes_on_as_the_whole_would_have(self, script: list[list[Face]], cut: int) -> None:
        cut = min(cut, len(script))
        whole = follow(FaceTracker(ScriptedDetector(script)), [PICTURE] * len(script))
        first = FaceTracker(ScriptedDetector(script[:cut]))
        state = first.initial_state()
        for _ in range(cut):
            state, _seen = first.step(state, PICTURE)
        second = FaceTracker(ScriptedDetector(script[cut:]))
        for expected in whole[cut:]:
            state, seen = second.step(state, PICTURE)
            assert seen.detected == expected.detected
            assert np.array_equal(seen.crop, expected.crop)

    def test_it_is_frozen(self) -> None:
        with pytest.raises(FrozenInstanceError):
            TrackerState().missed = 1  # type: ignore[misc]


class TestFollowing:
    def test_a_known_face_is_looked_for_nearby_only(self) -> None:
        detector = ScriptedFollower(near=[face_at(52)], anywhere=[face_at(50)])
        follow(FaceTracker(detector), [PICTURE] * 3)
        assert detector.asked == [None, face_at(50).box, face_at(52).box]

    def test_not_found_nearby_it_is_searched_in_the_whole_picture(self) -> None:
        detector = ScriptedFollower(near=[], anywhere=[face_at(50)])
        seen = follow(FaceTracker(detector), [PICTURE] * 2)
        assert [o.detected for o in seen] == [True, True]
        assert detector.asked == [None, face_at(50).box, None]


class TestCrop:
    def test_it_is_the_aligned_face_made_small(self) -> None:
        face = face_at(50)
        (seen,) = follow(FaceTracker(ScriptedDetector([[face]])), [PICTURE])
        assert np.array_equal(seen.crop, to_crop(align(PICTURE, face.landmarks)))

    @pytest.mark.parametrize("shape", [(1, 1), (30, 20), (47, 47, 3), (240, 320, 1), (9, 1000, 4)])
    def test_pictures_of_any_shape_are_taken(self, shape: tuple[int, ...]) -> None:
        (seen,) = follow(FaceTracker(HaarDetector()), [np.zeros(shape, np.uint8)])
        assert not seen.detected

    def test_a_detector_whose_boxes_were_never_fitted_is_refused_at_its_first_face(self) -> None:
        tracker = FaceTracker(ScriptedDetector([[], [face_at(50)]]), CropSpec(framing="box"))
        state, seen = tracker.step(tracker.initial_state(), PICTURE)
        assert not seen.detected, "one that finds nobody, as for sound alone, has nothing to frame"
        with pytest.raises(UserError, match="'scripted' frames a face"):
            tracker.step(state, PICTURE)

    def test_what_is_no_picture_is_refused(self) -> None:
        with pytest.raises(ValueError, match="a picture must be"):
            follow(FaceTracker(ScriptedDetector([[]])), [np.zeros((4, 4, 3), np.float32)])


@pytest.fixture(params=["haar", "yunet"])
def detector(request: pytest.FixtureRequest, fixtures: Path) -> FaceDetector:
    return HaarDetector() if request.param == "haar" else YunetDetector(fixtures / "face" / YUNET_FILE)


class TestRecordings:
    @pytest.mark.parametrize("clip", ONE_FACE)
    def test_a_face_that_is_always_there_is_always_seen(self, fixtures: Path, clip: str) -> None:
        seen = follow(FaceTracker(HaarDetector()), pictures(fixtures / "clips" / clip))
        assert np.mean([o.detected for o in seen]) >= 0.95

    def test_a_face_that_leaves_is_gone(self, detector: FaceDetector, fixtures: Path) -> None:
        seen = follow(FaceTracker(detector), pictures(fixtures / "clips" / "face_noface.mov"))
        present = [o.detected for o in seen]
        last = max(i for i, there in enumerate(present) if there)
        assert 0.3 < np.mean(present) < 0.5
        assert np.mean(present[: last + 1]) >= 0.95

    def test_where_nobody_is_nobody_is_seen(self, fixtures: Path) -> None:
        seen = follow(FaceTracker(HaarDetector()), pictures(fixtures / "clips" / "no_face.mp4"))
        assert not any(o.detected for o in seen)
        assert not any(o.crop.any() for o in seen)

    def test_replaying_gives_the_same_crops(self, detector: FaceDetector, fixtures: Path) -> None:
        frames = pictures(fixtures / "clips" / "single_face.mp4")[:30]
        once, again = follow(FaceTracker(detector), frames), follow(FaceTracker(detector), frames)
        assert all(np.array_equal(a.crop, b.crop) for a, b in zip(once, again, strict=True))

    def test_crops_show_the_same_person_steadily(self, detector: FaceDetector, fixtures: Path) -> None:
        """Neighbouring crops of a calm speaker differ little: the alignment does not jump."""
        seen = follow(FaceTracker(detector), pictures(fixtures / "clips" / "bbaf2n.mpg"))
        crops = np.stack([o.crop for o in seen]).astype(float)
        steps = np.abs(np.diff(crops, axis=0)).mean(axis=(1, 2, 3))
        assert np.median(steps) < 8
        assert steps.max() < 25
