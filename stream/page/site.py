"""The page's addresses: its own files, one stream of events, and what can be told back.

Server-sent events and not a WebSocket: everything but a rare command goes one way, a browser joins again by itself,
the stream is plain HTTP that one can look at with curl, and no further package is needed.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final, Protocol, cast, get_args

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from models.errors import UserError
from stream.messages import CommandOutcome, EngineCommand
from stream.page.security import Guard, read_body

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request
    from starlette.routing import BaseRoute
    from starlette.types import Receive, Scope, Send

    from stream.page.feed import Feed, Viewer
    from stream.page.options import PageOptions

UPDATE_EVERY_S: Final = 0.05
"""A viewer is sent what has come meanwhile at most so often."""

BEAT_EVERY_S: Final = 2.0
"""Where there is nothing to send, a viewer is told so often that the server is there."""

STUCK_S: Final = 20.0
"""A viewer that takes nothing for so long is cut off; its browser joins again where it lives."""

LAST_WORDS_S: Final = 0.5
"""At the end, what waits for a viewer has so long to be sent."""

MEDIA_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
NOT_SERVED: Final = ("login.html",)


class Steering(Protocol):
    """Whatever takes commands and markers for a publisher."""

    @property
    def shows_marker_entry(self) -> bool:
        """Whether markers can be taken."""
        ...

    async def command(self, publisher: str, command: EngineCommand) -> CommandOutcome:
        """Obeys, or says why not."""
        ...

    async def mark(self, publisher: str, text: str) -> CommandOutcome:
        """Marks this moment. Raises UserError for a text that no marker can have."""
        ...


def make_site(
    feed: Feed, steering: Steering, options: PageOptions, *, kind: str, routes: Sequence[BaseRoute] = ()
) -> Starlette:
    """The application, guarded. `kind` is `run` or `watch`; further `routes` are guarded like the page's own."""
    assets = _read_assets()
    build = hashlib.sha256(b"".join(assets[name] for name in sorted(assets))).hexdigest()[:16]
    hello = {
        "build": build,
        "kind": kind,
        "words": feed.shows_words,
        "preview": options.preview,
        "markers": steering.shows_marker_entry,
    }

    async def page(request: Request) -> Response:
        return Response(assets["page.html"], media_type=MEDIA_TYPES[".html"])

    async def asset(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in assets or name.endswith(".html"):
            return PlainTextResponse("Not here.\n", 404)
        suffix = name[name.rindex(".") :]
        return Response(assets[name], media_type=MEDIA_TYPES[suffix])

    async def events(request: Request) -> Response:
        if request.method == "HEAD":  # the page asks why it was refused: an event stream cannot tell it
            return Response(status_code=503 if feed.is_full else 200)
        viewer = feed.join()
        if viewer is None:
            return PlainTextResponse("Too many look at this page already.\n", 503)
        return _EventStream(feed, viewer, hello)

    async def command(request: Request) -> Response:
        asked = await _read_object(request)
        if asked is None or asked.get("command") not in get_args(EngineCommand):
            return _refused("this page sends pause, resume or recenter, as JSON", 400)
        publisher = str(asked.get("publisher", ""))
        if not feed.knows(publisher):
            return _refused("nobody here goes by that name", 404)
        return _told(await steering.command(publisher, cast("EngineCommand", asked["command"])))

    async def marker(request: Request) -> Response:
        asked = await _read_object(request)
        if asked is None or not isinstance(asked.get("text"), str):
            return _refused("a marker is a text, as JSON", 400)
        publisher = str(asked.get("publisher", ""))
        if not feed.knows(publisher):
            return _refused("nobody here goes by that name", 404)
        try:
            return _told(await steering.mark(publisher, asked["text"]))
        except UserError as error:
            return _refused(str(error), 400)

    return Starlette(
        routes=[
            Route("/", page),
            Route("/assets/{name}", asset),
            Route("/events", events),
            Route("/command", command, methods=["POST"]),
            Route("/marker", marker, methods=["POST"]),
            *routes,
        ],
        middleware=[Middleware(Guard, options=options)],
    )


def _read_assets() -> dict[str, bytes]:
    """The page's files by name: read once, and nothing else is ever served from the disk."""
    return {
        file.name: file.read_bytes()
        for file in files(__package__).joinpath("assets").iterdir()
        if file.name.endswith(tuple(MEDIA_TYPES)) and file.name not in NOT_SERVED
    }


async def _read_object(request: Request) -> dict[str, Any] | None:
    """The JSON object in a request; None where there is none. Another site's form cannot send this type."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        return None
    body = await read_body(request)
    try:
        read = json.loads(body or b"")
    except (ValueError, RecursionError):
        return None
    return read if isinstance(read, dict) else None


def _told(outcome: CommandOutcome) -> Response:
    status = 200 if outcome.obeyed else 409
    return JSONResponse({"obeyed": outcome.obeyed, "reason": outcome.reason}, status)


def _refused(reason: str, status: int) -> Response:
    return JSONResponse({"obeyed": False, "reason": reason}, status)


class _EventStream(Response):
    """One viewer's stream of server-sent events, until it leaves, is stuck, or nothing more will come.

    `hello` says what this page is, `update` carries all that is new, `beat` nothing, `bye` that the run is over.
    """

    def __init__(self, feed: Feed, viewer: Viewer, hello: dict[str, object]) -> None:
        super().__init__()
        self._feed = feed
        self._viewer = viewer
        self._hello = hello

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends until the end."""
        tasks = {
            asyncio.create_task(self._send_all(send), name="page viewer"),
            asyncio.create_task(_until_gone(receive), name="page viewer gone"),
            asyncio.create_task(self._until_left_behind(), name="page viewer left behind"),
        }
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._feed.leave(self._viewer)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _until_left_behind(self) -> None:
        """The end, and a moment for what waits to be sent: a viewer that takes nothing does not hold it up."""
        await self._viewer.wait_end()
        await asyncio.sleep(LAST_WORDS_S)

    async def _send_all(self, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"x-accel-buffering", b"no")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await _send_event(send, "hello", json.dumps(self._hello), first="retry: 1000\n")
        while True:
            update = self._viewer.take()
            if update is not None:
                await _send_event(send, "update", update)
            elif self._viewer.ended:
                await _send_event(send, "bye", "{}")
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                return
            else:
                try:
                    async with asyncio.timeout(BEAT_EVERY_S):
                        await self._viewer.wait()
                except TimeoutError:
                    await _send_event(send, "beat", "{}")
                continue
            if not self._viewer.ended:
                await asyncio.sleep(UPDATE_EVERY_S)


async def _send_event(send: Send, name: str, data: str, first: str = "") -> None:
    """Raises TimeoutError where the viewer takes nothing."""
    async with asyncio.timeout(STUCK_S):
        body = f"{first}event: {name}\ndata: {data}\n\n".encode()
        await send({"type": "http.response.body", "body": body, "more_body": True})


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
