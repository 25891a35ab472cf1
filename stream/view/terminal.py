"""What a person sees in the terminal: a live view there, a plain line a second where output is not one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Literal

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from stream.sinks.base import QuietSink
from stream.view.labels import Agreement, LabelledTrajectory
from stream.view.panel import Panel

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stream.broker.connection import BrokerAddress
    from stream.messages import Estimate, Marker, Status, Transcript

REFRESH_HZ: Final = 6.0
PLAIN_EVERY_S: Final = 1.0

View = Literal["auto", "full", "plain"]


class Screen:
    """Draws panels: over and over in place (`full`), or as lines (`plain`).

    `auto` is `full` on a terminal that can show it, `plain` elsewhere. Drawing happens in a thread: a terminal
    that is slow or held (Ctrl-S) delays nothing but itself, and one that is gone ends the drawing only. `idle`
    says what to show while there is no panel.
    """

    def __init__(
        self,
        panels: Callable[[], Sequence[Panel]],
        idle: Callable[[], str] = lambda: "",
        *,
        view: View = "auto",
        console: Console | None = None,
    ) -> None:
        self._panels = panels
        self._idle = idle
        self._console = console or Console()
        capable = self._console.is_terminal and self._console.encoding.lower().startswith("utf")
        self.full = view == "full" or (view == "auto" and capable)
        self._live: Live | None = None
        self._reader_gone = False
        self._last_lines: dict[int, str] = {}
        self._introduced: dict[int, list[str]] = {}
        self._drawing: asyncio.Future[None] | None = None

    async def run(self) -> None:
        """Draw until cancelled, or until nobody is there to see it."""
        if self.full:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        while not self._reader_gone:
            self._drawing = asyncio.ensure_future(asyncio.to_thread(self._draw_unless_gone, self._draw))
            await asyncio.shield(self._drawing)
            await asyncio.sleep(1.0 / REFRESH_HZ if self.full else PLAIN_EVERY_S)

    async def close(self) -> None:
        """Draw the last state, and what it came to, below each other."""
        if self._drawing is not None:
            await self._drawing
        await asyncio.to_thread(self._draw_unless_gone, self._draw_summary)

    def _draw_unless_gone(self, draw: Callable[[], None]) -> None:
        if self._reader_gone:
            return
        try:
            draw()
        except (SystemExit, OSError):  # rich answers a closed pipe with SystemExit
            self._reader_gone = True

    def _draw(self) -> None:
        if self._live is not None:
            self._live.update(self._compose_view(), refresh=True)
            return
        if not self._panels() and self._idle() != self._last_lines.get(0):
            self._last_lines[0] = self._idle()
            self._print_line(self._last_lines[0].strip())
        for panel in self._panels():
            introduction = panel.introduction()
            # Inputs come and go: what was introduced is said again when it changes.
            for line in introduction:
                if line not in self._introduced.get(id(panel), []):
                    self._print_line(line)
            self._introduced[id(panel)] = introduction
            line = panel.plain()
            if line and line != self._last_lines.get(id(panel)):
                self._print_line(line)
                self._last_lines[id(panel)] = line

    def _compose_view(self) -> Group:
        width, height = self._console.size
        panels = self._panels()
        if not panels:
            return Group(Text(self._idle() or " waiting for the first frame", style="dim"))
        share = max(2, (height - 1) // len(panels))
        lines = [line for panel in panels for line in panel.lines(width - 1, share)]
        text = Text("\n", no_wrap=True, overflow="crop").join(lines[: height - 1])
        return Group(text)

    def _print_line(self, line: str) -> None:
        encoding = self._console.encoding
        line = line.encode(encoding, "replace").decode(encoding)
        self._console.print(Text(line), soft_wrap=True)

    def _draw_summary(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
        for panel in self._panels():
            self._console.print(panel.summary())


class PanelSink(QuietSink):
    """Keeps a panel of what one engine says, for a screen to draw."""

    name = "terminal"

    def __init__(self, title: str = "", hint: str = "", agreement: Agreement | None = None) -> None:
        self.panel = Panel(title, hint=hint, agreement=agreement)
        self._agreement = agreement

    def offer(self, estimate: Estimate) -> None:
        """Take an estimate."""
        self.panel.take("settled" if estimate.settled else "estimate", estimate.to_json())
        if not estimate.settled:
            self.panel.hear(estimate.words)
        elif self._agreement is not None:
            self._agreement.take(estimate)

    def offer_status(self, status: Status) -> None:
        """Take the engine's state."""
        self.panel.take("status", status.to_json())

    def offer_transcript(self, transcript: Transcript) -> None:
        """Take an utterance's words."""
        self.panel.take("transcript", transcript.to_json())

    def offer_marker(self, marker: Marker) -> None:
        """Show it until the next."""
        self.panel.mark(marker.text, marker.time_s)


class TerminalSink(PanelSink):
    """Shows one engine's estimates while they are made, and a summary at the end.

    Give the broker's address, where there is one, to show how others can subscribe; the page's, to show that; and a
    recording's labels, where there are any, to show them beside the estimates and how well they agreed in the end.
    """

    def __init__(
        self,
        view: View = "auto",
        *,
        broker: BrokerAddress | None = None,
        page: str = "",
        labels: LabelledTrajectory | None = None,
        console: Console | None = None,
    ) -> None:
        hints = [f" {page}"] * bool(page) + ([subscribe_hint(broker)] if broker else [])
        super().__init__(
            hint="  ".join(hints),
            agreement=Agreement(labels) if labels is not None else None,
        )
        self._screen = Screen(lambda: [self.panel], view=view, console=console)

    async def run(self) -> None:
        """Draw until cancelled."""
        await self._screen.run()

    async def close(self) -> None:
        """Leave the summary on the terminal."""
        await self._screen.close()


def subscribe_hint(broker: BrokerAddress) -> str:
    """The command that shows all that is published there."""
    user = f" -u {broker.username} -P ..." if broker.username else ""
    tls = f" --cafile {broker.ca_file or '...'}" if broker.tls else ""
    return f" mosquitto_sub -h {broker.host} -p {broker.port}{user}{tls} -v -t 'affect/#'"
