"""A sink of your own: it takes every estimate in the process, with no broker between.

    python examples/custom_sink.py talk.mp4
    python examples/custom_sink.py stream/assets/demo.mp4 --bundle demo --above 0.7

This one says when somebody becomes excited and when they have calmed down. A sink is any object with the methods of
`affectstream.Sink`; it can be attached to a camera (`camera:0`) or a URL in the same way.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

import affectstream
from stream.options import DEFAULT_BUNDLE

if TYPE_CHECKING:
    from collections.abc import Sequence


class ExcitementSink:
    """Prints a line whenever arousal rises above `above`, and when it falls below it again by `margin`."""

    def __init__(self, above: float = 0.6, margin: float = 0.1) -> None:
        self._above = above
        self._below = above - margin
        self._excited = False
        self.changes = 0

    def take(self, estimate: affectstream.Estimate) -> None:
        """Called in a thread of its own for every estimate; a recording waits where this is slow."""
        if not estimate.settled:  # provisional: it comes again, settled
            return
        arousal = estimate.value.arousal
        if self._excited and arousal < self._below:
            self._say(estimate, excited=False)
        elif not self._excited and arousal > self._above:
            self._say(estimate, excited=True)

    def _say(self, estimate: affectstream.Estimate, *, excited: bool) -> None:
        self._excited = excited
        self.changes += 1
        becomes = "excited" if excited else "calm again"
        print(f"{estimate.time_s:7.2f} s  {becomes} (arousal {estimate.value.arousal:+.2f})", flush=True)

    def close(self) -> None:
        """Release what is held; called however the run ends."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 0 where all went well, 2 where something could not be used."""
    parser = argparse.ArgumentParser(description="Say when somebody becomes excited.")
    parser.add_argument("source", help="a recording, camera:0, or a stream's URL")
    parser.add_argument("--above", type=float, default=0.6, help="the arousal that counts as excited")
    parser.add_argument("--bundle", default=DEFAULT_BUNDLE, help="a shipped bundle's name, or a folder")
    given = parser.parse_args(arguments)
    sink = ExcitementSink(given.above)
    frames = 0
    try:
        for _ in affectstream.stream(given.source, bundle=given.bundle, kind="settled", sinks=[sink]):
            frames += 1
    except affectstream.UserError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    print(f"{frames} frames, {sink.changes} changes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
