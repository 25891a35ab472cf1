"""A run in a thread and an event loop of its own: alike for scripts, for callers with a loop, and for notebooks."""

from __future__ import annotations

import asyncio
import atexit
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from stream.mqtt.connection import run as run_async
from stream.session import open_engine

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from affectstream.options import RunPlan
    from stream.sinks.base import Sink
    from stream.sources.events import Source


class BackgroundRun:
    """One run of the engine. `start` begins it; `close` ends it, closes its devices and joins its threads.

    `error` is what ended it, None where it came to its end or was closed; `on_end` is called with it, in the run's
    thread, as the last thing. An interpreter that ends closes it.
    """

    def __init__(
        self,
        plan: RunPlan,
        sinks: Sequence[Sink] = (),
        *,
        source: Source | None = None,
        on_end: Callable[[BaseException | None], None] = lambda error: None,
    ) -> None:
        self.error: BaseException | None = None
        self._plan = plan
        self._sinks = (*sinks, *plan.sinks)
        self._source = source
        self._on_end = on_end
        self._opened = threading.Event()
        self._lock = threading.Lock()
        self._stopping = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, name="affectstream", daemon=True)

    def start(self) -> None:
        """Begins in its thread; returns at once."""
        atexit.register(self.close)
        self._thread.start()

    def wait_until_opened(self) -> None:
        """Blocks until everything is loaded and frames are taken, or the run has ended. Raises what ended it."""
        self._opened.wait()
        if self.error is not None:
            raise self.error

    def join(self) -> None:
        """Blocks until the run has ended by itself."""
        self._thread.join()

    def stop(self) -> None:
        """Has it end soon; returns at once. From any thread; once, so that nothing interrupts its closing."""
        with self._lock:
            if self._stopping:
                return
            self._stopping = True
            if self._loop is not None and self._task is not None:
                with suppress(RuntimeError):  # the loop has ended by itself
                    self._loop.call_soon_threadsafe(self._task.cancel)

    def close(self) -> None:
        """Ends it, and waits until it has. May be repeated."""
        self.stop()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            run_async(self._run_engine())
        except asyncio.CancelledError:
            pass
        except BaseException as error:  # the caller's to raise, whatever it is
            self.error = error
        atexit.unregister(self.close)
        self._on_end(self.error)
        self._opened.set()

    async def _run_engine(self) -> None:
        with self._lock:
            self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
            if self._stopping:
                return
        plan = self._plan
        async with open_engine(
            plan.input_options,
            plan.output_options,
            source=self._source,
            shared=plan.shared,
            more_sinks=self._sinks,
            keep_eager=True,
        ) as engine:
            self._opened.set()
            await engine.run()
