"""The page's addresses: its own files, the stream of events, commands and markers."""

from __future__ import annotations

import json
import re
import socket
import time
from importlib.resources import files
from itertools import islice
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from stream.page.options import PageOptions
from tests.stream.page.serving import ServedPage, loop_estimate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.requests import Request


@pytest.fixture
def page() -> Iterator[ServedPage]:
    with ServedPage() as served:
        served.tell_minute(60)
        yield served


def events(answer: httpx.Response) -> Iterator[tuple[str, dict[str, Any]]]:
    name = ""
    for line in answer.iter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


def test_the_page_and_all_that_it_names_are_served(page: ServedPage) -> None:
    html = httpx.get(page.url).text
    named = re.findall(r'(?:src|href)="(/[^"]+)"', html)
    assert {"/assets/page.js", "/assets/page.css", "/assets/icon.svg"} == set(named)
    for name in named:
        text = httpx.get(page.url + name[1:]).text
        for module in re.findall(r'from "\./([\w.]+)"', text):
            assert (
                httpx.get(f"{page.url}assets/{module}").headers["content-type"].startswith("text/javascript")
            )


def test_nothing_of_the_page_is_elsewhere_or_inline() -> None:
    for file in files("stream.page").joinpath("assets").iterdir():
        text = file.read_text("utf-8").replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert not re.search(r"https?://|@import|url\(", text), file.name
        if file.name.endswith(".html"):
            assert not re.search(r"<style|<script(?![^>]+src=)|\sstyle=|\son\w+=", text), file.name
        if file.name.endswith(".js"):
            assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", text), (
                file.name
            )


@pytest.mark.parametrize(
    "path",
    [
        "assets/nothing.js",
        "assets/..%2foptions.py",
        "assets/../options.py",
        "assets/login.html",
        "docs",
        "openapi.json",
    ],
)
def test_nothing_else_is_served(page: ServedPage, path: str) -> None:
    assert httpx.get(page.url + path).status_code == 404


def test_a_viewer_is_greeted_given_the_past_and_told_what_is_new(page: ServedPage) -> None:
    with httpx.stream("GET", f"{page.url}events", timeout=10) as answer:
        heard = events(answer)
        assert answer.headers["content-type"].startswith("text/event-stream")
        name, hello = next(heard)
        assert (name, hello["kind"], hello["words"], hello["preview"]) == ("hello", "run", False, False)
        name, update = next(heard)
        assert name == "update"
        assert update["publishers"][""]["provisional"][-1][0] == 59
        page.tell("offer", loop_estimate(60))
        name, update = next(heard)
        assert [row[0] for row in update["publishers"][""]["provisional"]] == [60]


def test_a_viewer_hears_that_the_server_is_there_and_when_it_ends(page: ServedPage) -> None:
    with httpx.stream("GET", f"{page.url}events", timeout=10) as answer:
        heard = events(answer)
        assert [next(heard)[0] for _ in range(3)] == ["hello", "update", "beat"]
        page.stop()
        assert [name for name, _ in heard] == ["bye"]


@pytest.mark.parametrize("command", ["pause", "resume", "recenter"])
def test_commands_reach_the_engine(page: ServedPage, command: str) -> None:
    answer = httpx.post(f"{page.url}command", json={"publisher": "", "command": command})
    assert (answer.status_code, answer.json()["obeyed"]) == (200, True)
    assert page.engine.commands == [command]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"command": "explode"}, 400),
        ({"command": None}, 400),
        ([], 400),
        ({"command": "pause", "publisher": "nobody"}, 404),
        ({"command": "pause", "more": "x" * 9000}, 400),
    ],
)
def test_other_commands_are_answered_and_obeyed_by_nobody(page: ServedPage, body: Any, status: int) -> None:
    answer = httpx.post(f"{page.url}command", json=body)
    assert (answer.status_code, answer.json()["obeyed"]) == (status, False)
    assert page.engine.commands == []


def test_another_site_s_form_is_not_obeyed(page: ServedPage) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        answer = httpx.post(
            f"{page.url}command", content=b'{"command": "pause"}', headers={"Content-Type": kind}
        )
        assert answer.status_code == 400
    assert page.engine.commands == []


def test_markers_reach_the_engine_and_come_back(page: ServedPage) -> None:
    answer = httpx.post(f"{page.url}marker", json={"text": "  question 1 "})
    assert answer.json() == {"obeyed": True, "reason": ""}
    assert [(marker.text, marker.origin) for marker in page.engine.markers] == [("question 1", "page")]
    with httpx.stream("GET", f"{page.url}events", timeout=10) as heard:
        update = list(islice(events(heard), 2))[1][1]
    assert update["publishers"][""]["markers"] == [[9.5, 1.0, "question 1", "page"]]


@pytest.mark.parametrize("text", ["", "   ", "x" * 201, "two\nlines", 7, None])
def test_a_marker_that_cannot_be_is_answered_in_words(page: ServedPage, text: Any) -> None:
    answer = httpx.post(f"{page.url}marker", json={"text": text})
    assert answer.status_code == 400
    assert "marker" in answer.json()["reason"]
    assert page.engine.markers == []


def test_viewers_are_bounded(page: ServedPage) -> None:
    with httpx.Client(limits=httpx.Limits(max_connections=64), timeout=10) as client:
        request = client.build_request("GET", f"{page.url}events")
        held = [client.send(request, stream=True) for _ in range(32)]
        assert client.get(f"{page.url}events").status_code == 503
        assert client.head(f"{page.url}events").status_code == 503
        for answer in held:
            answer.close()
    assert page.sink.counters["page_viewers_refused"] == 1


def test_who_only_asks_whether_there_is_room_takes_none(page: ServedPage) -> None:
    assert httpx.head(f"{page.url}events", timeout=5).status_code == 200
    assert page.sink.counters["page_viewers"] == 0


def test_a_viewer_that_takes_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream.page.site.STUCK_S", 0.3)
    monkeypatch.setattr("stream.page.server.MOST_SENDING_BYTES", 4096)
    frames = [loop_estimate(frame) for frame in range(900)]
    with ServedPage() as page:
        page.tell_minute(60)
        with socket.create_connection(("127.0.0.1", page.options.port)) as stuck:
            stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            stuck.sendall(b"GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            joined, cut_off = False, False
            deadline = time.monotonic() + 60
            while not cut_off and time.monotonic() < deadline:
                page.tell("offer", *frames)
                viewers = page.sink.counters["page_viewers"]
                joined, cut_off = joined or viewers == 1, joined and viewers == 0
            assert cut_off


def test_further_routes_are_served_and_guarded() -> None:
    async def metrics(request: Request) -> Response:
        return PlainTextResponse("frames 1")

    options = PageOptions(port=0, token="correct-horse-battery")
    with ServedPage(options, routes=[Route("/metrics", metrics)]) as page:
        assert httpx.get(f"{page.url}metrics").status_code == 401
        shown = {"Authorization": "Bearer correct-horse-battery"}
        assert httpx.get(f"{page.url}metrics", headers=shown).text == "frames 1"
