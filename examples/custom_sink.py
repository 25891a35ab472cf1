"""A sink of your own: it takes every estimate in the process, with no broker between.

    python examples/custom_sink.py talk.mp4
    python examples/custom_sink.py stream/assets/demo.mp4 --bundle demo --above 0.7

This one says when somebody becomes excited and when they have calmed down. A sink is any object with the methods of
`stream.sinks.base.Sink`; it can be attached to a camera (`camera:0`) or a URL in the same way.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import TYPE_CHECKING

from models.errors import UserError
from stream.build import assemble, load
from stream.mqtt.connection import run
from stream.options import DEFAULT_BUNDLE, InputOptions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stream.messages import Estimate, Status, Transcript


class ExcitementSink:
    """Prints a line whenever arousal rises above `above`, and when it falls below it again by `margin`."""

    name = "excitement"

    def __init__(self, above: float = 0.6, margin: float = 0.1) -> None:
        self._above = above
        self._below = above - margin
        self._excited = False
        self._changes = 0

    @property
    def drops(self) -> Mapping[str, int]:
        """Nothing is queued here, so nothing is dropped. The causes would begin with the sink's name."""
        return {}

    @property
    def counters(self) -> Mapping[str, float]:
        """Whatever the sink counts: it appears in `status`."""
        return {"excitement_changes": self._changes}

    async def open(self) -> None:
        """Open files and sockets here. Raise UserError, with the way out, where that cannot work."""

    async def run(self) -> None:
        """Slow work belongs here, fed from `offer` by a bounded queue; it is cancelled at the end of the run."""
        await asyncio.Event().wait()

    async def ready(self) -> None:
        """A recording waits for this before each frame, so that a slow sink need not drop anything."""

    def offer(self, estimate: Estimate) -> None:
        """Called in the event loop for every estimate: return at once, never raise."""
        if not estimate.settled:  # provisional: it comes again, settled
            return
        arousal = estimate.value.arousal
        if self._excited and arousal < self._below:
            self._say(estimate, excited=False)
        elif not self._excited and arousal > self._above:
            self._say(estimate, excited=True)

    def _say(self, estimate: Estimate, *, excited: bool) -> None:
        self._excited = excited
        self._changes += 1
        becomes = "excited" if excited else "calm again"
        print(f"{estimate.time_s:7.2f} s  {becomes} (arousal {estimate.value.arousal:+.2f})", flush=True)

    def offer_status(self, status: Status) -> None:
        """The engine's state, once a second: of no interest here."""

    def offer_transcript(self, transcript: Transcript) -> None:
        """Recognised words: of no interest here."""

    async def close(self) -> None:
        """Release what `open` acquired; called however the run ends."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 0 where all went well, 2 where something could not be used."""
    parser = argparse.ArgumentParser(description="Say when somebody becomes excited.")
    parser.add_argument("source", help="a recording, camera:0, or a stream's URL")
    parser.add_argument("--above", type=float, default=0.6, help="the arousal that counts as excited")
    parser.add_argument("--bundle", default=DEFAULT_BUNDLE, help="a shipped bundle's name, or a folder")
    given = parser.parse_args(arguments)
    try:
        parts = load(InputOptions(given.source, bundle=given.bundle, pace="fast"))
        try:
            summary = run(assemble(parts, [ExcitementSink(given.above)], pace="fast").run())
        finally:
            parts.source.close()
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    print(f"{summary.settled} frames, {summary.status.counters.get('excitement_changes', 0):.0f} changes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
