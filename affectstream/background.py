"""A run in a thread and an event loop of its own: alike for scripts, for callers with a loop, and for notebooks."""

from __future__ import annotations

import asyncio
import atexit
import threading
from contextlib import suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

from models.errors import AffectError
from stream.broker.connection import run as run_async
from stream.session import open_engine

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from affectstream.options import RunPlan
    from stream.sinks.base import Sink
    from stream.sources.events import Source


_OWN: Final[ContextVar[BackgroundRun | None]] = ContextVar("_OWN", default=None)
"""The run that this code is part of: in its tasks, and in the threads that are given their context, sinks' too."""


class BackgroundRun:
    """One run of the engine. `start` begins it; `close` ends it, closes its devices and joins its threads; `let_go`
    is `close` for whoever cannot know in which thread that happens.

    `error` is what ended it, None where it came to its end or was closed; `on_end` is called with it, in the run's
    thread, as the last thing. An interpreter that ends closes it, which whoever still takes from it hears as an
    AffectError.
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
        # Entered again where the garbage collector closes a forgotten session in a thread that holds it.
        self._lock = threading.RLock()
        # Not its number, which the next thread gets once this one has ended.
        self._starter: threading.Thread | None = None
        self._stopping = self._interpreter_ends = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, name="affectstream", daemon=True)

    def start(self) -> None:
        """Begins in its thread; returns at once."""
        self._starter = threading.current_thread()
        _RUNNING.add(self)
        self._thread.start()

    def wait_until_opened(self) -> None:
        """Blocks until everything is loaded and frames are taken, or the run has ended. Raises what ended it."""
        self._opened.wait()
        if self.error is not None:
            raise self.error

    def join(self, timeout_s: float | None = None) -> bool:
        """Blocks until the run has ended by itself, or so long at most; says whether it has."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

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
        """Ends it, and waits until it has. May be repeated. In a thread of the run's own, such as a sink's, it
        cannot wait: there it only ends it soon.
        """
        self.stop()
        if self._thread.ident is not None and _OWN.get() is not self:
            self._thread.join()

    def let_go(self) -> None:
        """Ends a run that nobody holds any more: `close` in the thread that started it, `stop` in any other.

        The garbage collector may be in any thread, also in one that the run must wait for to end.
        """
        if threading.current_thread() is self._starter:
            self.close()
        else:
            self.stop()

    def close_with_interpreter(self) -> None:
        """`close`, for an interpreter that ends."""
        self._interpreter_ends = True
        self.close()

    def _run(self) -> None:
        _OWN.set(self)
        try:
            run_async(self._run_engine())
        except asyncio.CancelledError:
            if self._interpreter_ends:
                self.error = AffectError(
                    "the program's main thread has ended, and every run with it: "
                    "have it join the threads that take estimates"
                )
        except BaseException as error:  # the caller's to raise, whatever it is
            self.error = error
        _RUNNING.discard(self)
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


_RUNNING: Final[set[BackgroundRun]] = set()


def _close_all() -> None:
    for run in tuple(_RUNNING):
        run.close_with_interpreter()


# The first comes before the thread pools of `concurrent.futures` refuse all work, as they do from the end of the main
# thread on: after that, no sink could write what it still has. Python offers it by that name only.
getattr(threading, "_register_atexit", atexit.register)(_close_all)
atexit.register(_close_all)
