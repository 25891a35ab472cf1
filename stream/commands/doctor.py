"""The command line `stream-doctor`."""

from __future__ import annotations

import json
from typing import Annotated, Final

import typer

from models.configuration import ConfigOption, ConfiguredCommand, ShowConfigOption
from models.console import make_app, run, waiting
from stream.commands.shared_options import BrokerPasswordFile, CaFile, ClientCert, ClientKey
from stream.options import DEFAULT_BUNDLE

HELP: Final = """
Try everything that a live run needs, and say what is well, what is not, and
what mends it.

Looks through the cameras for a face and for light, listens to the microphone,
publishes at the broker and receives it again, checks the bundle and its
parts, and measures how fast this machine is. Nothing of a picture or a sound
is kept. Exit status 0: the run can be made; 1: it cannot; 2: an option is
wrong.

Examples:

  stream-doctor
      every camera, the default microphone, a broker of its own

  stream-doctor --camera 1 --microphone none --broker mqtt://192.168.0.2
      that camera, no sound, that broker

  stream-doctor --camera rtsp://127.0.0.1:8554/cam
      a stream in place of a camera

  stream-doctor --camera none --bundle demo
      a machine that only ever sees recordings

  stream-doctor --json
      for programs: every finding with its numbers
"""


def command() -> None:
    """Console script `stream-doctor`."""
    run(_app)


_app = make_app(HELP)


@_app.command(help=HELP, cls=ConfiguredCommand)
def stream_doctor(
    camera: Annotated[
        str | None,
        typer.Option(
            help="A camera by number, name or device file, a stream's URL, or none; by default every camera."
        ),
    ] = None,
    microphone: Annotated[
        str | None, typer.Option(help="A microphone by number or name, or none; by default the default one.")
    ] = None,
    bundle: Annotated[str, typer.Option(help="The bundle that is to serve.")] = DEFAULT_BUNDLE,
    broker: Annotated[
        str,
        typer.Option(help="mqtt://user@host:port, mqtts://..., embedded or none, as stream-run takes it."),
    ] = "embedded",
    ca_file: CaFile = None,
    publisher_id: Annotated[
        str | None,
        typer.Option("--id", help="Try the broker under affect/ID; by default this machine's name."),
    ] = None,
    detector: Annotated[str, typer.Option(help="Face detector: auto, haar or yunet.")] = "auto",
    recogniser: Annotated[str, typer.Option(help="Speech recogniser, as stream-run takes it.")] = "auto",
    accelerator: Annotated[
        str, typer.Option(help="How networks are computed, as stream-run takes it.")
    ] = "auto",
    threads: Annotated[int | None, typer.Option(metavar="N", min=1, help="Threads for the networks.")] = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            metavar="S", min=0.2, max=60.0, help="Look and listen for so long; by default 2 and 3 seconds."
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the findings as one JSON document instead of the table.")
    ] = False,
    client_cert: ClientCert = None,
    client_key: ClientKey = None,
    broker_password_file: BrokerPasswordFile = None,
    config: ConfigOption = None,
    show_config: ShowConfigOption = False,
) -> None:
    """Examine what a live run needs; ends with 1 where it cannot be made."""
    from stream.doctor.options import DoctorOptions

    options = DoctorOptions(
        camera=camera,
        microphone=microphone,
        bundle=bundle,
        broker=broker,
        ca_file=ca_file,
        publisher_id=publisher_id,
        detector=detector,
        recogniser=recogniser,
        accelerator=accelerator,
        threads=threads,
        seconds=seconds,
        client_cert=client_cert,
        client_key=client_key,
        broker_password_file=broker_password_file,
    )
    with waiting("what is needed to examine is loaded") as tell:
        from stream.broker.connection import run as run_async
        from stream.doctor.examination import examine
        from stream.doctor.table import print_report

        report = run_async(examine(options, tell))
    if as_json:
        typer.echo(json.dumps(report.to_json(), indent=2))
    else:
        print_report(report)
    if not report.can_run:
        raise typer.Exit(1)
