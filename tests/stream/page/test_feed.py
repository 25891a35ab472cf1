"""What viewers are sent: a minute at once, then what is new, in bounded memory, the newest first."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stream.page.feed import (
    HISTORY_S,
    MOST_HISTORY_FRAMES,
    MOST_MARKERS,
    MOST_UTTERANCES,
    MOST_WAITING_FRAMES,
    Feed,
    Viewer,
)
from tests.stream.brokers import estimate, status


def feed_of(frames: int, **options: Any) -> Feed:
    feed = Feed(shows_words=True, **options)
    for frame in range(frames):
        feed.take("", "estimate", estimate(frame).to_json())
    return feed


def taken(viewer: Viewer | None, publisher: str = "") -> dict[str, Any]:
    assert viewer is not None
    update = viewer.take()
    assert update is not None
    found: dict[str, Any] = json.loads(update)["publishers"][publisher]
    return found


def transcript(utterance: int, text: str, *, settled: bool = False) -> dict[str, Any]:
    return {"schema": 1, "utterance": utterance, "text": text, "settled": settled, "words": []}


def marker(text: str) -> dict[str, Any]:
    return {"time_s": 1.5, "marked_at": 1.0, "text": text, "origin": "page"}


def test_a_frame_is_sent_as_a_row() -> None:
    feed = feed_of(1)
    feed.take("", "settled", estimate(0, settled=True).to_json())
    update = taken(feed.join())
    assert update["provisional"] == [[0, 0.0, 0.25, -0.5, 0.1, 0.05, 3]]
    assert update["settled"] == update["provisional"]
    assert update["anew"] is True


def test_who_comes_late_gets_the_last_minute_and_then_what_is_new() -> None:
    feed = feed_of(30 * 90)
    viewer = feed.join()
    first = taken(viewer)["provisional"]
    assert first[-1][0] == 30 * 90 - 1
    assert first[-1][1] - first[0][1] == pytest.approx(HISTORY_S, abs=0.05)
    assert viewer is not None
    assert viewer.take() is None
    feed.take("", "estimate", estimate(30 * 90).to_json())
    update = taken(viewer)
    assert [row[0] for row in update["provisional"]] == [30 * 90]
    assert "anew" not in update


def test_the_past_that_waits_for_a_new_viewer_is_no_drop_when_a_frame_comes_first() -> None:
    feed = feed_of(30 * 60)
    viewer = feed.join()
    feed.take("", "estimate", estimate(30 * 60).to_json())
    assert feed.dropped == 0
    assert len(taken(viewer)["provisional"]) == 30 * 60 + 1
    for frame in range(MOST_WAITING_FRAMES + 10):
        feed.take("", "estimate", estimate(30 * 60 + 1 + frame).to_json())
    assert feed.dropped == 10


def test_what_is_kept_is_bounded() -> None:
    feed = Feed(shows_words=True)
    for frame in range(MOST_HISTORY_FRAMES + 500):
        message = {**estimate(frame).to_json(), "time_s": frame / 1000}
        feed.take("", "estimate", message)
        feed.take("", "transcript", transcript(frame, "x" * 5000))
        feed.take("", "marker", marker(str(frame)))
    update = taken(feed.join())
    assert len(update["provisional"]) == MOST_HISTORY_FRAMES
    assert len(update["words"]) == MOST_UTTERANCES
    assert len(update["markers"]) == MOST_MARKERS
    assert all(len(text) <= 600 for _, text, _ in update["words"])


def test_a_slow_viewer_misses_the_oldest_and_is_counted_and_another_misses_nothing() -> None:
    feed = feed_of(0)
    slow, quick = feed.join(), feed.join()
    received = []
    for frame in range(MOST_WAITING_FRAMES + 100):
        feed.take("", "estimate", estimate(frame).to_json())
        received += [row[0] for row in taken(quick)["provisional"]]
    assert received == list(range(MOST_WAITING_FRAMES + 100))
    rows = taken(slow)["provisional"]
    assert [rows[0][0], rows[-1][0]] == [100, MOST_WAITING_FRAMES + 99]
    assert feed.dropped == 100
    assert slow is not None
    feed.leave(slow)
    feed.leave(slow)
    assert (feed.dropped, feed.viewers) == (100, 1)


def test_of_states_the_newest_is_sent() -> None:
    feed = feed_of(1)
    viewer = feed.join()
    for frames in (1, 2, 3):
        feed.take("", "status", status(frames=frames).to_json())
    assert taken(viewer)["status"]["frames"] == 3


def test_words_that_change_are_sent_once_and_only_where_they_are_published() -> None:
    feed = feed_of(1)
    viewer = feed.join()
    feed.take("", "transcript", transcript(0, "hell"))
    feed.take("", "transcript", transcript(0, "hello", settled=True))
    assert taken(viewer)["words"] == [[0, "hello", True]]
    silent = Feed(shows_words=False)
    silent.take("", "transcript", transcript(0, "hello"))
    assert not silent.knows("")


def test_another_run_under_the_same_name_begins_anew() -> None:
    feed = Feed(shows_words=True)
    for frame in range(50):
        feed.take("desk", "estimate", estimate(frame).to_json())
    feed.take("desk", "status", status().to_json())
    viewer = feed.join()
    taken(viewer, "desk")
    feed.take("desk", "estimate", estimate(50).to_json())
    feed.take("desk", "estimate", estimate(0).to_json())
    update = taken(viewer, "desk")
    assert update["anew"] is True
    assert [row[0] for row in update["provisional"]] == [0]
    assert update["status"]["source"] == "talk.mp4"


def test_settled_frames_that_a_broker_delivers_twice_are_taken_once() -> None:
    feed = feed_of(3)
    for frame in (0, 1, 2, 1, 2):
        feed.take("", "settled", estimate(frame, settled=True).to_json())
    assert [row[0] for row in taken(feed.join())["settled"]] == [0, 1, 2]


def test_publishers_and_viewers_are_bounded() -> None:
    feed = Feed(shows_words=True, most_publishers=2, most_viewers=2)
    for name in ("a", "b", "c"):
        feed.take(name, "available", "online")
    assert [feed.knows(name) for name in ("a", "b", "c")] == [True, True, False]
    assert [feed.join() is None for _ in range(3)] == [False, False, True]
    assert feed.refused == 1


@pytest.mark.parametrize(
    "wrong", [{"valence": float("nan")}, {"time_s": 1e300}, {"time_s": float("inf")}, {"time_s": -1}]
)
def test_what_cannot_be_drawn_is_counted_and_not_sent(wrong: dict[str, float]) -> None:
    feed = feed_of(1)
    feed.take("", "estimate", {**estimate(1).to_json(), **wrong})
    assert feed.not_a_number == 1
    assert len(taken(feed.join())["provisional"]) == 1


def test_a_spread_beyond_the_scale_is_shown_as_all_of_it() -> None:
    feed = feed_of(0)
    feed.take("", "estimate", {**estimate(0).to_json(), "spread": {"valence": 1e300, "arousal": 0.5}})
    assert taken(feed.join())["provisional"][0][4:6] == [2.0, 0.5]


def test_names_and_texts_of_others_cannot_break_out_of_their_place() -> None:
    feed = Feed(shows_words=True)
    name = '"}}\n\nevent: hello\ndata: {'
    feed.take(name, "status", status(source=name).to_json())
    feed.take(name, "marker", marker(name))
    viewer = feed.join()
    assert viewer is not None
    update = viewer.take()
    assert update is not None
    assert "\n" not in update
    assert json.loads(update)["publishers"][name]["status"]["source"] == name


async def test_a_viewer_is_woken_and_ended() -> None:
    feed = feed_of(0)
    viewer = feed.join()
    assert viewer is not None
    assert viewer.take() is None
    feed.show("", {"rgb": ""})
    await viewer.wait()
    assert taken(viewer) == {"preview": {"rgb": ""}}
    assert json.loads((feed.join() or viewer).take() or "null") is None
    feed.end()
    await viewer.wait()
    assert viewer.ended


def test_a_broker_that_is_away_is_said_of_every_publisher() -> None:
    feed = Feed(shows_words=True)
    for name in ("a", "b"):
        feed.take(name, "available", "online")
    feed.link("lost")
    viewer = feed.join()
    assert viewer is not None
    sent = json.loads(viewer.take() or "")["publishers"]
    assert [sent[name]["link"] for name in ("a", "b")] == ["lost", "lost"]
