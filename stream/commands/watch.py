"""The command line `stream-watch`."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

from models.configuration import ConfigOption, ConfiguredCommand, ShowConfigOption
from models.console import make_app, run
from stream.commands.shared_options import (
    SHOWN,
    BrokerPasswordFile,
    CaFile,
    ClientCert,
    ClientKey,
    PageAddress,
    PageToken,
)
from stream.page.options import find_page_options

HELP: Final = """
Watch what any number of running stream-run commands publish.

Examples:

  stream-watch
      everything on this machine's broker

  stream-watch --broker mqtt://192.168.0.2:1883 --id desk
      one publisher, on a broker elsewhere

  stream-watch --page
      on a page in the browser, at http://127.0.0.1:8080/

  stream-watch --json --count 10
      ten messages as JSON lines, then exit

  stream-watch --json --id desk --catch-up notes > desk.jsonl
      every message, those too that come while the broker or this is away

  stream-watch --forget-home-assistant desk
      take a device of stream-run --home-assistant out of Home Assistant
"""

DEFAULT_BROKER: Final = "mqtt://127.0.0.1:1883"


def command() -> None:
    """Console script `stream-watch`."""
    run(_app)


_app = make_app(HELP)


@_app.command(help=HELP, cls=ConfiguredCommand)
def stream_watch(
    broker: Annotated[
        str,
        typer.Option(
            help="mqtt://user:password@host:port or mqtts://... User and password may be in AFFECT_BROKER_USER and "
            "AFFECT_BROKER_PASSWORD."
        ),
    ] = DEFAULT_BROKER,
    ca_file: CaFile = None,
    client_cert: ClientCert = None,
    client_key: ClientKey = None,
    broker_password_file: BrokerPasswordFile = None,
    publisher_id: Annotated[str, typer.Option("--id", help="Watch only affect/ID; all by default.")] = "+",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print messages as JSON lines instead of the view.")
    ] = False,
    count: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="End after this many messages.")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(metavar="S", min=0.0, help="End after this many seconds.")
    ] = None,
    catch_up: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Have the broker keep, for a day, what is published while this command is away, for the next with "
            "this name; one at a time.",
        ),
    ] = None,
    forget_home_assistant: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Take the device of affect/ID out of Home Assistant, and exit."),
    ] = None,
    home_assistant_prefix: Annotated[
        str, typer.Option(metavar="TOPIC", help="Home Assistant's discovery prefix.")
    ] = "homeassistant",
    page: Annotated[
        bool,
        typer.Option(
            "--page",
            help="Show it in a browser too, at 127.0.0.1:8080 unless told otherwise.",
            rich_help_panel=SHOWN,
        ),
    ] = False,
    page_address: PageAddress = None,
    page_token: PageToken = None,
    config: ConfigOption = None,
    show_config: ShowConfigOption = False,
) -> None:
    """Show what is published until Ctrl-C."""
    page_asked_for = find_page_options(page, page_address, page_token)
    from stream.broker.connection import run as run_async
    from stream.broker.credentials import BrokerFiles, find_broker

    address = find_broker(broker, BrokerFiles(ca_file, client_cert, client_key, broker_password_file))
    if forget_home_assistant is not None:
        from stream.mqtt.home_assistant import HomeAssistant, forget

        device = HomeAssistant(forget_home_assistant, home_assistant_prefix)
        found = run_async(forget(address, device))
        said = "is no device of Home Assistant any more" if found else "was no device of Home Assistant"
        typer.echo(f"{forget_home_assistant} {said} ({device.topic} at {address.endpoint})")
        return
    from stream.view.watch import watch

    how: dict[str, Any] = {
        "publisher_id": publisher_id,
        "as_json": as_json,
        "count": count,
        "seconds": seconds,
        "catch_up": catch_up,
    }
    if page_asked_for is None:
        run_async(watch(address, **how))
        return
    from stream.page.watching import watch_with_page

    run_async(watch_with_page(address, page_asked_for, **how))
