"""A web server in the engine's loop: a taken port is one line, and signals stay the run's."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
import time

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from models.errors import UserError
from stream.page.options import PageOptions
from stream.page.server import WebServer, bind, check_free
from tests.stream.brokers import until


def server(port: int = 0) -> WebServer:
    return WebServer(
        Starlette(routes=[Route("/", lambda request: PlainTextResponse("here"))]), "127.0.0.1", port
    )


async def test_it_serves_until_it_is_closed_and_leaves_signals_alone() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    serving = server()
    await serving.open()
    running = asyncio.create_task(serving.run())
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"http://127.0.0.1:{serving.port}/")
    assert answer.text == "here"
    assert "server" not in answer.headers
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    port = serving.port
    await serving.close()
    bind("127.0.0.1", port).close()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_cancelled_while_a_name_is_looked_up_it_leaves_no_port_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    began, bound = threading.Event(), []

    def bind_slowly(host: str, port: int) -> socket.socket:
        began.set()
        time.sleep(0.3)
        bound.append(bind(host, port))
        return bound[-1]

    monkeypatch.setattr("stream.page.server.bind", bind_slowly)
    serving = server()
    opening = asyncio.create_task(serving.open())
    assert await asyncio.to_thread(began.wait, 20)
    opening.cancel()
    await asyncio.gather(opening, return_exceptions=True)
    await serving.close()
    await until(lambda: bound and bound[0].fileno() == -1)


async def test_a_taken_port_is_one_line_and_is_seen_before_too() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        taken = server(port)
        with pytest.raises(
            UserError, match=f"127.0.0.1:{port}: something else has this port.*--page-address"
        ) as refused:
            await taken.open()
        assert "\n" not in str(refused.value)
        await taken.close()
        with pytest.raises(UserError, match="something else has this port"):
            check_free(PageOptions(port=port))
    check_free(PageOptions(port=port))


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_that_is_not_this_machine_s_is_one_line(host: str) -> None:
    with pytest.raises(UserError, match=rf"{host}:80.*--page-address"):
        bind(host, 80)
