"""Who may see the page: other sites, other names and those without the token are turned away."""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from stream.page.options import PageOptions
from stream.page.security import HEADERS, Guard

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request

TOKEN = "correct-horse-battery"


def client(options: PageOptions, url: str = "http://127.0.0.1:8080") -> TestClient:
    async def answer(request: Request) -> Response:
        return PlainTextResponse("secret")

    methods: Sequence[str] = ["GET", "POST"]
    routes = [Route("/{path:path}", answer, methods=methods)]
    site = Starlette(routes=routes, middleware=[Middleware(Guard, options=options)])
    return TestClient(site, base_url=url, follow_redirects=False)


HERE = PageOptions()
ANYWHERE = PageOptions("0.0.0.0", 8080, TOKEN)


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost:9000", "LOCALHOST", "[::1]:8080", "127.0.0.1"])
def test_this_machine_s_names_are_answered(host: str) -> None:
    assert client(HERE).get("/", headers={"Host": host}).text == "secret"


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8080",
        "192.168.0.9:8080",
        "127.0.0.1.evil.example",
        "a@127.0.0.1",
        "",
        "[::1",
    ],
)
def test_another_name_is_misdirected(host: str) -> None:
    answer = client(HERE).get("/", headers={"Host": host})
    assert (answer.status_code, "secret" in answer.text) == (421, False)


def test_beyond_this_machine_its_name_and_addresses_are_answered_and_other_names_are_not() -> None:
    shown = {"Authorization": f"Bearer {TOKEN}"}
    for host in (socket.gethostname(), "192.168.0.9:8080", "[fe80::1]:8080"):
        assert client(ANYWHERE).get("/", headers={"Host": host, **shown}).status_code == 200
    assert client(ANYWHERE).get("/", headers={"Host": "evil.example", **shown}).status_code == 421
    named = PageOptions("desk.lan", 8080, TOKEN)
    assert client(named).get("/", headers={"Host": "desk.lan:8080", **shown}).status_code == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:9999", "http://localhost:8080"]
)
def test_another_site_is_refused(origin: str) -> None:
    for answer in (
        client(HERE).post("/command", headers={"Origin": origin}),
        client(HERE).get("/events", headers={"Origin": origin}),
    ):
        assert answer.status_code == 403


def test_the_page_s_own_requests_are_answered() -> None:
    own = {"Origin": "http://127.0.0.1:8080", "Sec-Fetch-Site": "same-origin"}
    assert client(HERE).post("/command", headers=own).status_code == 200


def test_a_link_from_elsewhere_may_be_followed_and_nothing_may_be_embedded() -> None:
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert client(HERE).get("/", headers=link).status_code == 200
    assert client(HERE).get("/", headers={**link, "Sec-Fetch-Dest": "iframe"}).status_code == 403
    assert client(HERE).post("/command", headers=link).status_code == 403
    for site in ("cross-site", "same-site"):
        embedded = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "script"}
        assert client(HERE).get("/assets/page.js", headers=embedded).status_code == 403


def test_every_answer_has_the_headers() -> None:
    answers = [
        client(HERE).get("/"),
        client(HERE).get("/", headers={"Host": "evil.example"}),
        client(ANYWHERE).get("/events"),
    ]
    for answer in answers:
        assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS
    policy = HEADERS["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert not re.search(r"https?:|\*", policy)


def test_without_the_token_there_is_a_form_and_nothing_else() -> None:
    visitor = client(ANYWHERE)
    page = visitor.get("/")
    assert page.status_code == 401
    assert 'name="token"' in page.text
    for path in ("/events", "/assets/page.js", "/metrics"):
        answer = visitor.get(path)
        assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert visitor.post("/command", json={"command": "pause"}).status_code == 401


@pytest.mark.parametrize("way", ["address", "form"])
def test_the_token_is_shown_once_and_is_in_no_address_afterwards(way: str) -> None:
    visitor = client(ANYWHERE)
    given = (
        visitor.get("/", params={"token": TOKEN})
        if way == "address"
        else visitor.post("/login", data={"token": TOKEN})
    )
    assert (given.status_code, given.headers["Location"]) == (303, "/")
    cookie = given.headers["Set-Cookie"]
    assert TOKEN not in cookie
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    assert visitor.get("/").text == "secret"
    # The same token after a restart of the server: the browser need not ask again.
    again = client(ANYWHERE)
    again.cookies.update(visitor.cookies)
    assert again.get("/events").text == "secret"


@pytest.mark.parametrize("token", [TOKEN, "that-of-an-earlier-run"])
def test_a_browser_that_is_known_keeps_no_token_in_its_address_either(token: str) -> None:
    visitor = client(ANYWHERE)
    visitor.get("/", params={"token": TOKEN})
    again = visitor.get("/", params={"token": token})
    assert (again.status_code, again.headers["Location"]) == (303, "/")
    assert visitor.get("/").text == "secret"


def test_the_form_that_is_reloaded_or_sent_again_leads_to_the_page() -> None:
    visitor = client(ANYWHERE)
    assert visitor.get("/login").headers["Location"] == "/"
    visitor.post("/login", data={"token": TOKEN})
    for answer in (
        visitor.get("/login"),
        visitor.post("/login", data={"token": TOKEN}),
        visitor.post("/login", data={"token": "wrong"}),
    ):
        assert (answer.status_code, answer.headers["Location"]) == (303, "/")


@pytest.mark.parametrize("token", ["", "wrong", TOKEN[:-1], TOKEN + "x", "é" * 3, "x" * 100_000])
def test_another_token_opens_nothing(token: str) -> None:
    visitor = client(ANYWHERE)
    for given in (
        visitor.get("/", params={"token": token[:2000]}),
        visitor.post("/login", data={"token": token}),
    ):
        assert given.status_code == 401
        assert "set-cookie" not in given.headers
    assert visitor.get("/events", headers={"Cookie": f"affect-page-8080={TOKEN}"}).status_code == 401


def test_a_cookie_of_another_token_opens_nothing() -> None:
    visitor = client(ANYWHERE)
    visitor.get("/", params={"token": TOKEN})
    other = client(PageOptions("0.0.0.0", 8080, "another-token-altogether"))
    other.cookies.update(visitor.cookies)
    assert other.get("/events").status_code == 401


def test_programs_show_the_token_in_a_header() -> None:
    assert client(ANYWHERE).get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).text == "secret"
    assert client(ANYWHERE).get("/metrics", headers={"Authorization": "Bearer wrong"}).status_code == 401
