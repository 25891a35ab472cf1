"""The page of this process's runs: each a sink that shows its estimates, and what is told back to its engine."""

from __future__ import annotations

import asyncio
import base64
import logging
import time
from typing import TYPE_CHECKING, Final

from models.console import tell
from stream.logs import note
from stream.messages import CommandOutcome, EngineCommand
from stream.page.feed import Feed
from stream.page.server import WebServer
from stream.page.site import make_site
from stream.sinks.base import QuietSink

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from starlette.routing import BaseRoute

    from stream.controls import Controls
    from stream.messages import Estimate, Marker, Status, Transcript
    from stream.page.options import PageOptions

log = logging.getLogger(__name__)

PREVIEW_EVERY_S: Final = 0.25

ITSELF: Final = ""
"""The run's name where there is only one."""

MOST_RUNS: Final = 64
"""As many as one process takes."""


class RunsPage:
    """The page of the runs of this process: one, or several side by side, each by its name.

    Words are shown only where `shows_words`, face crops only where the options say so. `say` is told the page's
    address in one line once it is served. Further `routes` are served beside it, guarded as it is.
    """

    shows_marker_entry = True

    def __init__(
        self,
        options: PageOptions,
        *,
        shows_words: bool = False,
        routes: Sequence[BaseRoute] = (),
        say: Callable[[str], None] = tell,
    ) -> None:
        self.feed = Feed(shows_words=shows_words, most_publishers=MOST_RUNS)
        self.options = options
        self._say = say
        self._controls: dict[str, Controls] = {}
        site = make_site(self.feed, self, options, kind="run", routes=routes)
        self._server = WebServer(site, options.host, options.port)

    @property
    def url(self) -> str:
        """The page's address, at the port that it has got."""
        return self.options.url(self._server.port)

    def take_in(self, name: str, controls: Controls) -> None:
        """A run that is shown under a name, and steered by its controls."""
        self._controls[name] = controls

    async def open(self) -> None:
        """Begins to serve, and says where. Raises UserError where the address cannot be had."""
        await self._server.open()
        self._say(introduction(self.options, self.url))
        note(log, logging.INFO, "connected", f"the page is at {self.url}", what="page", url=self.url)

    async def run(self) -> None:
        """Serves until cancelled."""
        await self._server.run()

    async def close(self) -> None:
        """Sends viewers the last of it, and ends the server."""
        self.feed.end()
        # One round of the loop, so that viewers' tasks see the end before their connections are closed.
        await asyncio.sleep(0)
        await self._server.close()

    async def command(self, publisher: str, command: EngineCommand) -> CommandOutcome:
        """Tells the run's engine."""
        return self._controls[publisher].command(command)

    async def mark(self, publisher: str, text: str) -> CommandOutcome:
        """Marks this moment. Raises UserError for a text that no marker can have."""
        self._controls[publisher].mark(text, "page")
        return CommandOutcome(True)


class RunOnPage(QuietSink):
    """Shows one run on a page that is served by somebody else; viewers come and go, and delay nobody."""

    name = "page"

    def __init__(self, page: RunsPage, controls: Controls, run_name: str = ITSELF) -> None:
        self.wants_crops = page.options.preview
        self._page = page
        self._feed = page.feed
        self._run_name = run_name
        self._shown_at = float("-inf")
        page.take_in(run_name, controls)

    @property
    def drops(self) -> Mapping[str, int]:
        """Of all runs of the page: `page_viewer_slow`, frames that a viewer was not sent; `page_not_a_number`."""
        return {"page_viewer_slow": self._feed.dropped, "page_not_a_number": self._feed.not_a_number}

    @property
    def counters(self) -> Mapping[str, float]:
        """How many look at the page, and how many more were turned away."""
        return {"page_viewers": self._feed.viewers, "page_viewers_refused": self._feed.refused}

    def offer(self, estimate: Estimate) -> None:
        """Take an estimate."""
        self._feed.take(self._run_name, "settled" if estimate.settled else "estimate", estimate.to_json())

    def offer_status(self, status: Status) -> None:
        """Take the engine's state."""
        self._feed.take(self._run_name, "status", status.to_json())

    def offer_transcript(self, transcript: Transcript) -> None:
        """Take an utterance's words, to be shown only where that was asked for."""
        self._feed.take(self._run_name, "transcript", transcript.to_json())

    def offer_marker(self, marker: Marker) -> None:
        """Take a moment that somebody marked."""
        self._feed.take(self._run_name, "marker", marker.to_json())

    def offer_crop(self, crop: NDArray[np.uint8], *, face: bool) -> None:
        """Show what the network sees, uint8 (48, 48, 3) RGB, a few times a second and to viewers only."""
        now = time.monotonic()
        if not self.wants_crops or not self._feed.viewers or now - self._shown_at < PREVIEW_EVERY_S:
            return
        self._shown_at = now
        height, width, _ = crop.shape
        rgb = base64.b64encode(crop.tobytes()).decode("ascii") if face else ""
        self._feed.show(self._run_name, {"width": width, "height": height, "rgb": rgb})


class PageSink(RunOnPage):
    """Serves the page of one run. Words are shown only where `publish_transcript`; the rest is `RunsPage`'s."""

    def __init__(
        self,
        options: PageOptions,
        controls: Controls,
        *,
        publish_transcript: bool = False,
        routes: Sequence[BaseRoute] = (),
        say: Callable[[str], None] = tell,
    ) -> None:
        super().__init__(RunsPage(options, shows_words=publish_transcript, routes=routes, say=say), controls)

    @property
    def url(self) -> str:
        """The page's address, at the port that it has got."""
        return self._page.url

    async def open(self) -> None:
        """Begins to serve, and says where. Raises UserError where the address cannot be had."""
        await self._page.open()

    async def run(self) -> None:
        """Serve until cancelled."""
        await self._page.run()

    async def close(self) -> None:
        """Send viewers the last of it, and end the server."""
        await self._page.close()


def introduction(options: PageOptions, url: str) -> str:
    """The line that says where the page is; a token that was made up here is said in it, once."""
    if options.generated:
        return f"the page is at {url}?token={options.token} (the token is asked for once a browser)"
    return f"the page is at {url}" + (" (it asks for the token)" if options.token else "")
