"""Windows over a trial, and what training does to the pictures in one (report section 3.4).

Pure: numbers in, numbers out. A window is 300 consecutive frames, the next begins 200 further on, and the last one is
aligned to the trial's end; a trial shorter than a window is padded with zeros behind its end, and padded frames carry
no label.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from models.spec import CropSpec, WindowSpec

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Window:
    """Frames `start` to `stop` of a trial, shown as `length` frames: the rest is padding at the end."""

    start: int
    stop: int
    length: int

    @property
    def frames(self) -> int:
        """Frames that are the trial's own."""
        return self.stop - self.start


@dataclass(frozen=True)
class CropAugmentation:
    """Where the crop's 40 x 40 are taken from its 48 x 48, and whether they are mirrored: one for a window."""

    top: int
    left: int
    flip: bool


def cut_windows(frames: int, spec: WindowSpec) -> tuple[Window, ...]:
    """The windows over a trial of `frames` frames: none where it has no frames.

    Every frame is in at least one. Raises ValueError for a negative count.
    """
    if frames < 0:
        raise ValueError(f"a trial cannot have {frames} frames")
    if frames == 0:
        return ()
    if frames <= spec.length:
        return (Window(0, frames, spec.length),)
    last = frames - spec.length
    starts = [*range(0, last, spec.hop), last]
    if spec.hop > spec.length:
        raise ValueError(f"a hop of {spec.hop} leaves frames between windows of {spec.length}")
    return tuple(Window(s, s + spec.length, spec.length) for s in starts)


def cut(series: NDArray[np.generic], window: Window, fill: float = 0) -> NDArray[np.generic]:
    """A window of a series (N, ...): (length, ...), padded with `fill` behind the trial's end."""
    own = np.asarray(series[window.start : window.stop])
    if window.frames == window.length:
        return own
    padded = np.full((window.length, *own.shape[1:]), fill, own.dtype)
    padded[: window.frames] = own
    return padded


def chunks(frames: int, size: int) -> Iterator[tuple[int, int]]:
    """(begin, end) of consecutive chunks of so many frames; the last one may be shorter."""
    return ((begin, min(begin + size, frames)) for begin in range(0, frames, size))


def average_windows(windows: Sequence[Window], predictions: Sequence[Floats], frames: int) -> Floats:
    """A trial's series (..., frames, K) from its windows' predictions (..., length, K): the mean where they overlap.

    Raises ValueError where a frame is in no window.
    """
    lead, targets = predictions[0].shape[:-2], predictions[0].shape[-1]
    total = np.zeros((*lead, frames, targets), np.float64)
    count = np.zeros((frames, 1))
    for window, prediction in zip(windows, predictions, strict=True):
        total[..., window.start : window.stop, :] += prediction[..., : window.frames, :]
        count[window.start : window.stop] += 1
    if not count.all():
        raise ValueError("the windows do not cover the trial")
    return (total / count).astype(np.float32)


def centre_crop(spec: CropSpec) -> CropAugmentation:
    """What is shown outside training: the middle, as it is."""
    begin = (spec.stored_size - spec.input_size) // 2
    return CropAugmentation(begin, begin, False)


def random_augmentation(random: np.random.Generator, spec: CropSpec) -> CropAugmentation:
    """What is shown in training: anywhere, mirrored half of the time."""
    margin = spec.stored_size - spec.input_size + 1
    return CropAugmentation(
        int(random.integers(margin)), int(random.integers(margin)), bool(random.integers(2))
    )


def fixed_augmentations(count: int, spec: CropSpec, seed: int = 0) -> tuple[CropAugmentation, ...]:
    """`count` different augmentations of a cached trunk: the centre first, every other one mirrored.

    Raises ValueError for more than there are, or fewer than one.
    """
    margin = spec.stored_size - spec.input_size + 1
    if not 1 <= count <= 2 * margin * margin:
        raise ValueError(f"there are 1 to {2 * margin * margin} different crops, not {count}")
    random = np.random.default_rng(seed)
    centre = centre_crop(spec)
    augmentations = [centre, CropAugmentation(centre.top, centre.left, True)][:count]
    while len(augmentations) < count:
        augmentation = random_augmentation(random, spec)
        if count <= margin * margin:
            augmentation = CropAugmentation(augmentation.top, augmentation.left, bool(len(augmentations) % 2))
        if augmentation not in augmentations:
            augmentations.append(augmentation)
    return tuple(augmentations)


_CHANNELS_FIRST: Final = (0, 3, 1, 2)


def take_pixels(crops: NDArray[np.uint8], augmentation: CropAugmentation, spec: CropSpec) -> Floats:
    """Crops (N, 48, 48, 3) uint8 as the network takes them, (N, 3, 40, 40), under one augmentation for all of them.

    With `centre_crop` this is `models.visual.alignment.network_input`.
    """
    size = spec.input_size
    shown = crops[:, augmentation.top : augmentation.top + size, augmentation.left : augmentation.left + size]
    if augmentation.flip:
        shown = shown[:, :, ::-1]
    pixels = np.ascontiguousarray(shown.transpose(_CHANNELS_FIRST), np.float32)
    normalised: Floats = (pixels / np.float32(255) - np.float32(spec.pixel_mean)) / np.float32(spec.pixel_std)
    return normalised
