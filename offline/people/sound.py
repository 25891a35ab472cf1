"""A sound file as the samples that everything here takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import av
import numpy as np

from models.errors import UserError
from offline.files import reason
from stream.sources.events import SAMPLE_RATE

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


_WAY_OUT: Final = "take it out, or give a WAV or FLAC of it that plays"


def read_sound(path: Path) -> NDArray[np.float32]:
    """A file's sound, (n,) float32, mono, 16 kHz, in [-1, 1], n > 0.

    Mixed down as 16-bit, as a recording's sound is (`stream.sources.resample`). Raises UserError where the file is
    absent or holds no sound that can be decoded.
    """
    parts: list[NDArray[np.int16]] = []
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise UserError(f"{path} holds no sound", way_out=_WAY_OUT)
            resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
            for frame in container.decode(audio=0):
                parts += [piece.to_ndarray()[0] for piece in resampler.resample(frame)]
            if parts:
                parts += [piece.to_ndarray()[0] for piece in resampler.resample(None)]
    except FileNotFoundError:
        raise UserError(f"{path} does not exist", way_out=_WAY_OUT) from None
    except (av.FFmpegError, OSError) as e:
        raise UserError(f"{path} cannot be read as sound ({reason(e)})", way_out=_WAY_OUT) from e
    if not sum(len(part) for part in parts):
        raise UserError(f"{path} holds no sound", way_out=_WAY_OUT)
    samples: NDArray[np.float32] = np.concatenate(parts).astype(np.float32) / np.float32(32768)
    return samples
