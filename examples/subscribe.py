"""Print valence and arousal as they are published: a subscriber that needs aiomqtt and nothing of this package.

    stream-run --demo                          # in one terminal: a publisher, with a broker of its own
    python examples/subscribe.py               # in another

Every frame comes twice. `estimate` comes at once and may still be corrected; `settled` comes once for each frame,
in order, when no word can change it any more: take that one for what must be right, such as a record. `docs/mqtt.md`
describes all topics and messages.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from typing import TYPE_CHECKING

import aiomqtt

if TYPE_CHECKING:
    from collections.abc import Sequence


async def print_affect(host: str, port: int, publisher: str, topic: str, count: int | None) -> None:
    """Prints a line for each message of `topic` from `publisher` (`+`: from all), `count` of them or for ever.

    Raises aiomqtt.MqttError where the broker cannot be reached or goes away.
    """
    printed = 0
    async with aiomqtt.Client(host, port) as client:
        await client.subscribe(f"affect/{publisher}/available", qos=1)
        await client.subscribe(f"affect/{publisher}/{topic}", qos=1)
        async for message in client.messages:
            _, name, kind = str(message.topic).split("/")
            payload = bytes(message.payload).decode() if isinstance(message.payload, bytes) else ""
            if kind == "available":  # retained, so a late subscriber hears it too
                print(f"{name} is {payload}", flush=True)
                continue
            said = json.loads(payload)
            seen = ", ".join(what for what, there in said["present"].items() if there) or "nothing to go by"
            print(
                f"{name} at {said['time_s']:7.2f} s: "
                f"valence {said['valence']:+.2f} (folds differ by {said['spread']['valence']:.2f}), "
                f"arousal {said['arousal']:+.2f} ({said['spread']['arousal']:.2f}); {seen}",
                flush=True,
            )
            printed += 1
            if printed == count:
                return


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 0 where all went well, 2 where the broker could not be reached."""
    parser = argparse.ArgumentParser(description="Print valence and arousal as they are published.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=1883)
    parser.add_argument("--id", default="+", help="one publisher's id; all by default")
    parser.add_argument("--topic", choices=("estimate", "settled"), default="estimate")
    parser.add_argument("--count", type=int, help="end after so many lines")
    given = parser.parse_args(arguments)
    # aiomqtt watches its socket by `add_reader`, which Windows' default loop lacks.
    factory = asyncio.SelectorEventLoop if sys.platform == "win32" else None
    try:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(print_affect(given.host, given.port, given.id, given.topic, given.count))
    except aiomqtt.MqttError as error:
        print(
            f"no broker at {given.host}:{given.port} ({error}): start one, or stream-run --demo",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
