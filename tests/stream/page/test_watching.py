"""The page of a broker's publishers: everybody's estimates, and commands and markers by way of the broker."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import time
from typing import TYPE_CHECKING

import httpx
from rich.console import Console

from stream.flow.backoff import Backoff
from stream.mqtt.sink import MqttSink
from stream.page.options import PageOptions
from stream.page.watching import watch_with_page
from stream.sinks.base import attached
from tests.stream.brokers import Mosquitto, Subscriber, estimate, free_port, status, until

if TYPE_CHECKING:
    from collections.abc import Callable


async def heard_by_a_viewer(url: str) -> dict[str, object]:
    """What somebody who comes now is sent first; nothing where there is no page or publisher yet."""
    with contextlib.suppress(httpx.ConnectError):
        async with httpx.AsyncClient(timeout=10) as client, client.stream("GET", f"{url}events") as answer:
            async for line in answer.aiter_lines():
                if line.startswith("data: ") and "publishers" in line:
                    update: dict[str, object] = json.loads(line.removeprefix("data: "))["publishers"]
                    return update
                if line == "event: beat":
                    break
    return {}


async def until_heard(url: str, is_so: Callable[[dict[str, object]], bool]) -> None:
    """Until somebody who comes then is sent that."""
    deadline = time.monotonic() + 60
    while not is_so(heard := await heard_by_a_viewer(url)):
        assert time.monotonic() < deadline, heard
        await asyncio.sleep(0.1)


async def test_everybody_is_on_the_page_and_can_be_steered(
    mosquitto: Mosquitto, subscribe: Callable[[int], Subscriber]
) -> None:
    subscriber = await asyncio.to_thread(subscribe, mosquitto.port)
    port = free_port()
    url = f"http://127.0.0.1:{port}/"
    watching = asyncio.create_task(
        watch_with_page(
            mosquitto.address,
            PageOptions(port=port),
            console=Console(file=io.StringIO(), width=80),
            backoff=Backoff(first_s=0.05, most_s=0.1),
        )
    )
    sinks = [MqttSink(mosquitto.address, publisher_id=name) for name in ("desk", "sofa")]
    async with attached(sinks) as outlet:
        outlet.offer_status(status())
        for frame in range(3):
            outlet.offer(estimate(frame))
        # What is retained comes to a watcher that connects late too.
        await until_heard(url, lambda heard: sorted(heard) == ["desk", "sofa"])
        async with httpx.AsyncClient() as client:
            told = await client.post(f"{url}command", json={"publisher": "desk", "command": "pause"})
            assert told.json() == {"obeyed": True, "reason": "Sent to desk."}
            await client.post(f"{url}marker", json={"publisher": "sofa", "text": "now"})
        await until(lambda: subscriber.payloads("affect/desk/set/pause"))
        await until(lambda: subscriber.payloads("affect/sofa/set/marker"))
        assert json.loads(subscriber.payloads("affect/sofa/set/marker")[0]) == {"text": "now"}
        mosquitto.kill()
        await until_heard(url, lambda heard: '"lost"' in json.dumps(heard))
        async with httpx.AsyncClient() as client:
            told = await client.post(f"{url}command", json={"publisher": "desk", "command": "pause"})
        assert (told.status_code, told.json()["reason"]) == (409, "the broker is away")
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    assert watching.cancelled()
