"""offline-card: the model card of a bundle, written from its manifest, from judgements and from a template."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from models.console import make_app, run, waiting
from models.errors import UserError

HELP: Final = """
Write the model card of a bundle: what it is for, how good it is, and what made it.

Every figure comes from the bundle's manifest or from what offline-judge --json wrote
of it; only what they cannot know is said with --fact. The card lies in the bundle's
folder, outside its content hash: models-info BUNDLE --card prints it.

Examples:

  offline-judge bundle/ --faces ferplus-validation.npz --json faces.json
  offline-card bundle/ faces.json
      the card of a bundle, with what it is worth on faces

  offline-card people faces.json voices.json texts.json --overwrite --fact training_time="38 minutes"
      by the template of its name, with a fact that the template asks for

  offline-card bundle/ faces.json --template mine.md -o -
      by a template of your own, to the terminal
"""

app = make_app(HELP)


@app.command(help=HELP)
def card(
    bundle: Annotated[str, typer.Argument(help="Fold models: a shipped name or a bundle's folder.")],
    judgements: Annotated[
        list[Path] | None, typer.Argument(metavar="JUDGEMENT.json", help="What offline-judge --json wrote.")
    ] = None,
    template: Annotated[
        str | None,
        typer.Option(
            help="A text with places in double braces: general, people, or a file. By default that of the bundle's "
            "name, or else general."
        ),
    ] = None,
    fact: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=TEXT", help="What a place {{fact:NAME}} says; may be repeated."),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option("--out", "-o", help="The card's file; - prints it. By default in the bundle."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the card that is there.")] = False,
) -> None:
    """Read, fill, write."""
    from models.bundle.card import CARD
    from models.bundle.shipped import resolve_bundle

    folder = resolve_bundle(bundle)
    target = folder / CARD if out is None else Path(out)
    printed = out == "-"
    if not printed and target.exists() and not overwrite:
        raise UserError(
            f"{target} exists already: give another file with --out, or --overwrite to replace it"
        )
    facts = _parse_facts(fact or ())
    with waiting("reading judgements and the bundle", tell_first=False):
        from offline.cards.card import make_card
        from offline.cards.document import read_document
        from offline.cards.template import read_template
        from offline.files import write_text

        text = make_card(
            folder,
            {path: read_document(path) for path in judgements or ()},
            facts,
            None if template is None else read_template(template),
        )
    if printed:
        typer.echo(text, nl=False)
        return
    write_text(target, text)
    typer.echo(f"written: {target}")


def command() -> None:
    """Console script `offline-card`."""
    run(app)


def _parse_facts(given: list[str] | tuple[()]) -> dict[str, str]:
    facts: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not (equals and name.strip() and value.strip()):
            raise UserError(f"'{text}' is no fact: give --fact NAME=TEXT")
        if name.strip() in facts:
            raise UserError(f"the fact {name.strip()} is given twice", way_out="leave one of them out")
        facts[name.strip()] = value.strip()
    return facts
