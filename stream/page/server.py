"""A web server in the engine's own event loop: bound when a run begins, ended with it, and deaf to signals."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from functools import partial
from typing import TYPE_CHECKING, Final

import uvicorn

from models.errors import UserError
from stream.flow.threads import finish_in_thread

if TYPE_CHECKING:
    from collections.abc import Generator

    from starlette.types import ASGIApp

    from stream.page.options import PageOptions

CLOSING_S: Final = 1
BACKLOG: Final = 64

MOST_SENDING_BYTES: Final = 256 * 1024
"""What the system may hold for one viewer: a slow one is to get the newest, not megabytes of what was new once."""

_log = logging.getLogger("uvicorn.error")
# What goes wrong with one request is its browser's to tell; what goes wrong in here is not.
_log.setLevel(logging.ERROR)
# A viewer that takes nothing is cut off, at the end too: that is meant.
MEANT: Final = ("without completing response", "timeout graceful shutdown exceeded")
_log.addFilter(lambda record: not any(meant in record.getMessage() for meant in MEANT))


class _QuietServer(uvicorn.Server):
    """Leaves signals to the run, which ends the server as it ends everything else."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


class WebServer:
    """Serves an ASGI application at one address.

    `open` binds, `run` lasts as long as it is served, `close` ends it: no more connections are taken, and those that
    there are have a second to end.
    """

    def __init__(self, app: ASGIApp, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._socket: socket.socket | None = None
        self._serving: asyncio.Task[None] | None = None
        self._server = _QuietServer(
            uvicorn.Config(
                app,
                http="h11",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=CLOSING_S,
                limit_concurrency=256,
            )
        )

    @property
    def port(self) -> int:
        """The port that is served at; the one asked for before `open`."""
        return self._socket.getsockname()[1] if self._socket is not None else self._port

    async def open(self) -> None:
        """Binds and begins to serve. Raises UserError where the address cannot be had."""
        self._socket = await finish_in_thread(partial(bind, self._host, self._port), undo=socket.socket.close)
        await asyncio.to_thread(self._server.config.load)
        self._serving = asyncio.create_task(self._server.serve(sockets=[self._socket]), name="page server")

    async def run(self) -> None:
        """Until cancelled; raises what ended the server."""
        assert self._serving is not None
        await asyncio.shield(self._serving)

    async def close(self) -> None:
        """Ends the server, within a few seconds."""
        self._server.should_exit = True
        if self._serving is not None:
            await asyncio.wait([self._serving], timeout=3.0 * CLOSING_S)
            self._serving.cancel()
            await asyncio.gather(self._serving, return_exceptions=True)
            for connection in list(self._server.server_state.connections):
                # What waits to be sent to it will never be taken.
                if (transport := getattr(connection, "transport", None)) is not None:
                    transport.abort()
        if self._socket is not None:
            self._socket.close()


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; blocks while a name is looked up. Raises UserError where the address cannot be had."""
    listener: socket.socket | None = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        if hasattr(socket, "SO_EXCLUSIVEADDRUSE"):  # Windows, where SO_REUSEADDR would share a taken port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MOST_SENDING_BYTES)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        if listener is not None:
            listener.close()
        shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if error.errno == errno.EADDRINUSE:
            raise UserError(
                f"the page cannot be served at {shown}: something else has this port",
                way_out="end that, or choose another with --page-address HOST:PORT",
            ) from None
        raise UserError(
            f"the page cannot be served at {shown} ({error.strerror or error})",
            way_out="give an address of this machine with --page-address HOST:PORT",
        ) from None
    listener.setblocking(False)
    return listener


def check_free(options: PageOptions) -> None:
    """Raises UserError where the address cannot be had: asked before what takes minutes, as `bind` will be after."""
    bind(options.host, options.port).close()
