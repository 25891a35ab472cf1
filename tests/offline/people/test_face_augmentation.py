"""Changed faces: within range, of the same shape, the same for one seed, and changed where they are meant to be."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.spec import CropSpec
from models.visual.framing import Square, frame_face
from offline.people.face_augmentation import (
    FaceAugmentation,
    crop_augmented,
    crop_centred,
    draw_chance,
    draw_uniform,
)
from offline.people.mouth_augmentation import FaceAxes, open_mouths, swap_mouths

SPEC = CropSpec(framing="box", grey=True)
STILL = FaceAugmentation(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
LANDMARKS = torch.tensor([[15.5, 19.5], [32.5, 19.5], [24.0, 29.0], [17.5, 37.5], [30.5, 37.5]])

seeds = st.integers(0, 2**32 - 1)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw_faces(count: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Smooth random pictures (n, 48, 48), squares (n, 3), landmarks (n, 5, 2)."""
    random = seeded(seed)
    coarse = torch.rand(count, 1, 7, 7, generator=random)
    pictures = torch.nn.functional.interpolate(coarse, (48, 48), mode="bilinear")[:, 0]
    squares = torch.tensor([24.0, 25.5, 46.0]) + torch.randn(count, 3, generator=random)
    landmarks = LANDMARKS + 2 * torch.randn(count, 5, 2, generator=random)
    return pictures, squares, landmarks


def rotated(landmarks: Tensor, degrees: float) -> Tensor:
    angle = torch.deg2rad(torch.tensor(degrees))
    turn = torch.stack([torch.stack([angle.cos(), angle.sin()]), torch.stack([-angle.sin(), angle.cos()])])
    return (landmarks - 24) @ turn + 24


@given(seeds, st.integers(1, 9))
@settings(max_examples=25)
def test_changed_crops_stay_in_range_and_are_the_same_for_one_seed(seed: int, count: int) -> None:
    pictures, squares, _ = draw_faces(count, seed)
    before = pictures.clone()
    crops = crop_augmented(pictures, squares, SPEC, FaceAugmentation(), seeded(seed))
    assert crops.shape == (count, 40, 40)
    assert torch.isfinite(crops).all()
    assert crops.min() >= 0
    assert crops.max() <= 1
    assert torch.equal(crops, crop_augmented(pictures, squares, SPEC, FaceAugmentation(), seeded(seed)))
    assert torch.equal(pictures, before)


def test_other_seeds_change_faces_otherwise() -> None:
    pictures, squares, _ = draw_faces(4)
    first, second = (
        crop_augmented(pictures, squares, SPEC, FaceAugmentation(), seeded(seed)) for seed in (1, 2)
    )
    assert ((first - second).abs().mean(dim=(1, 2)) > 0.01).all()


def test_without_any_change_a_crop_is_the_centred_one_or_its_mirror_image() -> None:
    pictures, squares, _ = draw_faces(16)
    crops, centred = (
        crop_augmented(pictures, squares, SPEC, STILL, seeded(3)),
        crop_centred(pictures, squares, SPEC),
    )
    straight = (crops - centred).abs().amax(dim=(1, 2)) < 1e-5
    mirrored = (crops - centred.flip(2)).abs().amax(dim=(1, 2)) < 1e-5
    assert (straight | mirrored).all()
    assert straight.any()
    assert mirrored.any()


@pytest.mark.parametrize("square", [Square(24, 25.5, 46), Square(20, 30, 36), Square(24, 24, 48)])
def test_a_centred_crop_is_the_middle_of_what_the_live_path_keeps(square: Square) -> None:
    pictures, _, _ = draw_faces(1)
    grey = (255 * pictures[0]).byte()
    live = frame_face(np.repeat(grey.numpy()[:, :, None], 3, axis=2), square, SPEC)[4:44, 4:44, 0]
    crop = crop_centred(grey[None].float() / 255, torch.tensor([square]), SPEC)[0]
    assert np.abs(255 * crop.numpy() - live).max() <= 2


def test_a_shift_of_the_face_with_its_square_changes_nothing() -> None:
    pictures, squares, _ = draw_faces(4)
    wide = torch.nn.functional.pad(pictures[:, None], (8, 8, 8, 8), mode="replicate")[:, 0]
    moved = crop_centred(wide, squares + torch.tensor([8.0, 8.0, 0.0]), SPEC)
    assert torch.allclose(moved, crop_centred(pictures, squares, SPEC), atol=1e-5)


