"""The page as a sink: it delays nobody, says where it is, and shows no more than was asked for."""

from __future__ import annotations

import base64
import contextlib
import socket
import time

import httpx
import pytest

from stream.messages import Transcript, TranscriptWord
from stream.page.options import PageOptions
from stream.page.sink import PREVIEW_EVERY_S, introduction
from stream.sinks.base import CropTaker, Sink
from tests.stream.page.serving import ServedPage, loop_estimate
from tests.stream.page.test_site import events


def test_it_is_a_sink_that_takes_crops() -> None:
    with ServedPage() as page:
        assert isinstance(page.sink, Sink)
        assert isinstance(page.sink, CropTaker)


def test_a_log_is_told_where_it_is_without_the_token(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "stream")
    with ServedPage(PageOptions(port=0, token="made-up-token", generated=True)) as page:
        assert [record.getMessage() for record in caplog.records] == [f"the page is at {page.url}"]
        assert "token=made-up-token" in page.said[0]


def test_it_says_where_it_is_and_a_token_only_where_it_was_made_up() -> None:
    with ServedPage() as page:
        assert page.said == [f"the page is at {page.url}"]
    made_up = PageOptions("192.0.2.1", 8080, "made-up-token", generated=True)
    assert "?token=made-up-token" in introduction(made_up, made_up.url())
    given = PageOptions("192.0.2.1", 8080, "a-given-token")
    assert "a-given-token" not in introduction(given, given.url())


@pytest.mark.parametrize("published", [True, False])
def test_words_are_shown_only_where_they_are_published(published: bool) -> None:
    with ServedPage(publish_transcript=published) as page:
        page.tell("offer", loop_estimate(0))
        page.tell("offer_transcript", Transcript(0, (TranscriptWord("hello", 0.0, 0.4),), True))
        with httpx.stream("GET", f"{page.url}events", timeout=10) as answer:
            heard = events(answer)
            assert next(heard)[1]["words"] is published
            assert ("words" in next(heard)[1]["publishers"][""]) is published


def test_the_crop_is_shown_only_with_preview_and_a_few_times_a_second() -> None:
    for preview in (False, True):
        with ServedPage(PageOptions(port=0, preview=preview)) as page:
            page.tell("offer", loop_estimate(0))
            with httpx.stream("GET", f"{page.url}events", timeout=10) as answer:
                heard = events(answer)
                assert [next(heard)[0] for _ in range(2)] == ["hello", "update"]
                until = time.monotonic() + 4 * PREVIEW_EVERY_S
                shown = 0
                while time.monotonic() < until:
                    page.show_crop(120)
                    page.tell("offer", loop_estimate(1 + shown))
                    update = next(heard)[1].get("publishers", {}).get("", {})
                    if "preview" in update:
                        shown += 1
                        assert base64.b64decode(update["preview"]["rgb"]) == bytes([120]) * (48 * 48 * 3)
                assert 1 <= shown <= 5 if preview else shown == 0


def test_a_viewer_that_reads_nothing_delays_nobody() -> None:
    with ServedPage() as page:
        page.tell_minute(60)
        stuck = socket.create_connection(("127.0.0.1", page.options.port))
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.sendall(b"GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        with httpx.stream("GET", f"{page.url}events", timeout=10) as answer:
            heard = events(answer)
            began = time.monotonic()
            page.tell("offer", *(loop_estimate(frame) for frame in range(60, 12_000)))
            assert time.monotonic() - began < 5
            newest = -1
            while newest < 11_999 and time.monotonic() < began + 60:
                update = next(heard)[1].get("publishers", {}).get("", {})
                newest = max([newest, *(row[0] for row in update.get("provisional", []))])
        assert newest == 11_999
        assert page.sink.drops["page_viewer_slow"] > 0
        stuck.close()


def test_a_viewer_that_reads_nothing_does_not_hold_up_the_end(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stream.page.server.MOST_SENDING_BYTES", 4096)
    frames = [loop_estimate(frame) for frame in range(3000)]
    deadline = time.monotonic() + 60
    with ServedPage() as page, socket.create_connection(("127.0.0.1", page.options.port)) as stuck:
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.sendall(b"GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        while page.sink.drops["page_viewer_slow"] == 0:
            assert time.monotonic() < deadline
            page.tell("offer", *frames)
        began = time.monotonic()
        page.stop()
        assert time.monotonic() - began < 4
        # Its connection is closed, and nothing waits for it any more.
        stuck.settimeout(20)
        with contextlib.suppress(ConnectionResetError):
            while stuck.recv(65536):
                pass
    assert caplog.records == []
