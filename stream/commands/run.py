"""The command line `stream-run`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from models.configuration import ConfigOption, ConfiguredCommand, ShowConfigOption
from models.console import make_app, run, waiting
from models.errors import SetupError, UserError
from stream.logs import logging_to_stderr
from stream.lsl.library import check_lsl
from stream.metrics.address import check_metrics
from stream.options import (
    DEFAULT_BUNDLE,
    DEMO_BUNDLE,
    DEMO_RECORDING,
    LATENCY_TARGET_MS,
    InputOptions,
    OutputOptions,
)
from stream.page.options import page_options
from stream.session_folder.options import check_session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stream.fleet.plan import FleetEntry
    from stream.page.options import PageOptions

HELP: Final = """
Estimate how a person seems to feel, 30 times a second, and publish it over MQTT.

Examples:

  stream-run --demo
      a drawn person, and a bundle, recogniser and broker that the package brings along

  stream-run talk.mp4 --broker mqtt://127.0.0.1:1883
      a recording, at the pace it plays

  stream-run talk.mp4 --pace fast --record out.jsonl
      as fast as the machine can, with a JSON line per frame

  stream-run talk.mp4 --pace fast --latency-target 500 --record out.jsonl
      frames estimated in larger batches: faster still on most machines

  stream-run --camera 0 --broker embedded
      the default camera and microphone, with a broker of its own

  stream-run --camera /dev/video2 --microphone none --size 1280x720 --fps 30
      another camera, no sound

  stream-run --camera 0 --broker mqtts://broker.local --ca-file ca.pem --home-assistant
      a broker with TLS, and a device in Home Assistant

  stream-run rtsp://127.0.0.1:8554/cam
      any stream that FFmpeg opens

  stream-run --camera 0 --camera 1 --broker embedded
      two cameras side by side: one bundle in memory, topics for each

  stream-run --fleet fleet.toml --broker mqtt://hub
      any number of sources, with an id and options for each

  stream-run --camera 0 --budget full
      full quality always: a machine too slow for it drops frames instead

  stream-run --camera 0 --lsl --lsl-markers --metrics 9464
      for a laboratory's recorder, stamped at capture, with its markers; and for Prometheus

  stream-run --camera 0 --page
      on a page in the browser, at http://127.0.0.1:8080/

  stream-run --camera 0 --session sessions/P07 --participant P07
      everything that comes of it kept in a folder, for an analyst

  stream-run --list-devices
      cameras and microphones, by the names that --camera and --microphone take

Networks are computed by PyTorch (eager), torch.compile, OpenVINO, CUDA or TensorRT; the
last four are used only where their results agree with PyTorch's on test inputs that come
with the bundle. CUDA and TensorRT have not yet run on hardware. auto measures which are
fast enough on this machine, takes the most exact of them and remembers the choice, so that
replaying a recording gives the same record byte for byte. To use one whatever its speed,
name it: --accelerator eager.

Only numbers leave the process: no sound, words only with --publish-transcript, and a picture only
with --preview: the small face crop, to the viewers of the page.
The folder of --session has the words too, and picture and sound only with --keep-media.

