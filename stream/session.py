"""One run: load, attach the sinks, run the engine, and end cleanly whatever ends it.

`open_engine` is the way to an engine for every run, `stream` a whole run from the command line.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Final

from models.console import tell, waiting
from models.machine import usable_processors
from stream.build import assemble, find_manifest, load
from stream.controls import Controls
from stream.flow.threads import finish_in_thread
from stream.mqtt.topics import check_publisher_id, default_publisher_id
from stream.mqtt.wanted import reach, wanted_broker_of
from stream.outputs import keep_session, make_sinks
from stream.page.options import page_options

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from stream.broker.connection import BrokerAddress
    from stream.engine import Engine, Summary
    from stream.options import InputOptions, OutputOptions
    from stream.shared_bundle import SharedBundle
    from stream.sinks.base import Sink
    from stream.sources.events import Source

MOST_THREADS: Final = 4


async def stream(input_options: InputOptions, output_options: OutputOptions) -> Summary:
    """Runs to the end of the source. Raises UserError for what a user can mend.

    Cancelled (Ctrl-C) or terminated (SIGTERM, raised as SystemExit), it closes devices and sockets, says
    `stopped` on the broker and has every settled line on disk before it goes.
    """
    first_lines: list[str] = []
    async with AsyncExitStack() as stack:
        first = f"opening the source and loading the bundle {input_options.bundle}"
        with telling(output_options.view != "none", first) as tell_progress:
            engine = await stack.enter_async_context(
                open_engine(
                    input_options, output_options, tell_progress=tell_progress, introduce=first_lines.append
                )
            )
            await asyncio.to_thread(_keep_out_of_garbage_collection)
        for line in first_lines if output_options.view != "none" else ():
            tell(line)
        with cancelled_by_sigterm():
            return await engine.run()


@asynccontextmanager
async def open_engine(
    input_options: InputOptions,
    output_options: OutputOptions,
    *,
    source: Source | None = None,
    shared: SharedBundle | None = None,
    broker: BrokerAddress | None = None,
    more_sinks: Sequence[Sink] = (),
    keep_eager: bool = False,
    tell_progress: Callable[[str], None] = lambda message: None,
    introduce: Callable[[str], None] = lambda line: None,
) -> AsyncIterator[Engine]:
    """An engine over all that the options name, loaded and ready to run; everything is closed behind it.

    A `source`, a `shared` bundle or a `broker` is taken in place of the options'; `more_sinks` take estimates beside
    theirs. `keep_eager` keeps what `stream.build.load` says. `introduce` is told what a live run uses, what it lacks
    and what its bundle is good for, a line each. Raises UserError for what a user can mend.
    """
    publisher_id = check_publisher_id(output_options.publisher_id or default_publisher_id())
    wanted_broker = broker or wanted_broker_of(output_options, publisher_id)
    await _check_page(output_options)
    use_threads(input_options.threads or default_threads(input_options.bundle, shared))
    controls = Controls()
    async with AsyncExitStack() as stack:
        # Before what takes long is loaded: whoever gave a wrong address hears so at once.
        broker = await reach(wanted_broker, stack, tell_progress)
        load_all = partial(
            load, input_options, tell_progress, source=source, shared=shared, keep_eager=keep_eager
        )
        parts = await finish_in_thread(load_all, undo=lambda parts: parts.source.close())
        stack.callback(parts.source.close)
        if parts.source.live:
            for line in parts.first_lines():
                introduce(line)
        parts, session = keep_session(input_options, output_options, parts)
        if session is not None:
            stack.push(session.note_end)
        engine = assemble(
            parts,
            # The session last, so that no folder is made where another sink cannot be opened.
            [
                *make_sinks(output_options, broker, controls, parts),
                *more_sinks,
                *([session] if session else []),
            ],
            pace=input_options.pace,
            budget=input_options.budget,
            latency_target_ms=input_options.latency_target_ms,
        )
        controls.attach(engine)
        yield engine


@contextmanager
def telling(told: bool, first: str) -> Iterator[Callable[[str], None]]:
    """What takes the lines of progress while a run is made ready, the `first` wait on a terminal alone; where none
    are wanted, it drops them.
    """
    if not told:
        yield lambda message: None
        return
    with waiting(first, tell_first=False) as tell_progress:
        yield tell_progress


def _keep_out_of_garbage_collection() -> None:
    """What is loaded stays: looking through it for garbage would hold up everything in the middle of a run."""
    gc.collect()
    gc.freeze()


def default_threads(bundle: str, shared: SharedBundle | None = None) -> int:
    """Threads that serve a bundle best, the `shared` one where it is given. Raises UserError where there is none.

    A compact network's layers are too small to share: a second thread costs more than it brings, and far more
    where the machine has other work.
    """
    if find_manifest(bundle, shared).preset in ("compact", "practical"):
        return 1
    return _usable_cores()


def use_threads(threads: int | None) -> None:
    """Sets how many threads compute networks (None: one a core), and one for pictures.

    Once, at start-up: changing torch's number later leaves it slow.
    """
    import cv2
    import torch

    cv2.setNumThreads(1)
    wanted = threads or _usable_cores()
    if torch.get_num_threads() != wanted:
        torch.set_num_threads(wanted)


def _usable_cores() -> int:
    """Those that this process may use, at most `MOST_THREADS`."""
    return min(usable_processors(), MOST_THREADS)


async def _check_page(options: OutputOptions) -> None:
    """Refuses a page that cannot be served before anything that takes long. Raises UserError."""
    if (page := page_options(options)) is not None:
        from stream.page.server import check_free

        await asyncio.to_thread(check_free, page)


@contextmanager
def cancelled_by_sigterm() -> Iterator[None]:
    """SIGTERM ends the current task as Ctrl-C does, and the process with 143 once all is closed."""
    terminated = False
    task = asyncio.current_task()
    assert task is not None

    def terminate() -> None:
        nonlocal terminated
        terminated = True
        task.cancel()

    loop = asyncio.get_running_loop()
    with suppress(NotImplementedError):  # Windows has no such handlers
        loop.add_signal_handler(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        with suppress(NotImplementedError):
            loop.remove_signal_handler(signal.SIGTERM)
        if terminated:
            sys.exit(128 + signal.SIGTERM)
