"""EmoDB's recordings by their names, and a sound file's samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from models.errors import UserError
from offline.people.emodb import EMOTIONS, place_recordings, read_recordings
from offline.people.sound import read_sound
from tests.offline.judging.made import write_sound

if TYPE_CHECKING:
    from pathlib import Path


def test_names_say_everything(tmp_path: Path) -> None:
    for name in ("16b10Wb.flac", "03a01Fa.wav", "03a01Nc.WAV", "notes.txt"):
        (tmp_path / name).touch()
    happy, neutral, angry = read_recordings(tmp_path)
    assert (happy.name, happy.speaker, happy.sentence, happy.emotion, happy.version) == (
        "03a01Fa",
        "03",
        "a01",
        "happiness",
        "a",
    )
    assert (neutral.emotion, angry.emotion, angry.speaker) == ("neutral", "anger", "16")
    assert np.allclose(place_recordings((happy, neutral, angry)), [[0.8, 0.45], [0.0, 0.0], [-0.55, 0.65]])


@pytest.mark.parametrize("name", ["03a01Xa.wav", "3a01Fa.wav", "03a01F.flac", "03a01Fa-copy.wav"])
def test_another_name_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(UserError, match="not named as EmoDB's recordings are: SSTTTEv"):
        read_recordings(tmp_path)


def test_no_folder_no_recording_and_one_twice_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no folder"):
        read_recordings(tmp_path / "absent")
    with pytest.raises(UserError, match="holds no recording of EmoDB"):
        read_recordings(tmp_path)
    (tmp_path / "03a01Fa.wav").touch()
    (tmp_path / "03a01Fa.flac").touch()
    with pytest.raises(UserError, match="holds 03a01Fa twice"):
        read_recordings(tmp_path)


def test_sound_comes_at_16_khz(tmp_path: Path) -> None:
    t = np.arange(8000) / 8000
    tone = (0.5 * np.sin(2 * np.pi * 440 * t)).astype(np.float32)
    samples = read_sound(write_sound(tmp_path / "a.wav", tone, 8000))
    assert samples.dtype == np.float32
    assert abs(len(samples) - 16_000) < 32
    assert np.abs(samples).max() == pytest.approx(0.5, abs=0.02)


def test_what_holds_no_sound_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        read_sound(tmp_path / "a.wav")
    (tmp_path / "a.wav").write_bytes(b"nothing of the kind")
    with pytest.raises(UserError, match="cannot be read as sound"):
        read_sound(tmp_path / "a.wav")
    with pytest.raises(UserError, match="holds no sound"):
        read_sound(write_sound(tmp_path / "b.wav", np.zeros(0, np.float32)))


def test_the_real_recordings(people: Path) -> None:
    recordings = read_recordings(people / "emodb")
    assert len(recordings) == 408
    assert {recording.emotion for recording in recordings} == set(EMOTIONS)
    assert len({recording.speaker for recording in recordings}) == 8
    assert 0.5 < len(read_sound(recordings[0].path)) / 16_000 < 10
