"""Options that more than one command takes, each described once: the broker's files, and where a page is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

BROKER: Final = "MQTT"
SHOWN: Final = "What is shown"

CaFile = Annotated[
    Path | None,
    typer.Option(help="Certificate authority (PEM) of an mqtts broker.", rich_help_panel=BROKER),
]
ClientCert = Annotated[
    Path | None,
    typer.Option(
        help="Our certificate (PEM), for an mqtts broker that asks for one.", rich_help_panel=BROKER
    ),
]
ClientKey = Annotated[
    Path | None,
    typer.Option(
        help="Its key (PEM), where it is in another file; the password of an encrypted one goes into "
        "AFFECT_BROKER_KEY_PASSWORD.",
        rich_help_panel=BROKER,
    ),
]
BrokerPasswordFile = Annotated[
    Path | None,
    typer.Option(help="A file that holds the password for the broker, in one line.", rich_help_panel=BROKER),
]
PageAddress = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        help="Serve the page here; beyond this machine viewers need a token, which is made up unless given.",
        rich_help_panel=SHOWN,
    ),
]
PageToken = Annotated[
    str | None,
    typer.Option(
        help="What viewers of the page have to show; better as AFFECT_PAGE_TOKEN than here.",
        rich_help_panel=SHOWN,
    ),
]
