"""The drawn face: every person's is found, shows what its muscles do, and is the same for the same seed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from models.visual.alignment import align, network_input, to_crop
from models.visual.detectors import HaarDetector
from offline.performer.expression import express
from offline.performer.face import FacePainter
from offline.performer.facial_features import Pose
from offline.performer.person import DEMO_PERSON, Glasses, Habits, HairStyle, Person, make_person

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIZE = (320, 240)


def picture(person: Person, pose: Pose) -> NDArray[np.uint8]:
    return FacePainter(person, SIZE).draw(pose)


def crop(person: Person, pose: Pose) -> NDArray[np.uint8]:
    """The 40 x 40 that the network would see."""
    rgb = picture(person, pose)
    face = HaarDetector().detect(rgb)[0]
    seen = network_input(to_crop(align(rgb, face.landmarks))[None])
    shown: NDArray[np.uint8] = np.round((seen[0].transpose(1, 2, 0) * 0.5 + 0.5) * 255).astype(np.uint8)
    return shown


def test_pictures_have_the_size_asked_for() -> None:
    assert picture(DEMO_PERSON, Pose()).shape == (240, 320, 3)
    assert FacePainter(DEMO_PERSON, (640, 480)).draw(Pose()).shape == (480, 640, 3)


def test_the_same_seed_gives_the_same_people_and_pictures() -> None:
    poses = [Pose(smile=0.5, yaw=0.1), Pose(frown=1.0, smile=-0.5)]
    first, again = (FacePainter(make_person(7, 3), SIZE) for _ in range(2))
    assert make_person(7, 3) == make_person(7, 3)
    assert all(np.array_equal(first.draw(p), again.draw(p)) for p in poses)


def test_people_differ() -> None:
    people = [make_person(7, number) for number in range(24)]
    assert len({p.voice for p in people}) == len({p.looks for p in people}) == 24
    assert len({p.looks.style for p in people}) >= 5
    assert len({p.scene.backdrop for p in people}) == 4
    assert {p.looks.glasses for p in people} >= {"none", "round"}
    assert make_person(7, 0) != make_person(8, 0)


@pytest.mark.parametrize("number", range(24))
def test_haar_finds_every_person_in_nearly_every_pose(number: int) -> None:
    person = make_person(7, number)
    painter, detector = FacePainter(person, SIZE), HaarDetector()
    angle = np.linspace(0, 5 * np.pi, 400)
    felt = 0.9 * np.stack([np.sin(angle), np.cos(0.7 * angle)], axis=1)
    rng = np.random.default_rng(number)
    poses = express(felt, 0.7 * np.abs(np.sin(9 * angle)), person.habits, rng, 30.0)[::40]
    found = [len(detector.detect(painter.draw(pose))) > 0 for pose in poses]
    assert sum(found) >= 0.9 * len(found)


STYLES: list[HairStyle] = ["bald", "buzz", "short", "side", "swept", "curly", "bob", "long", "bun"]


@pytest.mark.parametrize("style", STYLES)
def test_every_hair_style_leaves_the_face_to_be_found(style: HairStyle) -> None:
    person = replace(DEMO_PERSON, looks=replace(DEMO_PERSON.looks, style=style))
    assert len(HaarDetector().detect(picture(person, Pose()))) == 1


@pytest.mark.parametrize("glasses", ["round", "square"])
def test_glasses_are_drawn_and_the_face_is_still_found(glasses: Glasses) -> None:
    person = replace(DEMO_PERSON, looks=replace(DEMO_PERSON.looks, glasses=glasses))
    assert not np.array_equal(picture(person, Pose()), picture(DEMO_PERSON, Pose()))
    assert len(HaarDetector().detect(picture(person, Pose()))) == 1


def test_the_face_is_found_where_it_was_drawn() -> None:
    face = HaarDetector().detect(picture(DEMO_PERSON, Pose()))[0]
    unit = DEMO_PERSON.scene.scale * 240
    eyes_x, eyes_y = face.landmarks[:2].mean(axis=0)
    assert eyes_x == pytest.approx(160, abs=0.15 * unit)
    assert eyes_y == pytest.approx(0.47 * 240 - 0.1 * unit, abs=0.25 * unit)


@pytest.mark.parametrize(
    ("pose", "rows"),
    [
        (Pose(smile=1.0), slice(22, 40)),
        (Pose(smile=-1.0), slice(22, 40)),
        (Pose(jaw=1.0), slice(22, 40)),
        (Pose(raise_brows=1.0), slice(4, 22)),
        (Pose(frown=1.0), slice(4, 22)),
        (Pose(grieve=1.0), slice(4, 22)),
        (Pose(lids=0.1), slice(4, 24)),
        (Pose(lids=1.5), slice(4, 24)),
    ],
    ids=str,
)
def test_each_muscle_shows_in_the_networks_crop(pose: Pose, rows: slice) -> None:
    rest, moved = (crop(DEMO_PERSON, p).astype(float)[rows, 6:34] for p in (Pose(), pose))
    assert np.abs(moved - rest).max() > 40


def test_a_turned_head_moves_nose_against_ears() -> None:
    grey = [cv2.cvtColor(picture(DEMO_PERSON, Pose(yaw=y)), cv2.COLOR_RGB2GRAY) for y in (-0.2, 0.2)]
    unit = DEMO_PERSON.scene.scale * 240
    boxes = [HaarDetector().detect(np.repeat(g[..., None], 3, 2))[0] for g in grey]
    shift = boxes[1].landmarks[:, 0].mean() - boxes[0].landmarks[:, 0].mean()
    assert 0.1 * unit < shift < 0.8 * unit


def test_expressions_follow_what_is_felt() -> None:
    calm = Habits(blinks_per_minute=0)
    quiet = np.zeros(300)

    def mean_pose(valence: float, arousal: float) -> Pose:
        felt = np.tile([valence, arousal], (300, 1))
        return Pose(*np.mean(express(felt, quiet, calm, np.random.default_rng(0), 30.0), axis=0))

    happy, furious, sad, alert = (mean_pose(*x) for x in ((0.8, 0.3), (-0.8, 0.8), (-0.8, -0.7), (0.0, 0.9)))
    assert happy.smile > 0.5 > -0.5 > furious.smile
    assert furious.frown > 0.7 > sad.frown
    assert sad.grieve > 0.7 > furious.grieve
    assert alert.lids > 1.2 > 0.9 > sad.lids
    assert alert.raise_brows > 0.3


def test_an_aroused_head_moves_faster_and_a_talking_mouth_opens() -> None:
    rng = [np.random.default_rng(1) for _ in range(2)]
    speech = np.tile(np.repeat([0.0, 0.9], 6), 50)
    calm, excited = (
        express(np.tile([0.0, a], (600, 1)), speech, Habits(), r, 30.0)
        for a, r in zip((-0.8, 0.8), rng, strict=True)
    )
    speed = [np.abs(np.diff([p.yaw for p in poses])).mean() for poses in (calm, excited)]
    assert speed[1] > 2 * speed[0]
    jaw = np.array([p.jaw for p in calm])
    assert np.corrcoef(jaw, speech)[0, 1] > 0.7


def test_people_blink_about_as_often_as_they_do() -> None:
    poses = express(np.zeros((1800, 2)), np.zeros(1800), Habits(), np.random.default_rng(2), 30.0)
    shut = np.array([p.lids < 0.3 for p in poses])
    assert 8 <= np.count_nonzero(np.diff(shut.astype(int)) == 1) <= 26
