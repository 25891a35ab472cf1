"""Frames and sound that a program pushes: exact where every frame counts, never waiting where it is live."""

from __future__ import annotations

import asyncio
import threading
import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import affectstream
from affectstream import sessions
from stream.sinks.record import record_line
from stream.sources.events import AudioChunk, VideoFrame
from stream.sources.file import MediaFile
from tests.affectstream.conftest import running

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from affectstream.sessions import Session

START_S = 1000.25
"""What the program's clock says at the first frame."""


def push_all(session: Session, recording: Path, each: Callable[[], None] = lambda: None) -> None:
    """A recording's frames and sound, on a clock that does not begin at 0."""
    for event in MediaFile(recording).events():
        if isinstance(event, VideoFrame):
            session.push_frame(event.rgb, START_S + event.time_s)
        elif isinstance(event, AudioChunk):
            session.push_audio(event.samples, START_S + event.start_sample / 16_000)
        each()


def picture(level: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.full((48, 64, 3), level, np.uint8)


def test_a_recording_that_is_pushed_is_estimated_as_its_file(talk: Path) -> None:
    options: Any = {"bundle": "demo", "recogniser": "vosk-tiny", "accelerator": "eager"}
    taken: list[affectstream.Estimate] = []
    with affectstream.open_session(live=False, kind="settled", **options) as session:
        push_all(session, talk, lambda: taken.extend(session.take()))
        taken += session.finish()
        assert session.first_frame_s == START_S
    file = affectstream.estimate(talk, **options)
    assert [record_line(e) for e in taken] == [record_line(e) for e in file.estimates]


def test_a_recording_is_held_back_until_estimates_are_taken(
    quick: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "NOBODY_TAKES_S", 0.5)

    def push_many(session: Session) -> None:
        for n in range(400):
            session.push_frame(picture(n % 200), n / 30)

    with affectstream.open_session(live=False, sound=False, **quick) as session:
        with pytest.raises(affectstream.UserError, match=r"call take\(\) between pushes"):
            push_many(session)
        assert session.take()


def test_a_loop_that_pushes_takes_nothing_while_it_waits(
    quick: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "NOBODY_TAKES_S", 0.5)
    with affectstream.open_session(live=False, sound=False, **quick) as session:
        for n in range(20):
            session.push_frame(picture(n), n / 30)

        def push_in_loop() -> None:
            for n, _ in enumerate(session, start=20):
                for part in (0.0, 0.5):
                    session.push_frame(picture(n % 200), (n + part) / 30)

        with pytest.raises(affectstream.UserError, match="push in another thread than that of your loop"):
            push_in_loop()


async def test_a_push_that_holds_up_its_own_event_loop_says_so(
    quick: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "NOBODY_TAKES_S", 0.5)
    session = await asyncio.to_thread(affectstream.open_session, live=False, sound=False, **quick)

    async def take_all() -> None:
        async for _ in session:
            await asyncio.sleep(0.05)

    async def push_all_at_once() -> None:
        for n in range(400):
            session.push_frame(picture(n % 200), n / 30)
            await asyncio.sleep(0)

    taking = asyncio.create_task(take_all())
    try:
        with pytest.raises(affectstream.UserError, match="push in another thread than that of your loop"):
            await push_all_at_once()
    finally:
        await asyncio.to_thread(session.close)
        await taking


def test_estimates_may_be_taken_in_another_thread(talk: Path, quick: dict[str, Any]) -> None:
    taken: list[affectstream.Estimate] = []
    with affectstream.open_session(live=False, kind="settled", **quick) as session:
        taker = threading.Thread(target=lambda: taken.extend(session))
        taker.start()
        push_all(session, talk)
        rest = session.finish()
        taker.join()
    assert sorted(e.frame for e in (*taken, *rest)) == list(range(90))


def test_a_live_session_answers_at_the_bundles_rate(quick: dict[str, Any]) -> None:
    """Ten pictures a second become thirty estimates a second, of which two in three repeat a picture."""
    taken: list[affectstream.Estimate] = []
    began_s = time.monotonic()
    with affectstream.open_session(kind="provisional", **quick) as session:
        while len(taken) < 40 and time.monotonic() - began_s < 60:
            now_s = time.monotonic()
            session.push_frame(picture(len(taken)), now_s)
            session.push_audio(np.zeros(1600, np.int16), now_s - 0.1)
            time.sleep(0.1)
            taken += session.take()
        assert session.status is not None
        assert session.status.inputs["camera"].health == "ok"
        assert session.status.inputs["microphone"].health == "ok"
    assert len(taken) >= 40
    assert all(np.isclose(e.time_s * 30, round(e.time_s * 30)) for e in taken)
    assert all(a.time_s < b.time_s for a, b in pairwise(taken))


def test_a_live_session_never_waits(quick: dict[str, Any]) -> None:
    with affectstream.open_session(sound=False, **quick) as session:
        began_s = time.monotonic()
        for n in range(300):
            session.push_frame(picture(n % 200), n / 30)
        assert time.monotonic() - began_s < 5
        session.finish()
        assert session.status is not None
        assert session.status.drops["camera_surplus"] > 200


async def test_a_session_is_looped_over_beside_an_event_loop(quick: dict[str, Any]) -> None:
    session = await asyncio.to_thread(affectstream.open_session, kind="provisional", **quick)

    async def push() -> None:
        for n in range(15):
            session.push_frame(picture(n), n / 30)
            await asyncio.sleep(1 / 30)

    pushing = asyncio.create_task(push())
    try:
        async for estimate in session:
            if estimate.frame >= 5:
                break
        await pushing
    finally:
        await asyncio.to_thread(session.close)


@pytest.mark.slow
def test_sessions_that_share_a_bundle_load_it_once_and_embed_together(quick: dict[str, Any]) -> None:
    shared = affectstream.load_bundle("demo", accelerator="eager")
    options: Any = {"bundle": shared, "recogniser": "vosk-tiny", "kind": "provisional"}
    opened = [affectstream.open_session(**options) for _ in range(3)]
    rng = np.random.default_rng(5)
    counts = [0] * len(opened)
    try:
        for n in range(60):
            noise = rng.integers(0, 255, (48, 64, 3), np.uint8)
            for at, session in enumerate(opened):
                session.push_frame(noise, n / 30)
                session.push_audio(rng.uniform(-0.1, 0.1, 533), n / 30)
                counts[at] += len(session.take())
            time.sleep(1 / 30)
    finally:
        for session in opened:
            session.close()
    assert all(counts)
    (runtime,) = {id(r): r for r in shared.kept("runtime")}.values()
    assert runtime.calls <= runtime.requests


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (np.zeros((4, 4, 3), np.float32), r"float32 \(4, 4, 3\)"),
        (np.zeros((4, 4), np.uint8), r"uint8 \(4, 4\)"),
        (np.zeros((4, 4, 4), np.uint8), "RGB"),
    ],
)
def test_what_is_no_picture_is_refused(session: Session, image: Any, says: str) -> None:
    with pytest.raises(affectstream.UserError, match=says):
        session.push_frame(image, 0.0)


