"""CREMA-D's votes as they are read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from models.errors import UserError
from offline.people.cremad import read_votes

if TYPE_CHECKING:
    from pathlib import Path

HEADER = "modality,anger,disgust,fear,happy,neutral,sad,clip\n"


def test_votes_become_valence_and_arousal(tmp_path: Path) -> None:
    rows = "voice,0,0,0,1,1,0,b\naudiovisual,2,0,0,0,0,0,b\nface,0,0,0,0,0,3,a\n"
    (tmp_path / "votes.csv").write_text(HEADER + rows)
    a, b = read_votes(tmp_path / "votes.csv")
    assert (a.clip, b.clip) == ("a", "b")
    assert set(b.valence_arousal) == {"voice", "both"}
    assert np.allclose(a.valence_arousal["face"], [-0.65, -0.3])
    assert np.allclose(b.valence_arousal["voice"], [0.4, 0.225])
    assert np.allclose(b.valence_arousal["both"], [-0.55, 0.65])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("modality,clip\n", "has no column 'anger'"),
        (HEADER, "holds no votes"),
        (
            HEADER + "smell,1,0,0,0,0,0,a\n",
            "line 2: a row is of a named clip and of voice, face, audiovisual",
        ),
        (HEADER + "face,1,0,0,0,0,0,\n", "of a named clip"),
        (HEADER + "face,0,0,0,0,0,0,a\n", "nobody voted"),
        (HEADER + "face,1,0,0.5,0,0,0,a\n", "votes must be whole numbers, not '0.5'"),
    ],
)
def test_another_form_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "votes.csv").write_text(content)
    with pytest.raises(UserError, match=message):
        read_votes(tmp_path / "votes.csv")


def test_the_real_votes(people: Path) -> None:
    clips = {votes.clip: votes.valence_arousal for votes in read_votes(people / "cremad-fixture-votes.csv")}
    assert len(clips) == 3
    assert clips["1001_DFA_HAP_XX"]["both"][0] > 0.5 > clips["1001_DFA_HAP_XX"]["voice"][0]
    assert clips["1001_DFA_ANG_XX"]["both"][1] > 0.5
