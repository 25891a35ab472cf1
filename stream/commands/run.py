"""The command line `stream-run`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

import typer

from models.configuration import ConfigOption, ConfiguredCommand, ShowConfigOption
from models.console import make_app, run
from stream.commands.run_help import HELP
from stream.commands.shared_options import (
    BROKER,
    SHOWN,
    BrokerPasswordFile,
    CaFile,
    ClientCert,
    ClientKey,
    PageAddress,
    PageToken,
)
from stream.commands.starting import find_sources, parse_size, start
from stream.logs import logging_to_stderr
from stream.options import (
    DEFAULT_BUNDLE,
    DEMO_BUNDLE,
    DEMO_RECORDING,
    LATENCY_TARGET_MS,
    InputOptions,
    OutputOptions,
)

SOURCE: Final = "What is watched"
COMPUTING: Final = "How it is computed"
DISK: Final = "Kept on disk"
ELSEWHERE: Final = "Recorders, metrics and logs"


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
        typer.Option(
            help="A camera by number, name or device file; given again, another one beside it.",
            rich_help_panel=SOURCE,
        ),
    ] = None,
    fleet: Annotated[
        Path | None,
        typer.Option(
            help="A TOML file of several sources, with an id and options for each.", rich_help_panel=SOURCE
        ),
    ] = None,
    microphone: Annotated[
        str | None,
        typer.Option(
            help="A microphone by number or name, or none; by default the default one.",
            rich_help_panel=SOURCE,
        ),
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="Ask the camera for pictures of WIDTHxHEIGHT.", rich_help_panel=SOURCE)
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option(min=1.0, help="Ask the camera for this many pictures a second.", rich_help_panel=SOURCE),
    ] = None,
    list_devices: Annotated[
        bool,
        typer.Option(
            "--list-devices", help="List cameras and microphones, and exit.", rich_help_panel=SOURCE
        ),
    ] = False,
    demo: Annotated[
        bool,
        typer.Option(
            "--demo",
            help="Run on the recording, recogniser and broker that the package brings along.",
            rich_help_panel=SOURCE,
        ),
    ] = False,
    bundle: Annotated[
        str | None,
        typer.Option(
            help="The trained models: the name of a bundle that the package ships, or a bundle's folder; by default "
            f"{DEFAULT_BUNDLE}, and {DEMO_BUNDLE} with --demo. What it is for and how good: models-info NAME --card.",
            rich_help_panel=COMPUTING,
        ),
    ] = None,
    broker: Annotated[
        str | None,
        typer.Option(
            help="mqtt://user:password@host:port, mqtts://..., embedded, embedded://0.0.0.0:1883 (for others too, "
            "with a password) or none. User and password may be in AFFECT_BROKER_USER and AFFECT_BROKER_PASSWORD.",
            rich_help_panel=BROKER,
        ),
    ] = None,
    ca_file: CaFile = None,
    client_cert: ClientCert = None,
    client_key: ClientKey = None,
    broker_password_file: BrokerPasswordFile = None,
    publisher_id: Annotated[
        str | None,
        typer.Option(
            "--id", help="Publish under affect/ID; by default this machine's name.", rich_help_panel=BROKER
        ),
    ] = None,
    pace: Annotated[
        Literal["live", "fast"],
        typer.Option(
            help="Recordings: at the pace they play, or as fast as possible.", rich_help_panel=SOURCE
        ),
    ] = "live",
    record: Annotated[
        Path | None,
        typer.Option(
            help="Write each frame's final estimate to this file, as a JSON line.", rich_help_panel=DISK
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier record.", rich_help_panel=DISK)
    ] = False,
    rate: Annotated[
        float | None,
        typer.Option(
            help="Publish at most this many provisional estimates a second; all by default.",
            rich_help_panel=BROKER,
        ),
    ] = None,
    detector: Annotated[
        Literal["auto", "haar", "yunet"],
        typer.Option(
            help="Face detector; auto is the one that the bundle was trained with, or else yunet where installed.",
            rich_help_panel=COMPUTING,
        ),
    ] = "auto",
    recogniser: Annotated[
        str | None,
        typer.Option(
            help="Speech recogniser: auto, none, the name of an installed one, or the folder of a model.",
            rich_help_panel=COMPUTING,
        ),
    ] = None,
    publish_transcript: Annotated[
        bool,
        typer.Option("--publish-transcript", help="Publish recognised words too.", rich_help_panel=BROKER),
    ] = False,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="A CSV file with the recording's true valence,arousal per frame, to show and compare.",
            rich_help_panel=SHOWN,
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Threads for the networks; by default 1 for the shipped bundles, whose layers are small, else one a "
            "core, 4 at most.",
            rich_help_panel=COMPUTING,
        ),
    ] = None,
    budget: Annotated[
        str,
        typer.Option(
            help="What to leave out of a live source when the machine cannot keep up: auto goes from full through "
            "visual-2, visual-3, audio-3 and half-folds to one-fold and back as needed; name one to stay on it.",
            rich_help_panel=COMPUTING,
        ),
    ] = "auto",
    accelerator: Annotated[
        str,
        typer.Option(
            help="How networks are computed: auto, eager, compile, openvino, cuda or tensorrt, optionally with a "
            "precision, as in openvino:int8. Where one cannot be used here, the status says why and eager is used.",
            rich_help_panel=COMPUTING,
        ),
    ] = "auto",
    latency_target: Annotated[
        float,
        typer.Option(
            min=0.0,
            metavar="MS",
            help="How long a recording's frame may wait to be estimated together with later ones, which takes less "
            "time in all; 0: one by one. A live source's frames never wait for later ones.",
            rich_help_panel=COMPUTING,
        ),
    ] = LATENCY_TARGET_MS,
    home_assistant: Annotated[
        bool,
        typer.Option(
            "--home-assistant",
            help="Announce this publisher to Home Assistant as a device.",
            rich_help_panel=BROKER,
        ),
    ] = False,
    home_assistant_prefix: Annotated[
        str, typer.Option(metavar="TOPIC", help="Home Assistant's discovery prefix.", rich_help_panel=BROKER)
    ] = "homeassistant",
    lsl: Annotated[
        bool,
        typer.Option(
            "--lsl",
            help="Publish over Lab Streaming Layer, stamped at capture (extra lsl).",
            rich_help_panel=ELSEWHERE,
        ),
    ] = False,
    lsl_name: Annotated[
        str | None,
        typer.Option(help="The stream's name there; affectstream by default.", rich_help_panel=ELSEWHERE),
    ] = None,
    lsl_markers: Annotated[
        bool,
        typer.Option(
            "--lsl-markers",
            help="Take markers from every LSL stream of type Markers.",
            rich_help_panel=ELSEWHERE,
        ),
    ] = False,
    metrics: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Serve metrics for Prometheus there, at /metrics (extra page).",
            rich_help_panel=ELSEWHERE,
        ),
    ] = None,
    log_format: Annotated[
        Literal["text", "json"],
        typer.Option(
            help="What stderr says: text, or a JSON object in each line and nothing else.",
            rich_help_panel=ELSEWHERE,
        ),
    ] = "text",
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        typer.Option(
            help="From which level on: losses and drops are warnings, connections info.",
            rich_help_panel=ELSEWHERE,
        ),
    ] = "warning",
    page: Annotated[
        bool,
        typer.Option(
            "--page",
            help="Show it all in a browser, at 127.0.0.1:8080 unless told otherwise.",
            rich_help_panel=SHOWN,
        ),
    ] = False,
    page_address: PageAddress = None,
    page_token: PageToken = None,
    preview: Annotated[
        bool,
        typer.Option(
            "--preview", help="Show the face as the network sees it, on the page only.", rich_help_panel=SHOWN
        ),
    ] = False,
    session: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Keep everything that comes of the run in this new folder: estimates, recognised words, markers, "
            "what ran. No picture or sound, unless with --keep-media. See offline-report and stream-export.",
            rich_help_panel=DISK,
        ),
    ] = None,
    participant: Annotated[
        str | None,
        typer.Option(
            help="Who it is of, written into the session: a code rather than a name.", rich_help_panel=DISK
        ),
    ] = None,
    notes: Annotated[
        str | None, typer.Option(help="What else to write into the session.", rich_help_panel=DISK)
    ] = None,
    keep_media: Annotated[
        bool,
        typer.Option(
            "--keep-media", help="Keep picture and sound in the session's folder too.", rich_help_panel=DISK
        ),
    ] = False,
    view: Annotated[
        Literal["auto", "full", "plain", "none"],
        typer.Option(help="What the terminal shows.", rich_help_panel=SHOWN),
    ] = "auto",
    config: ConfigOption = None,
    show_config: ShowConfigOption = False,
) -> None:
    """Run a source through the engine, to the terminal, a broker and a record."""
    if list_devices:
        from stream.sources.devices import list_devices as find_devices

        typer.echo(str(find_devices()))
        return
    entries = find_sources(source, camera, fleet, demo=demo)
    input_options = InputOptions(
        source=entries[0].target,
        bundle=bundle if bundle is not None else DEMO_BUNDLE if demo else DEFAULT_BUNDLE,
        pace=pace,
        detector=detector,
        recogniser=recogniser or ("vosk-tiny" if demo else "auto"),
        microphone=microphone,
        size=None if size is None else parse_size(size),
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
        start(
            entries,
            input_options,
            output_options,
            several=fleet is not None or len(entries) > 1,
            says_progress=log_format == "text" or log_level == "debug",
        )
