"""The command line `stream-watch`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from models.configuration import ConfigOption, ConfiguredCommand, ShowConfigOption
from models.console import make_app, run

HELP: Final = """
Watch in the terminal what any number of running stream-run commands publish.

Examples:

  stream-watch
      everything on this machine's broker

  stream-watch --broker mqtt://192.168.0.2:1883 --id desk
      one publisher, on a broker elsewhere

  stream-watch --json --count 10
      ten messages as JSON lines, then exit
"""

DEFAULT_BROKER: Final = "mqtt://127.0.0.1:1883"


def command() -> None:
    """Console script `stream-watch`."""
    run(_app)


_app = make_app(HELP)


@_app.command(help=HELP, cls=ConfiguredCommand)
def stream_watch(
    broker: Annotated[
        str, typer.Option(help="mqtt://user:password@host:port or mqtts://...")
    ] = DEFAULT_BROKER,
    ca_file: Annotated[
        Path | None, typer.Option(help="Certificate authority (PEM) of an mqtts broker.")
    ] = None,
    publisher_id: Annotated[str, typer.Option("--id", help="Watch only affect/ID; all by default.")] = "+",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print messages as JSON lines instead of the view.")
    ] = False,
    count: Annotated[int | None, typer.Option(min=1, help="End after this many messages.")] = None,
    seconds: Annotated[float | None, typer.Option(min=0.0, help="End after this many seconds.")] = None,
    config: ConfigOption = None,
    show_config: ShowConfigOption = False,
) -> None:
    """Show what is published until Ctrl-C."""
    from stream.mqtt.connection import BrokerAddress
    from stream.mqtt.connection import run as run_async
    from stream.view.watch import watch

    address = BrokerAddress.parse(broker, ca_file=ca_file)
    run_async(watch(address, publisher_id=publisher_id, as_json=as_json, count=count, seconds=seconds))
