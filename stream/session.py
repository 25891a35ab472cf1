"""One run from the command line: load, attach the sinks, run the engine, and end cleanly whatever ends it."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from contextlib import AsyncExitStack, suppress

from models.bundle.load import resolve_bundle
from models.bundle.manifest import read_manifest
from models.console import tell
from models.machine import usable_processors
from stream.build import assemble, load
from stream.engine import Engine, EngineCommand, Summary
from stream.mqtt.broker import EmbeddedBroker
from stream.mqtt.connection import BrokerAddress
from stream.mqtt.sink import MqttSink, check_publisher_id
from stream.options import InputOptions, OutputOptions
from stream.sinks.base import Sink
from stream.sinks.record import RecordSink
from stream.view.labels import LabelledTrajectory
from stream.view.terminal import TerminalSink

MOST_THREADS = 4


async def stream(choices: InputOptions, outputs: OutputOptions) -> Summary:
    """Runs to the end of the source. Raises UserError for what a user can mend.

    Cancelled (Ctrl-C) or terminated (SIGTERM, raised as SystemExit), it closes devices and sockets, says
    `stopped` on the broker and has every settled line on disk before it goes.
    """
    if outputs.publisher_id is not None:
        check_publisher_id(outputs.publisher_id)
    use_threads(choices.threads or default_threads(choices.bundle))
    engine: Engine | None = None

    def command(command: EngineCommand) -> None:
        if engine is not None:
            engine.command(command)

    async with AsyncExitStack() as stack:
        told = () if outputs.view == "none" else (tell,)
        parts = await asyncio.to_thread(load, choices, *told)
        stack.callback(parts.source.close)
        address = await _broker(outputs, stack)
        sinks: list[Sink] = []
        if outputs.record is not None:
            sinks.append(RecordSink(outputs.record, overwrite=outputs.overwrite))
        if address is not None:
            sinks.append(
                MqttSink(
                    address,
                    publisher_id=outputs.publisher_id,
                    rate=outputs.rate,
                    publish_transcript=outputs.publish_transcript,
                    on_command=command,
                )
            )
        if outputs.view != "none":
            known = None if outputs.labels is None else LabelledTrajectory.read(outputs.labels)
            sinks.append(TerminalSink(outputs.view, broker=address, known=known))
        engine = assemble(
            parts,
            sinks,
            pace=choices.pace,
            budget=choices.budget,
            latency_target_ms=choices.latency_target_ms,
        )
        await asyncio.to_thread(_settle_memory)
        with _terminable():
            return await engine.run()


def _settle_memory() -> None:
    """What is loaded stays: looking through it for garbage would hold up everything in the middle of a run."""
    gc.collect()
    gc.freeze()


def default_threads(bundle: str) -> int:
    """Threads that serve a bundle best. Raises UserError where there is no such bundle.

    A compact network's layers are too small to share: a second thread costs more than it brings, and far more
    where the machine has other work.
    """
    if read_manifest(resolve_bundle(bundle)).preset == "compact":
        return 1
    return _cores()


def use_threads(threads: int | None) -> None:
    """Sets the threads of networks (None: the cores') and pictures, once, at start-up: changing torch's later
    leaves it slow.
    """
    import cv2
    import torch

    cv2.setNumThreads(1)
    torch.set_num_threads(threads or _cores())


def _cores() -> int:
    """Those that this process may use, within bounds."""
    return min(usable_processors(), MOST_THREADS)


async def _broker(outputs: OutputOptions, stack: AsyncExitStack) -> BrokerAddress | None:
    if outputs.broker == "none":
        return None
    if outputs.broker == "embedded":
        return (await stack.enter_async_context(EmbeddedBroker())).address
    return BrokerAddress.parse(outputs.broker, ca_file=outputs.ca_file)


class _terminable:
    """SIGTERM ends the current task as Ctrl-C does, and the process with 143 once all is closed."""

    def __enter__(self) -> None:
        self._terminated = False
        task = asyncio.current_task()
        assert task is not None

        def terminate() -> None:
            self._terminated = True
            task.cancel()

        with suppress(NotImplementedError):  # Windows has no such handlers
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminate)

    def __exit__(self, *raised: object) -> None:
        with suppress(NotImplementedError):
            asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)
        if self._terminated:
            sys.exit(128 + signal.SIGTERM)
