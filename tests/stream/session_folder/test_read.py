"""A session whose run was killed: it opens, says that it was cut, and has all that was handed to the system."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from models.errors import UserError
from stream.session_folder.layout import (
    ESTIMATES,
    FACTS,
    LOCK,
    PARQUET,
    ROOM,
    TEMPORARY,
    UNSETTLED_WORDS,
    WORDS,
)
from stream.session_folder.read import open_session_folder
from tests.stream.sessions import keep_session, run_until_killed

KEEPER = """
import asyncio, sys
from pathlib import Path
from stream.messages import Marker, Transcript
from stream.broker.connection import run
from stream.session_folder.layout import ESTIMATES, TEMPORARY
from tests.stream.sessions import WORDS, estimate, recording

def lines(name):
    return (Path(sys.argv[1]) / name).read_bytes().count(b"\\n")

async def main():
    async with recording(Path(sys.argv[1])) as outlet:
        outlet.offer_transcript(Transcript(0, WORDS, True))
        outlet.offer_transcript(Transcript(1, WORDS, False))
        outlet.offer_transcript(Transcript(1, WORDS[:1], False))
        outlet.offer_transcript(Transcript(2, WORDS, False))
        outlet.offer_transcript(Transcript(2, (), False))
        outlet.offer_marker(Marker("now", 1_700_000_000.0, 0.0, "lsl"))
        for frame in range(201):
            outlet.offer(estimate(frame, settled=False))
            if frame >= 20:
                outlet.offer(estimate(frame - 20, settled=True))
            if frame == 200:
                while lines(ESTIMATES) < 182 or lines(TEMPORARY[0]) < 202:
                    await asyncio.sleep(0.05)
                print("there", flush=True)
                await asyncio.sleep(120)

run(main())
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `kill -9` left it."""
    folder = tmp_path_factory.mktemp("killed") / "s"
    run_until_killed(KEEPER, folder)
    return folder


@pytest.fixture
def cut(killed: Path, tmp_path: Path) -> Path:
    """The same folder, for one test."""
    return Path(shutil.copytree(killed, tmp_path / "s"))


def test_a_killed_session_opens_says_so_and_has_lost_nothing(cut: Path) -> None:
    session = open_session_folder(cut)
    assert session.was_cut
    assert session.notes[0].startswith("the run was cut")
    frames = session.estimates["frame"].tolist()
    assert frames == list(range(len(frames)))
    assert len(frames) > 200
    settled = session.estimates["settled_valence"]
    assert int(pd.isna(settled).sum()) == session.facts["cut"]["unsettled"]
    assert 15 <= session.facts["cut"]["unsettled"] <= 25
    assert not pd.isna(session.estimates["provisional_valence"]).any()
    assert [(w.utterance, w.text, w.settled) for w in session.words] == [
        (0, "hello", True),
        (0, 'quite "nice", really', True),
        (1, "hello", False),
    ]
    assert [marker.value for marker in session.markers] == ["now"]
    assert session.facts["ended"]["by"] == "cut"
    assert len(pd.read_parquet(cut / PARQUET)) == len(frames)


def test_a_session_that_is_cut_ended_with_the_last_it_knows(cut: Path) -> None:
    (cut / TEMPORARY[0]).unlink()
    (cut / "events.csv").unlink()
    facts = json.loads((cut / FACTS).read_text())
    facts["began"]["at"] = 1_700_000_000.0
    (cut / FACTS).write_text(json.dumps(facts))
    session = open_session_folder(cut)
    assert session.facts["ended"]["at"] == pytest.approx(session.estimates["captured_at"][-1], abs=0.001)


def test_the_tables_of_a_killed_session_open_without_this_software(cut: Path) -> None:
    table = pd.read_csv(cut / ESTIMATES)
    assert table.settled_valence.notna().all()
    assert pd.read_csv(cut / WORDS).text.tolist() == ["hello", 'quite "nice", really']
    assert json.loads((cut / FACTS).read_text())["state"] == "recording"


def test_what_is_mended_once_stays_as_it_is(cut: Path) -> None:
    first = open_session_folder(cut)
    before = {path.name: path.read_bytes() for path in cut.iterdir()}
    assert not {*TEMPORARY, LOCK, ROOM} & set(before)
    again = open_session_folder(cut)
    assert again.notes == first.notes
    assert again.was_cut
    assert {path.name: path.read_bytes() for path in cut.iterdir()} == before


@pytest.mark.parametrize("file", [ESTIMATES, TEMPORARY[0], WORDS, UNSETTLED_WORDS, "events.csv"])
def test_torn_and_damaged_lines_are_left_out(cut: Path, file: str) -> None:
    whole = len(open_session_folder(Path(shutil.copytree(cut, cut.parent / "other"))).estimates["frame"])
    with (cut / file).open("ab") as out:
        out.write(b"12,3.0,not a num")
    with (cut / file).open("ab") as out:
        out.write(b"\n,,\n" + b"\0" * 512)
    session = open_session_folder(cut)
    assert session.estimates["frame"].tolist() == list(range(whole))
    assert len(session.words) == 3
    assert len(session.markers) == 1


def test_a_power_cut_that_took_a_file_leaves_the_rest(cut: Path) -> None:
    (cut / ESTIMATES).write_bytes(b"")
    (cut / WORDS).unlink()
    session = open_session_folder(cut)
    assert len(session.estimates["frame"]) > 200
    assert pd.isna(session.estimates["settled_valence"]).all()
    assert [word.utterance for word in session.words] == [1]


def test_an_empty_session_opens(tmp_path: Path, cut: Path) -> None:
    for name in (ESTIMATES, TEMPORARY[0]):
        lines = (cut / name).read_text().splitlines(keepends=True)
        (cut / name).write_text(lines[0])
    session = open_session_folder(cut)
    assert session.was_cut
    assert len(session.estimates["frame"]) == 0


async def test_a_parquet_file_that_is_gone_is_made_again(tmp_path: Path) -> None:
    await keep_session(tmp_path / "s", 20)
    (tmp_path / "s" / PARQUET).unlink()
    session = open_session_folder(tmp_path / "s")
    assert not session.was_cut
    assert len(session.estimates["frame"]) == 20


async def test_what_is_no_session_or_of_a_newer_form_is_one_clear_line(tmp_path: Path) -> None:
    for folder in (tmp_path / "nothing", tmp_path):
        with pytest.raises(UserError, match="holds no session"):
            open_session_folder(folder)
    await keep_session(tmp_path / "s", 3)
    facts = json.loads((tmp_path / "s" / FACTS).read_text())
    (tmp_path / "s" / FACTS).write_text(json.dumps({**facts, "schema": 99}))
    with pytest.raises(UserError, match="form 99"):
        open_session_folder(tmp_path / "s")
