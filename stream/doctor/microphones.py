"""Microphones: opened, and how loud what they hear is."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import av
import numpy as np

from models.errors import UserError
from stream.doctor.findings import Finding, failure
from stream.doctor.permissions import System, how_to_allow, how_to_bring
from stream.sources.decoding import decode_packet
from stream.sources.devices import Address, open_address
from stream.sources.events import SAMPLE_RATE
from stream.sources.resample import MonoResampler

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stream.sources.reader import Opener

LISTEN_S: Final = 3.0

MUTED_DB: Final = -90.0
"""Below this, in dB of full scale, there is no sound at all: a real microphone's own noise is louder."""

QUIET_DB: Final = -55.0
"""A room in which nobody speaks, or a microphone that is turned down."""

CLIPPED_SHARE: Final = 0.001
"""Samples at full scale beyond which a voice is distorted."""

_PIECE: Final = SAMPLE_RATE // 10


@dataclass(frozen=True)
class Hearing:
    """What a microphone gave in `seconds` of sound: the level of the whole and of the loudest tenth of a second, in
    dB of full scale (RMS), and the share of samples at full scale. `decode_errors` packets were damaged.
    """

    seconds: float
    level_db: float
    loudest_db: float
    clipped: float
    decode_errors: int = 0

    @classmethod
    def of(cls, samples: NDArray[np.float32], decode_errors: int = 0) -> Hearing:
        """Of 16 kHz mono samples in [-1, 1]."""
        if not len(samples):
            return cls(0.0, -math.inf, -math.inf, 0.0, decode_errors)
        pieces = [samples[at : at + _PIECE] for at in range(0, len(samples), _PIECE)]
        clipped = float((np.abs(samples) >= 0.999).mean())
        return cls(
            len(samples) / SAMPLE_RATE,
            level_db(samples),
            max(level_db(piece) for piece in pieces),
            clipped,
            decode_errors,
        )


def level_db(samples: NDArray[np.float32]) -> float:
    """The RMS level of samples in [-1, 1], in dB of full scale; minus infinity for digital silence."""
    power = float(np.square(samples.astype(np.float64)).mean())
    return 10 * math.log10(power) if power > 0 else -math.inf


def listen(address: Address, *, opener: Opener = open_address, seconds: float = LISTEN_S) -> Hearing:
    """Opens a microphone and listens for so long; closed behind it. Blocks, and keeps no sound.

    Raises UserError where it cannot be opened, or fails before its first sound.
    """
    container = opener(address)
    heard: list[NDArray[np.float32]] = []
    decode_errors = 0
    try:
        if not container.streams.audio:
            raise UserError(f"{address.label} has no sound", way_out="--microphone none does without")
        stream, resampler = container.streams.audio[0], None
        deadline_s = time.monotonic() + 2 * seconds + 1.0
        wanted = seconds * SAMPLE_RATE
        try:
            for packet in container.demux([stream]):
                frames = decode_packet(packet.decode)
                decode_errors += frames is None
                for frame in frames or ():
                    if resampler is None or not resampler.fits(frame):
                        resampler = MonoResampler(frame)
                    heard += resampler.step(frame)
                if sum(map(len, heard)) >= wanted or time.monotonic() > deadline_s:
                    break
        except (av.FFmpegError, OSError) as error:
            if not heard:
                reason = getattr(error, "strerror", None) or str(error)
                raise UserError(f"{address.label} was opened, but no sound came ({reason})") from error
    finally:
        container.close()
    return Hearing.of(np.concatenate(heard) if heard else np.zeros(0, np.float32), decode_errors)


def judge_hearing(label: str, hearing: Hearing, system: System) -> Finding:
    """What was heard, as a finding. Without sound a run goes on: the branches of sound and words are masked."""
    damaged = f"; {hearing.decode_errors} packets could not be decoded" if hearing.decode_errors else ""
    if not hearing.seconds:
        return Finding(
            label, "failed", f"opened, but no sound came{damaged}", "--microphone none does without"
        )
    floor = -200.0
    measures = {
        "level_db": max(floor, hearing.level_db),
        "loudest_db": max(floor, hearing.loudest_db),
        "clipped_share": hearing.clipped,
        "seconds": hearing.seconds,
        "decode_errors": float(hearing.decode_errors),
    }
    if hearing.loudest_db < MUTED_DB:
        says = f"opened, but {hearing.seconds:.0f} s of digital silence: it is muted, or not allowed"
        mend = "switch it on in the sound settings"
        if not system.linux:
            mend += f", or {how_to_allow('microphone', system)}"
        return Finding(label, "warning", says, mend, measures)
    level = f"level {hearing.level_db:.0f} dB, loudest {hearing.loudest_db:.0f} dB of full scale{damaged}"
    if hearing.loudest_db < QUIET_DB:
        return Finding(
            label, "warning", f"{level}: nobody speaks, or too quiet", "speak, or turn it up", measures
        )
    if hearing.clipped > CLIPPED_SHARE:
        says = f"{level}: {hearing.clipped:.1%} of it is cut off at full scale"
        return Finding(label, "warning", says, "turn it down, or sit further away", measures)
    return Finding(label, "ok", level, measures=measures)


def examine_microphone(
    address: Address, *, system: System, opener: Opener = open_address, seconds: float = LISTEN_S
) -> Finding:
    """One microphone: opened, listened to, closed. Blocks; never raises for what a user can mend."""
    try:
        hearing = listen(address, opener=opener, seconds=seconds)
    except UserError as error:
        without = "--microphone none does without"
        if system.linux:
            bring = how_to_bring("microphone", system)
            return Finding(address.label, "failed", error.problem, f"{bring}; {without}")
        return failure(address.label, error, mend=f"{how_to_allow('microphone', system)}; {without}")
    return judge_hearing(address.label, hearing, system)