@pytest.mark.parametrize("name", ["log_gamma", "log_contrast", "brightness", "shade", "noise"])
def test_each_kind_of_change_alone_does_something(name: str) -> None:
    pictures, squares, _ = draw_faces(8)
    how = FaceAugmentation(**(vars(STILL) | {name: 0.3}))
    still, crops = (crop_augmented(pictures, squares, SPEC, change, seeded(1)) for change in (STILL, how))
    assert (still - crops).abs().max() > 0.02


@given(seeds)
@settings(max_examples=25)
def test_opened_and_swapped_mouths_stay_in_range_and_are_the_same_for_one_seed(seed: int) -> None:
    pictures, _, landmarks = draw_faces(5, seed)
    donors, _, donor_landmarks = draw_faces(5, seed + 1)
    before = pictures.clone()
    for _ in range(2):
        opened = open_mouths(pictures, landmarks, seeded(seed))
        swapped = swap_mouths(pictures, landmarks, donors, donor_landmarks, seeded(seed))
        for changed in (opened, swapped):
            assert changed.shape == pictures.shape
            assert torch.isfinite(changed).all()
            assert changed.min() >= 0
            assert changed.max() <= 1
        assert torch.equal(opened, open_mouths(pictures, landmarks, seeded(seed)))
        assert torch.equal(swapped, swap_mouths(pictures, landmarks, donors, donor_landmarks, seeded(seed)))
    assert torch.equal(pictures, before)


@pytest.mark.parametrize("degrees", [0.0, -20.0, 35.0])
def test_mouths_are_changed_and_eyes_are_not(degrees: float) -> None:
    landmarks = rotated(LANDMARKS, degrees).expand(6, 5, 2)
    pictures = torch.full((6, 48, 48), 0.6)
    donors = torch.rand(6, 48, 48, generator=seeded(1))
    mouth = landmarks[0, 3:].mean(dim=0).round().long()
    for changed in (
        open_mouths(pictures, landmarks, seeded(2)),
        swap_mouths(pictures, landmarks, donors, LANDMARKS.expand(6, 5, 2), seeded(2)),
    ):
        difference = (changed - pictures).abs()
        near = difference[:, mouth[1] - 2 : mouth[1] + 4, mouth[0] - 2 : mouth[0] + 3]
        assert (near.amax(dim=(1, 2)) > 0.1).all()
        for x, y in landmarks[0, :2].round().long().tolist():
            assert difference[:, y - 2 : y + 3, x - 2 : x + 3].max() < 0.02


def test_a_mouth_swapped_for_itself_is_much_the_same() -> None:
    pictures, _, landmarks = draw_faces(8)
    swapped = swap_mouths(pictures, landmarks, pictures, landmarks, seeded(1))
    others = swap_mouths(pictures, landmarks, pictures.roll(1, 0), landmarks, seeded(1))
    assert (swapped - pictures).abs().mean() < 0.3 * (others - pictures).abs().mean()


@given(seeds)
@settings(max_examples=25)
def test_a_face_s_axes_lead_there_and_back(seed: int) -> None:
    _, _, landmarks = draw_faces(3, seed)
    axes = FaceAxes.from_landmarks(landmarks)
    x, y = torch.meshgrid(torch.arange(0.0, 48, 5), torch.arange(0.0, 48, 5), indexing="xy")
    back = axes.to_pixels(*axes.from_pixels(x, y))
    assert torch.allclose(back[0], x.expand(3, -1, -1), atol=1e-3)
    assert torch.allclose(back[1], y.expand(3, -1, -1), atol=1e-3)


def test_landmarks_in_one_place_still_give_axes() -> None:
    axes = FaceAxes.from_landmarks(torch.full((1, 5, 2), 24.0))
    changed = open_mouths(torch.rand(1, 48, 48, generator=seeded(1)), torch.full((1, 5, 2), 24.0), seeded(1))
    assert torch.isfinite(changed).all()
    assert axes.mouth_width == pytest.approx(0.4)


@given(seeds, st.floats(-3, 3), st.floats(0, 3))
def test_draws_lie_between_their_bounds(seed: int, low: float, width: float) -> None:
    drawn = draw_uniform(low, low + width, 50, seeded(seed))
    assert low - 1e-5 <= drawn.min()
    assert drawn.max() <= low + width + 1e-5
    assert not draw_chance(0.0, 50, seeded(seed)).any()
    assert draw_chance(1.0, 50, seeded(seed)).all()
