"""Face detectors on real recordings: what they find, where nothing is to be found, and bad input."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import cv2
import cv2.data
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.errors import UserError
from models.parts.install import pull
from models.visual.detectors import (
    Face,
    FaceDetector,
    FollowingDetector,
    HaarDetector,
    YunetDetector,
    as_rgb,
    make_detector,
    overlap,
)
from tests.models.face_clips import ONE_FACE, YUNET_FILE, pictures

Picture = NDArray[np.uint8]
boxes = st.tuples(*[st.floats(-50, 50)] * 2, *[st.floats(0.1, 50)] * 2)


@pytest.fixture(scope="module")
def haar() -> HaarDetector:
    return HaarDetector()


@pytest.fixture(scope="module")
def yunet(fixtures: Path) -> YunetDetector:
    return YunetDetector(fixtures / "face" / YUNET_FILE)


@pytest.fixture(scope="module", params=["haar", "yunet"])
def detector(request: pytest.FixtureRequest) -> FaceDetector:
    found: FaceDetector = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="module")
def speaker(fixtures: Path) -> Picture:
    return pictures(fixtures / "clips" / "bbaf2n.mpg", every=30)[0]


def same_faces(some: list[Face], others: list[Face]) -> bool:
    return [(f.box, f.score) for f in some] == [(f.box, f.score) for f in others] and all(
        np.array_equal(a.landmarks, b.landmarks) for a, b in zip(some, others, strict=True)
    )


class TestOverlap:
    @settings(deadline=None)
    @given(a=boxes, b=boxes)
    def test_it_is_symmetric_and_a_fraction(
        self, a: tuple[float, float, float, float], b: tuple[float, float, float, float]
    ) -> None:
        assert 0 <= overlap(a, b) <= 1 + 1e-9
        assert overlap(a, b) == pytest.approx(overlap(b, a))
        assert overlap(a, a) == pytest.approx(1)

    def test_half_a_box_is_a_third_of_the_union(self) -> None:
        assert overlap((0, 0, 2, 2), (1, 0, 2, 2)) == pytest.approx(1 / 3)
        assert overlap((0, 0, 2, 2), (2, 0, 2, 2)) == 0


class TestPictures:
    def test_grey_and_transparent_pictures_are_taken(self) -> None:
        grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
        assert np.array_equal(as_rgb(grey), np.dstack([grey] * 3))
        assert np.array_equal(as_rgb(grey[:, :, None]), np.dstack([grey] * 3))
        assert np.array_equal(as_rgb(np.dstack([grey] * 4)), np.dstack([grey] * 3))

    @pytest.mark.parametrize(
        "picture",
        [
            np.zeros((4, 4, 2), np.uint8),
            np.zeros((1, 4, 4, 3), np.uint8),
            np.zeros((0, 4, 3), np.uint8),
            np.zeros((4, 4, 3), np.float32),
        ],
    )
    def test_what_is_no_picture_is_refused(self, detector: FaceDetector, picture: NDArray[Any]) -> None:
        with pytest.raises(ValueError, match="a picture must be"):
            detector.detect(picture)


class TestBoth:
    """What holds for either detector."""

    @pytest.mark.parametrize("clip", ONE_FACE)
    def test_one_person_is_one_face(self, detector: FaceDetector, fixtures: Path, clip: str) -> None:
        frames = pictures(fixtures / "clips" / clip, every=30)
        assert [len(detector.detect(frame)) for frame in frames] == [1] * len(frames)

    def test_no_face_is_seen_where_there_is_none(self, detector: FaceDetector, fixtures: Path) -> None:
        frames = pictures(fixtures / "clips" / "no_face.mp4", every=6)
        assert not [face for frame in frames for face in detector.detect(frame)]

    def test_landmarks_are_in_their_order_inside_the_box(
        self, detector: FaceDetector, speaker: Picture
    ) -> None:
        (face,) = detector.detect(speaker)
        (left_eye, right_eye, nose, left_mouth, right_mouth), (x, y, width, height) = face.landmarks, face.box
        assert left_eye[0] < nose[0] < right_eye[0]
        assert left_mouth[0] < nose[0] < right_mouth[0]
        assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])
        assert ((face.landmarks > [x, y]) & (face.landmarks < [x + width, y + height])).all()
        assert face.landmarks.dtype == np.float32
        assert 0 < face.score <= 1

    def test_the_same_picture_gives_the_same_faces(self, detector: FaceDetector, speaker: Picture) -> None:
        assert same_faces(detector.detect(speaker), detector.detect(speaker.copy()))

    def test_a_picture_in_any_memory_order_is_taken(self, detector: FaceDetector, speaker: Picture) -> None:
        mirrored = speaker[:, ::-1]
        assert same_faces(detector.detect(mirrored), detector.detect(np.ascontiguousarray(mirrored)))
        assert same_faces(detector.detect(np.asfortranarray(speaker)), detector.detect(speaker))

    def test_a_mirrored_face_is_found_mirrored(self, detector: FaceDetector, speaker: Picture) -> None:
        (face,), (mirrored,) = detector.detect(speaker), detector.detect(speaker[:, ::-1])
        x, y, width, height = mirrored.box
        assert overlap(face.box, (speaker.shape[1] - x - width, y, width, height)) > 0.8

    def test_size_of_the_picture_makes_little_difference(
        self, detector: FaceDetector, speaker: Picture
    ) -> None:
        large = speaker.repeat(4, axis=0).repeat(4, axis=1)
        (face,), (larger,) = detector.detect(speaker), detector.detect(large)
        x, y, width, height = larger.box
        assert overlap(face.box, (x / 4, y / 4, width / 4, height / 4)) > 0.8

    def test_grey_is_enough(self, detector: FaceDetector, speaker: Picture) -> None:
        (face,), (grey,) = detector.detect(speaker), detector.detect(speaker[:, :, 1])
        assert overlap(face.box, grey.box) > 0.8

    @pytest.mark.parametrize("shape", [(1, 1), (2, 400), (400, 2), (19, 19), (33, 47), (481, 641), (31, 900)])
    def test_pictures_of_any_size_without_a_face_give_none(
        self, detector: FaceDetector, shape: tuple[int, int]
    ) -> None:
        assert detector.detect(np.zeros((*shape, 3), np.uint8)) == []
        noise = np.random.default_rng(3).integers(0, 256, (*shape, 3), np.uint8)
        assert detector.detect(noise) == []


class TestHaar:
    def test_it_sees_faces_where_yunet_does(
        self, haar: HaarDetector, yunet: YunetDetector, fixtures: Path
    ) -> None:
        """Landmarks by proportion: within a fifth of the eyes' distance of YuNet's, a tenth on average."""
        misses = []
        for clip in ONE_FACE:
            for frame in pictures(fixtures / "clips" / clip, every=30):
                (face,), (reference,) = haar.detect(frame), yunet.detect(frame)
                eyes = np.linalg.norm(reference.landmarks[1] - reference.landmarks[0])
                miss = np.linalg.norm(face.landmarks - reference.landmarks, axis=1) / eyes
                misses.append(miss.mean())
        assert max(misses) < 0.2
        assert np.mean(misses) < 0.1

    def test_nothing_is_seen_where_the_face_is_painted_over(
        self, haar: HaarDetector, yunet: YunetDetector, fixtures: Path
    ) -> None:
        """Real backgrounds, shoulders and curtains, also upside down: no false face."""
        for clip in (*ONE_FACE, "face_noface.mov"):
            for frame in pictures(fixtures / "clips" / clip, every=30):
                painted = frame.copy()
                for face in yunet.detect(frame):
                    x, y, width, height = (int(v) for v in face.box)
                    rows = slice(max(0, y - height // 3), y + height + height // 4)
                    painted[rows, max(0, x - width // 3) : x + width + width // 3] = 128
                assert haar.detect(painted) == []
                assert haar.detect(painted[::-1]) == []

    def test_near_a_known_face_it_finds_that_face(self, haar: HaarDetector, speaker: Picture) -> None:
        (face,) = haar.detect(speaker)
        x, y, width, height = face.box
        moved = (x + 0.2 * width, y - 0.15 * height, width * 1.1, height * 1.1)
        assert overlap(haar.detect_near(speaker, moved)[0].box, face.box) > 0.8

    def test_a_face_touching_the_edge_is_found(self, haar: HaarDetector, speaker: Picture) -> None:
        (face,) = haar.detect(speaker)
        left, top = int(face.box[0]), int(face.box[1])
        cut = speaker[top:, left:]
        assert haar.detect_near(cut, (0, 0, *face.box[2:]))

    @pytest.mark.parametrize(
        "box", [(-500, -500, 100, 100), (5_000, 10, 50, 50), (0, 0, 1, 1), (-20, -20, 9_000, 9_000)]
    )
    def test_near_nowhere_there_is_nothing(
        self, haar: HaarDetector, speaker: Picture, box: tuple[float, float, float, float]
    ) -> None:
        assert haar.detect_near(speaker, box) == []

    def test_following_a_face_gives_the_landmarks_that_searching_gives(
        self, haar: HaarDetector, fixtures: Path
    ) -> None:
        for clip in ONE_FACE:
            frame = pictures(fixtures / "clips" / clip, every=30)[-1]
            (found,) = haar.detect(frame)
            (near,) = haar.detect_near(frame, found.box)
            miss = np.linalg.norm(found.landmarks - near.landmarks, axis=1)
            assert miss.mean() < 0.1 * np.linalg.norm(found.landmarks[1] - found.landmarks[0])

    def test_its_hash_changes_with_a_cascade_and_with_how_they_are_used(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        ours = HaarDetector.sha256()
        assert re.fullmatch("[0-9a-f]{64}", ours)
        assert HaarDetector.sha256() == ours
        with monkeypatch.context() as patch:
            patch.setattr(HaarDetector, "_REVISION", HaarDetector._REVISION + 1)
            assert HaarDetector.sha256() != ours
        for path in Path(cv2.data.haarcascades).glob("haarcascade_frontalface_*.xml"):
            (tmp_path / path.name).write_bytes(path.read_bytes() + b"\n")
        monkeypatch.setattr(cv2.data, "haarcascades", f"{tmp_path}/")
        assert HaarDetector.sha256() != ours

    def test_it_follows_and_yunet_does_not(self, haar: HaarDetector, yunet: YunetDetector) -> None:
        assert isinstance(haar, FollowingDetector)
        assert isinstance(yunet, FaceDetector)
        assert not isinstance(yunet, FollowingDetector)


class TestYunet:
    def test_it_sees_turned_faces(self, yunet: YunetDetector, speaker: Picture) -> None:
        (upright,), (lying,) = yunet.detect(speaker), yunet.detect(np.rot90(speaker))
        assert lying.landmarks[0][1] > lying.landmarks[1][1]
        assert abs(upright.landmarks[0][1] - upright.landmarks[1][1]) < 0.1 * upright.box[2]

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"no YuNet model at .*absent\.onnx.*haar"):
            YunetDetector(tmp_path / "absent.onnx")

    @pytest.mark.parametrize("cut", [0, 100, 100_000])
    def test_a_damaged_file_is_one_line(
        self, fixtures: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], cut: int
    ) -> None:
        damaged = tmp_path / "damaged.onnx"
        damaged.write_bytes((fixtures / "face" / YUNET_FILE).read_bytes()[:cut])
        with pytest.raises(UserError, match=r"damaged\.onnx is not a YuNet model") as raised:
            YunetDetector(damaged)
        assert "\n" not in str(raised.value)
        assert capfd.readouterr() == ("", "")

    def test_a_file_of_something_else_is_refused(self, tmp_path: Path) -> None:
        letter = tmp_path / "letter.onnx"
        letter.write_text("Dear model,\n")
        with pytest.raises(UserError, match="is not a YuNet model"):
            YunetDetector(letter)


class TestChoice:
    @pytest.fixture(autouse=True)
    def _bare_machine(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("AFFECT_MODELS", str(tmp_path / "models"))

    def test_a_bare_machine_has_haar(self) -> None:
        assert make_detector().name == "haar"

    def test_once_installed_yunet_serves(self, fixtures: Path) -> None:
        pull("yunet", source=fixtures / "face" / YUNET_FILE)
        assert make_detector().name == "yunet"
        assert make_detector("yunet").name == "yunet"
        assert make_detector("haar").name == "haar"

    def test_a_given_file_is_taken(self, fixtures: Path) -> None:
        assert make_detector(model_path=fixtures / "face" / YUNET_FILE).name == "yunet"

    def test_yunet_that_is_not_there_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="yunet"):
            make_detector("yunet")
        with pytest.raises(UserError, match="no YuNet model"):
            make_detector("auto", tmp_path / "absent.onnx")

    def test_an_unknown_choice_is_an_error(self) -> None:
        with pytest.raises(UserError, match="'dlib': choose auto, haar or yunet"):
            make_detector("dlib")  # type: ignore[arg-type]
