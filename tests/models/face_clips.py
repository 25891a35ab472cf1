"""The fixtures' clips as pictures, and what is known about the faces in them."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import av
import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

ONE_FACE = (
    "1001_DFA_ANG_XX.flv",
    "1001_DFA_HAP_XX.flv",
    "1001_DFA_NEU_XX.flv",
    "bbaf2n.mpg",
    "lbax4n.mpg",
    "lrwp9a.mpg",
    "pwij3p.mpg",
    "sbia1a.mpg",
    "swiz3n.mpg",
    "single_face.mp4",
    "weekly_address_5s.mp4",
)
YUNET_FILE = "face_detection_yunet_2023mar.onnx"


@lru_cache(maxsize=1)
def pictures(clip: Path, every: int = 1) -> tuple[NDArray[np.uint8], ...]:
    """Every n-th frame of a clip, RGB; the last clip asked for is kept."""
    with av.open(str(clip)) as container:
        frames = container.decode(video=0)
        return tuple(
            f.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
            for i, f in enumerate(frames)
            if i % every == 0
        )
