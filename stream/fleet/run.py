"""Several sources side by side in one process: one bundle in memory, one runtime that embeds what waits together.

Each source has an engine of its own (its clock, its state, its centering, its ladder, its topics) and fails alone:
what went wrong with one is said at once, and the others run to their ends.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.console import tell
from models.errors import UserError
from stream.controls import Controls
from stream.mqtt.wanted import reach, wanted_broker_of
from stream.session import (
    cancelled_by_sigterm,
    default_threads,
    open_engine,
    telling,
    use_threads,
)
from stream.shared_bundle import load_bundle
from stream.view.terminal import PanelSink, Screen

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from stream.broker.connection import BrokerAddress
    from stream.engine import Summary
    from stream.fleet.plan import SourcePlan
    from stream.options import ViewChoice
    from stream.page.options import PageOptions
    from stream.page.sink import RunsPage
    from stream.shared_bundle import SharedBundle
    from stream.sinks.base import Sink
    from stream.view.panel import Panel


@dataclass(frozen=True)
class Ended:
    """How a source's run ended: its summary, or what a user can mend."""

    name: str
    summary: Summary | None = None
    error: UserError | None = None


async def run_fleet(
    plans: Sequence[SourcePlan], *, view: ViewChoice = "auto", page: PageOptions | None = None
) -> list[Ended]:
    """Runs all sources to their ends, and says how each ended. One `page` shows them all.

    Raises UserError where there is no such bundle or broker, and what a run raised that no user can mend. Cancelled
    or terminated, all end as one run does (`stream.session.stream`).
    """
    for folder in {plan.output_options.record.parent for plan in plans if plan.output_options.record}:
        await asyncio.to_thread(_make_folder, folder)
    async with AsyncExitStack() as stack:
        shown = None if page is None else await _open_page(page, plans, stack)
        common = plans[0].output_options
        wanted = wanted_broker_of(common, plans[0].name)
        with telling(view != "none", "reaching the broker") as tell_progress:
            broker = await reach(wanted, stack, tell_progress)
            shared = await asyncio.to_thread(_load_bundles, plans, tell_progress)
        panels = [PanelSink(plan.name) for plan in plans]
        screen = None if view == "none" else Screen(lambda: _with_something_to_say(panels), view=view)
        with cancelled_by_sigterm():
            ended = await _run_all(plans, shared, broker, panels, screen, shown)
    return ended


async def _run_all(
    plans: Sequence[SourcePlan],
    shared: Sequence[SharedBundle],
    broker: BrokerAddress | None,
    panels: Sequence[PanelSink],
    screen: Screen | None,
    page: RunsPage | None,
) -> list[Ended]:
    drawing = None if screen is None else asyncio.create_task(screen.run())
    say = tell if screen is not None else _say_nothing
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(_run_one(plan, bundle, broker, panel, page, say), name=plan.name)
                for plan, bundle, panel in zip(plans, shared, panels, strict=True)
            ]
    except BaseExceptionGroup as raised:
        raise raised.exceptions[0] from None
    finally:
        if drawing is not None and screen is not None:
            drawing.cancel()
            await asyncio.gather(drawing, return_exceptions=True)
            await screen.close()
    return [task.result() for task in tasks]


async def _run_one(
    plan: SourcePlan,
    shared: SharedBundle,
    broker: BrokerAddress | None,
    panel: PanelSink,
    page: RunsPage | None,
    say: Callable[[str], None],
) -> Ended:
    controls = Controls()
    sinks: list[Sink] = [panel]
    if page is not None:
        from stream.page.sink import RunOnPage

        sinks.append(RunOnPage(page, controls, plan.name))
    try:
        async with open_engine(
            plan.input_options,
            plan.output_options,
            shared=shared,
            broker=broker,
            more_sinks=sinks,
            introduce=lambda line: say(f"{plan.name}: {line}"),
        ) as engine:
            controls.attach(engine)
            return Ended(plan.name, await engine.run())
    except UserError as error:
        say(f"{plan.name}: {error}")
        return Ended(plan.name, error=error)


async def _open_page(options: PageOptions, plans: Sequence[SourcePlan], stack: AsyncExitStack) -> RunsPage:
    """One page for all of them, which ends with the `stack`. Raises UserError where it cannot be served."""
    from stream.page.sink import RunsPage

    words = any(plan.output_options.publish_transcript for plan in plans)
    page = RunsPage(options, shows_words=words)
    stack.push_async_callback(page.close)
    await page.open()
    return page


def _load_bundles(plans: Sequence[SourcePlan], tell_progress: Callable[[str], None]) -> list[SharedBundle]:
    """The bundle of each, loaded once for all that take the same."""
    use_threads(
        max(plan.input_options.threads or default_threads(plan.input_options.bundle) for plan in plans)
    )
    loaded: dict[tuple[str, str], SharedBundle] = {}
    for plan in plans:
        key = (plan.input_options.bundle, plan.input_options.accelerator)
        if key not in loaded:
            tell_progress(f"loading the bundle {key[0]}")
            loaded[key] = load_bundle(key[0], accelerator=key[1])
    return [loaded[plan.input_options.bundle, plan.input_options.accelerator] for plan in plans]


def _with_something_to_say(sinks: Sequence[PanelSink]) -> list[Panel]:
    """The panels of sources that were opened."""
    return [sink.panel for sink in sinks if sink.panel.trained is not None]


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot make the folder {folder} for records ({error.strerror or error}): give one that you can write to"
        ) from None


def _say_nothing(line: str) -> None:
    """For a run that shows nothing."""