def test_what_is_no_sound_or_no_time_is_refused(session: Session) -> None:
    with pytest.raises(affectstream.UserError, match="int32"):
        session.push_audio(np.zeros(4, np.int32), 0.0)
    with pytest.raises(affectstream.UserError, match="finite"):
        session.push_audio(np.full(4, np.nan), 0.0)
    with pytest.raises(affectstream.UserError, match="a time of nan"):
        session.push_frame(picture(0), float("nan"))
    with pytest.raises(affectstream.UserError, match="samples a second"):
        session.push_audio(np.zeros(4), 0.0, sample_rate=16)


def test_frames_of_a_recording_come_in_order(session: Session) -> None:
    session.push_frame(picture(0), 1.0)
    with pytest.raises(affectstream.UserError, match="not later than the last one"):
        session.push_frame(picture(0), 1.0)


def test_other_rates_and_channels_are_taken(session: Session) -> None:
    session.push_frame(picture(0), 0.0)
    session.push_audio(np.zeros((4410, 2), np.int16), 0.0, sample_rate=44_100)
    session.push_frame(picture(0), 1 / 30)
    assert [e.frame for e in session.finish() if e.settled] == [0, 1]
    with pytest.raises(affectstream.AffectError, match="the session is over"):
        session.push_frame(picture(0), 2.0)


@pytest.fixture(name="session")
def _session(quick: dict[str, Any]) -> Any:
    with affectstream.open_session(live=False, **quick) as opened:
        yield opened


def test_a_session_that_cannot_be_opened_leaves_nothing_behind(quick: dict[str, Any]) -> None:
    with pytest.raises(affectstream.UserError, match="no recogniser 'nobody'"):
        affectstream.open_session(**{**quick, "recogniser": "nobody"})
    with pytest.raises(affectstream.UserError, match="leave frame_rate out"):
        affectstream.open_session(frame_rate=10.0, **quick)
    assert running() == []


def test_a_session_that_is_forgotten_is_closed(quick: dict[str, Any]) -> None:
    session = affectstream.open_session(**quick)
    del session
    assert running() == []