In a terminal, m marks this moment, p pauses and resumes, r forgets what centering looks back on,
q ends the run.
"""


def command() -> None:
    """Console script `stream-run`."""
    run(_app)


_app = make_app(HELP)


class RunCommand(ConfiguredCommand):
    """`stream-run`, which takes one source."""

    exclusive = frozenset({"source", "camera", "fleet", "demo"})


@_app.command(help=HELP, cls=RunCommand)
def stream_run(
    source: Annotated[
        list[str] | None,
        typer.Argument(help="A recording's file or a stream's URL, or several: anything FFmpeg can read."),
    ] = None,
    camera: Annotated[
        list[str] | None,
        typer.Option(help="A camera by number, name or device file; given again, another one beside it."),
    ] = None,
    fleet: Annotated[
        Path | None, typer.Option(help="A TOML file of several sources, with an id and options for each.")
    ] = None,
    microphone: Annotated[
        str | None, typer.Option(help="A microphone by number or name, or none; by default the default one.")
    ] = None,
    size: Annotated[str | None, typer.Option(help="Ask the camera for pictures of WIDTHxHEIGHT.")] = None,
    fps: Annotated[
        float | None, typer.Option(min=1.0, help="Ask the camera for this many pictures a second.")
    ] = None,
    list_devices: Annotated[
        bool, typer.Option("--list-devices", help="List cameras and microphones, and exit.")
    ] = False,
    demo: Annotated[
        bool,
        typer.Option(
            "--demo", help="Run on the recording, recogniser and broker that the package brings along."
        ),
    ] = False,
    bundle: Annotated[
        str | None,
        typer.Option(
            help="The trained models: the name of a bundle that the package ships, or a bundle's folder; by default "
            f"{DEFAULT_BUNDLE}, and {DEMO_BUNDLE} with --demo. What it is for and how good: models-info NAME --card."
        ),
    ] = None,
    broker: Annotated[
        str | None,
        typer.Option(
            help="mqtt://user:password@host:port, mqtts://..., embedded, embedded://0.0.0.0:1883 (for others too, "
            "with a password) or none. User and password may be in AFFECT_BROKER_USER and AFFECT_BROKER_PASSWORD."
        ),
    ] = None,
    ca_file: Annotated[
        Path | None, typer.Option(help="Certificate authority (PEM) of an mqtts broker.")
    ] = None,
    publisher_id: Annotated[
        str | None, typer.Option("--id", help="Publish under affect/ID; by default this machine's name.")
    ] = None,
    pace: Annotated[
        Literal["live", "fast"],
        typer.Option(help="Recordings: at the pace they play, or as fast as possible."),
    ] = "live",
    record: Annotated[
        Path | None, typer.Option(help="Write each frame's final estimate to this file, as a JSON line.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier record.")] = False,
    rate: Annotated[
        float | None,
        typer.Option(help="Publish at most this many provisional estimates a second; all by default."),
    ] = None,
    detector: Annotated[
        Literal["auto", "haar", "yunet"],
        typer.Option(
            help="Face detector; auto is the one that the bundle was trained with, or else yunet where installed."
        ),
    ] = "auto",
    recogniser: Annotated[
        str | None,
        typer.Option(
            help="Speech recogniser: auto, none, the name of an installed one, or the folder of a model."
        ),
    ] = None,
    publish_transcript: Annotated[
        bool, typer.Option("--publish-transcript", help="Publish recognised words too.")
    ] = False,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="A CSV file with the recording's true valence,arousal per frame, to show and compare."
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1, help="Threads for the networks; by default 1 for a compact bundle, else all cores."
        ),
    ] = None,
    budget: Annotated[
        str,
        typer.Option(
            help="What to leave out of a live source when the machine cannot keep up: auto goes from full through "
            "visual-2, visual-3, audio-3 and half-folds to one-fold and back as needed; name one to stay on it."
        ),
    ] = "auto",
    accelerator: Annotated[
        str,
        typer.Option(
            help="How networks are computed: auto, eager, compile, openvino, cuda or tensorrt, optionally with a "
            "precision, as in openvino:int8. Where one cannot be used here, the status says why and eager is used."
        ),
    ] = "auto",
    latency_target: Annotated[
        float,
        typer.Option(
            min=0.0,
            metavar="MS",
            help="How long a recording's frame may wait to be estimated together with later ones, which takes less "
            "time in all; 0: one by one. A live source's frames never wait for later ones.",
        ),
    ] = LATENCY_TARGET_MS,
    client_cert: Annotated[
        Path | None, typer.Option(help="Our certificate (PEM), for an mqtts broker that asks for one.")
    ] = None,
    client_key: Annotated[
        Path | None,
        typer.Option(
            help="Its key (PEM), where it is in another file; the password of an encrypted one goes into "
            "AFFECT_BROKER_KEY_PASSWORD."
        ),
    ] = None,
    broker_password_file: Annotated[
        Path | None, typer.Option(help="A file that holds the password for the broker, in one line.")
    ] = None,
    home_assistant: Annotated[
        bool, typer.Option("--home-assistant", help="Announce this publisher to Home Assistant as a device.")
    ] = False,
    home_assistant_prefix: Annotated[
        str, typer.Option(metavar="TOPIC", help="Home Assistant's discovery prefix.")
    ] = "homeassistant",
    lsl: Annotated[
        bool, typer.Option("--lsl", help="Publish over Lab Streaming Layer, stamped at capture (extra lsl).")
    ] = False,
    lsl_name: Annotated[
        str | None, typer.Option(help="The stream's name there; affectstream by default.")
    ] = None,
    lsl_markers: Annotated[
        bool, typer.Option("--lsl-markers", help="Take markers from every LSL stream of type Markers.")
    ] = False,
    metrics: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT", help="Serve metrics for Prometheus there, at /metrics (extra page)."
        ),
    ] = None,
    log_format: Annotated[
        Literal["text", "json"],
        typer.Option(help="What stderr says: text, or a JSON object in each line and nothing else."),
    ] = "text",
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        typer.Option(help="From which level on: losses and drops are warnings, connections info."),
    ] = "warning",
    page: Annotated[
        bool,
        typer.Option("--page", help="Show it all in a browser, at 127.0.0.1:8080 unless told otherwise."),
    ] = False,
    page_address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Serve the page here; beyond this machine viewers need a token, which is made up unless given.",
        ),
    ] = None,
    page_token: Annotated[
        str | None,
        typer.Option(help="What viewers of the page have to show; better as AFFECT_PAGE_TOKEN than here."),
    ] = None,
    preview: Annotated[
        bool, typer.Option("--preview", help="Show the face as the network sees it, on the page only.")
    ] = False,
    session: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Keep everything that comes of the run in this new folder: estimates, recognised words, markers, "
            "what ran. No picture or sound, unless with --keep-media. See offline-report and stream-export.",
        ),
    ] = None,
    participant: Annotated[
        str | None, typer.Option(help="Who it is of, written into the session: a code rather than a name.")
    ] = None,
    notes: Annotated[str | None, typer.Option(help="What else to write into the session.")] = None,
    keep_media: Annotated[
        bool, typer.Option("--keep-media", help="Keep picture and sound in the session's folder too.")
    ] = False,
    view: Annotated[
        Literal["auto", "full", "plain", "none"], typer.Option(help="What the terminal shows.")
    ] = "auto",
    config: ConfigOption = None,
    show_config: ShowConfigOption = False,
) -> None:
    """Run a source through the engine, to the terminal, a broker and a record."""
    if list_devices:
        from stream.sources.devices import list_devices as find_devices

        typer.echo(str(find_devices()))
        return
    entries = _sources(source, camera, fleet, demo=demo)
    input_options = InputOptions(
        source=entries[0].target,
        bundle=bundle if bundle is not None else DEMO_BUNDLE if demo else DEFAULT_BUNDLE,
        pace=pace,
        detector=detector,
        recogniser=recogniser or ("vosk-tiny" if demo else "auto"),
        microphone=microphone,
        size=None if size is None else _parse_size(size),
        frame_rate=fps,
        threads=threads,
        budget=budget,
        accelerator=accelerator,
        latency_target_ms=latency_target,
    )
    output_options = OutputOptions(
        broker=broker or ("embedded" if demo else "none"),
        ca_file=ca_file,
        publisher_id=publisher_id,
        record=record,
        overwrite=overwrite,
        rate=rate,
        publish_transcript=publish_transcript,
        labels=labels or (DEMO_RECORDING.with_suffix(".txt") if demo else None),
        view=view,
        client_cert=client_cert,
        client_key=client_key,
        broker_password_file=broker_password_file,
        home_assistant=home_assistant,
        home_assistant_prefix=home_assistant_prefix,
        lsl=lsl,
        lsl_name=lsl_name,
        lsl_markers=lsl_markers,
        metrics=metrics,
        page=page,
        page_address=page_address,
        page_token=page_token,
        preview=preview,
        session=session,
        participant=participant,
        notes=notes,
        keep_media=keep_media,
    )
    with logging_to_stderr(log_format, log_level):
        check_lsl(lsl=lsl, name=lsl_name, markers=lsl_markers, pace=pace)
        check_metrics(metrics)
        check_session(session, participant, notes, keep_media=keep_media)
        _run(entries, input_options, output_options, several=fleet is not None or len(entries) > 1)


def _run(
    entries: Sequence[FleetEntry],
    input_options: InputOptions,
    output_options: OutputOptions,
    *,
    several: bool,
) -> None:
    shown = page_options(output_options)
    if not several:
        from stream.sources.open import check_source

        check_source(input_options.source)
    # Imported here so that --help and mistakes answer at once: PyTorch alone takes more than a second.
    with waiting("loading what computes networks", tell_first=False):
        from stream.mqtt.connection import run as run_async
        from stream.session import stream

    if several:
        _run_several(entries, input_options, output_options, shown)
        return
    try:
        run_async(stream(input_options, output_options))
    except SetupError as error:
        from stream.doctor.options import DoctorOptions

        examine = DoctorOptions.for_run(input_options, output_options).command()
        raise UserError(f"{error} (`{examine}` looks into it)") from error


def _sources(
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


def _run_several(
    entries: Sequence[FleetEntry],
    input_options: InputOptions,
    output_options: OutputOptions,
    page: PageOptions | None,
) -> None:
    """Runs all in this process. Raises UserError where one of them failed, once the others have ended."""
    from stream.fleet.plan import plan_sources
    from stream.fleet.run import run_fleet
    from stream.mqtt.connection import run as run_async

    if input_options.microphone not in (None, "none"):
        raise UserError(
            "one microphone cannot be heard with several sources: name each one's in a --fleet file"
        )
    plans = plan_sources(entries, input_options, output_options)
    ended = run_async(run_fleet(plans, view=output_options.view, page=page))
    failed = [run for run in ended if run.error is not None]
    if failed:
        why = "; ".join(f"{run.name}: {run.error}" for run in failed)
        raise UserError(f"{len(failed)} of {len(ended)} sources failed: {why}")


def _parse_size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    if match is None:
        raise UserError(f"'{text}' is not a picture size: give one such as 1280x720")
    return int(match[1]), int(match[2])
