"""The command line `stream-export`."""

from __future__ import annotations

from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from models.console import make_app, run, tell
from models.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

    from stream.session_folder.read import SessionFolder

HELP: Final = """
Write a session, which stream-run --session kept, in the form of another program.

Examples:

  stream-export sessions/P07 --to elan
      sessions/P07/elan/P07.eaf: words, presence, markers, and valence and arousal as curves

  stream-export sessions/P07 --to praat
      sessions/P07/praat/P07.TextGrid

  stream-export sessions/P07 --to bids --out study/
      study/sub-P07/beh/: a recording with its description and events, added to the data set

  stream-export sessions/P07 --to xdf
      sessions/P07/xdf/P07.xdf: what Lab Streaming Layer would have recorded

A session that was cut is mended first. Nothing is overwritten.
"""


class Form(StrEnum):
    """What a session can be written as."""

    elan = "elan"
    praat = "praat"
    bids = "bids"
    xdf = "xdf"


ENDINGS: Final = {
    Form.elan: (".eaf", "_tsconf.xml", "_values.csv"),
    Form.praat: (".TextGrid",),
    Form.bids: (),
    Form.xdf: (".xdf",),
}
"""What follows a session's name in the names of the files that it becomes; BIDS has names of its own."""

_app = make_app(HELP)


@_app.command(help=HELP)
def stream_export(
    session: Annotated[Path, typer.Argument(help="The session's folder.")],
    to: Annotated[Form, typer.Option(help="The program or form to write it for.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The folder to write to; by default one in the session's."),
    ] = None,
) -> None:
    """Open, mend where it was cut, write."""
    from stream.extras import require_extra

    require_extra("session", "pyarrow", "a session's folder")
    from stream.session_folder.read import open_session_folder

    opened = open_session_folder(session)
    for note in opened.notes:
        tell(note)
    folder = out or session / to.value
    name = session.resolve().name
    if not len(opened.estimates["frame"]):
        raise UserError(f"the session {session} has no frames: there is nothing to write")
    for ending in ENDINGS[to]:
        if (taken := folder / f"{name}{ending}").exists():
            raise UserError(
                f"{taken} exists already, and nothing is overwritten: give another folder with --out"
            )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        written = _writer(to)(opened, folder, name)
    except OSError as error:
        for ending in ENDINGS[to]:  # half of a file would stand in the way of the next attempt
            with suppress(OSError):
                (folder / f"{name}{ending}").unlink()
        raise UserError(
            f"cannot write to {folder} ({error.strerror or error}): give another with --out"
        ) from None
    for path in written:
        typer.echo(f"written: {path}")


def _writer(form: Form) -> Callable[[SessionFolder, Path, str], list[Path]]:
    if form is Form.elan:
        from stream.export.elan import write_elan

        return write_elan
    if form is Form.praat:
        from stream.export.praat import write_praat

        return write_praat
    if form is Form.bids:
        from stream.export.bids import write_bids

        return write_bids
    from stream.export.xdf import write_xdf

    return write_xdf


def command() -> None:
    """Console script `stream-export`."""
    run(_app)
