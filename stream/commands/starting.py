"""From the options of `stream-run` to a run: which sources, what cannot be, one engine or several."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from models.console import waiting
from models.errors import SetupError, UserError
from stream.lsl.library import check_lsl
from stream.metrics.address import check_metrics
from stream.mqtt.topics import check_publisher_id, default_publisher_id
from stream.mqtt.wanted import wanted_broker_of
from stream.options import DEMO_RECORDING
from stream.page.options import page_options
from stream.session_folder.options import check_session

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from stream.fleet.plan import FleetEntry
    from stream.options import InputOptions, OutputOptions
    from stream.page.options import PageOptions


def find_sources(
    sources: list[str] | None, cameras: list[str] | None, fleet: Path | None, *, demo: bool
) -> Sequence[FleetEntry]:
    """What is to be run: one source, or several of one kind. Raises UserError for none, and for kinds together."""
    from stream.fleet.plan import FleetEntry, read_fleet

    kinds = [bool(sources), bool(cameras), fleet is not None, demo]
    if sum(kinds) != 1:
        raise UserError(
            "give one source, or several of one kind: recordings and URLs, --camera, --fleet or --demo"
        )
    if fleet is not None:
        return read_fleet(fleet)
    if cameras:
        return [FleetEntry(camera=camera) for camera in cameras]
    return [FleetEntry(source=source) for source in (sources or [str(DEMO_RECORDING)])]


def parse_size(text: str) -> tuple[int, int]:
    """Width and height of `1280x720`. Raises UserError for anything else."""
    match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    if match is None:
        raise UserError(f"'{text}' is not a picture size: give one such as 1280x720")
    return int(match[1]), int(match[2])


def start(
    entries: Sequence[FleetEntry],
    input_options: InputOptions,
    output_options: OutputOptions,
    *,
    several: bool,
    says_progress: bool = True,
) -> None:
    """Runs one source, or several in this process, to the end.

    What cannot be is refused before anything is loaded. `says_progress` is whether stderr has lines for people, and
    not only a log. Raises UserError, which names the `stream-doctor` that looks
    into a device, a part or a broker that failed.
    """
    check_lsl(
        lsl=output_options.lsl,
        name=output_options.lsl_name,
        markers=output_options.lsl_markers,
        pace=input_options.pace,
    )
    shown = page_options(output_options)
    if shown is not None and shown.generated and not says_progress:
        raise UserError(
            "the page beyond this machine needs a token, and one that is made up is not said in a log",
            way_out="give one in AFFECT_PAGE_TOKEN",
        )
    check_metrics(output_options.metrics, None if shown is None else shown.port)
    publisher_id = check_publisher_id(output_options.publisher_id or default_publisher_id())
    wanted_broker_of(output_options, publisher_id)
    check_session(
        output_options.session,
        output_options.participant,
        output_options.notes,
        keep_media=output_options.keep_media,
    )
    if not several:
        from stream.sources.open import check_source

        check_source(input_options.source)
    # Imported here so that --help and mistakes answer at once: PyTorch alone takes more than a second.
    with waiting("loading what computes networks", tell_first=False):
        from stream.broker.connection import run as run_async
        from stream.session import stream

    if several:
        _run_several(entries, input_options, output_options, shown)
        return
    try:
        run_async(stream(input_options, output_options))
    except SetupError as error:
        raise UserError(_with_doctor(error, input_options, output_options)) from error


def _run_several(
    entries: Sequence[FleetEntry],
    input_options: InputOptions,
    output_options: OutputOptions,
    page: PageOptions | None,
) -> None:
    """Runs all in this process. Raises UserError where one of them failed, once the others have ended."""
    from stream.broker.connection import run as run_async
    from stream.fleet.plan import plan_sources
    from stream.fleet.run import run_fleet

    if input_options.microphone not in (None, "none"):
        raise UserError(
            "one microphone cannot be heard with several sources: name each one's in a --fleet file"
        )
    plans = plan_sources(entries, input_options, output_options)
    try:
        ended = run_async(run_fleet(plans, view=output_options.view, page=page))
    except SetupError as error:
        # Of a broker or a bundle, which is the same for all but where an entry names one of its own.
        raise UserError(_with_doctor(error, plans[0].input_options, plans[0].output_options)) from error
    failed = [
        f"{plan.name}: {_with_doctor(run.error, plan.input_options, plan.output_options)}"
        for plan, run in zip(plans, ended, strict=True)
        if run.error is not None
    ]
    if failed:
        raise UserError(f"{len(failed)} of {len(ended)} sources failed: {'; '.join(failed)}")


def _with_doctor(error: UserError, input_options: InputOptions, output_options: OutputOptions) -> str:
    """What an error says, with the `stream-doctor` that looks into what the run was set up with."""
    if not isinstance(error, SetupError):
        return str(error)
    from stream.doctor.options import DoctorOptions

    return f"{error} (`{DoctorOptions.for_run(input_options, output_options).command()}` looks into it)"
