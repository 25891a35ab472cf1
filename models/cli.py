"""`models-pull`, `models-list`, `models-info`: pretrained parts on this machine, and what is in a bundle."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from models.console import make_app, run, tell, waiting
from models.errors import UserError
from models.parts.install import pull
from models.parts.local_folder import find_in_folder, is_folder, require_in_folder
from models.parts.overview import list_parts as states_of_parts
from models.parts.recommended import RECOMMENDED, chosen_parts, size_and_licence
from models.parts.registry import PARTS, find_part, install_command, models_folder

if TYPE_CHECKING:
    from models.bundle.load import Bundle
    from models.bundle.manifest import Manifest
    from models.parts.registry import InstalledPart, PretrainedPart
    from models.spec import NetworkSpec

pull_app = make_app("Install pretrained parts.")
list_app = make_app("List pretrained parts.")
info_app = make_app("Show what is in a bundle.")


def pull_command() -> None:
    """`models-pull`: install pretrained parts by name."""
    run(pull_app)


def list_command() -> None:
    """`models-list`: which parts there are, their licences, and which are installed, where, with which hash."""
    run(list_app)


def info_command() -> None:
    """`models-info`: what is in a bundle, and which pretrained parts it needs."""
    run(info_app)


@pull_app.command(
    epilog="Examples: models-pull yunet | models-pull recommended (all that a real person needs) | "
    "models-pull recommended --from usb-stick/ (a folder filled on another machine) | "
    "models-pull vggish --from vggish-10086976.pth (fetched on another machine)"
)
def pull_parts(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="PART",
            help="Names of parts, as models-list shows them; recommended: what a real person needs.",
        ),
    ],
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FILE",
            help="Install this file or folder, fetched on another machine, instead of downloading; of a folder with "
            "several parts, each by its name or hash.",
        ),
    ] = None,
) -> None:
    """Install pretrained parts, each from where it is officially published, or from a file.

    What is installed and sound stays as it is. An interrupted download goes on where it stopped. Parts go to
    the folder AFFECT_MODELS, or else to the platform's data folder.
    """
    recommended = RECOMMENDED in names
    parts = chosen_parts(names, _wanted_by_shipped_bundles() if recommended else ())
    if source is not None and (recommended or len(parts) != 1) and not is_folder(source):
        raise UserError("--from gives one part: name one, or give a folder that holds them all")
    if recommended:
        tell(f"{RECOMMENDED}: {', '.join(size_and_licence(part) for part in parts)}")
    failed: list[UserError] = []
    for part in parts:
        try:
            _pull_one(part, source, keep_installed=len(parts) > 1)
        except UserError as error:
            if len(parts) == 1:
                raise
            failed.append(error)
    if failed:
        for earlier in failed[:-1]:
            tell(str(earlier))
        raise failed[-1]


def _wanted_by_shipped_bundles() -> list[str]:
    """Parts that the bundles of this installation need and do not bring along."""
    from models.bundle.manifest import read_manifest
    from models.bundle.shipped import resolve_bundle, shipped_bundles

    recipes = [read_manifest(resolve_bundle(name)).recipe for name in shipped_bundles()]
    uses = [
        use for recipe in recipes for use in (recipe.audio_encoder, recipe.text_encoder) if use is not None
    ]
    return [use.name for use in uses if not use.bundled and use.name in PARTS]


def _pull_one(part: PretrainedPart, source: Path | None, *, keep_installed: bool) -> None:
    """Install a part, with a bar on a terminal, and say where it is.

    `keep_installed`: one that is installed and sound stays, also where a `source` is given.
    """
    err = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    installed = _installed_and_sound(part) if keep_installed else None
    if installed is None and source is not None and is_folder(source):
        source = require_in_folder(part, source) if keep_installed else find_in_folder(part, source) or source
    if installed is None:
        with Progress(*columns, TimeRemainingColumn(), console=err, disable=not err.is_terminal) as bar:
            told: set[str] = set()
            tasks = {d.name: bar.add_task(d.name, visible=False, total=None) for d in part.downloads}

            def show(name: str, have: int, total: int | None) -> None:
                if not err.is_terminal and name not in told:
                    size = "" if total is None else f", {(total - have) / 1e6:.1f} MB"
                    tell(f"{part.name}: downloading {name}{size}")
                    told.add(name)
                done = f"{name}: checked and put in place" if have == total else name
                bar.update(tasks[name], completed=have, total=total, visible=True, description=done)

            installed = pull(part, source=source, progress=show)
    typer.echo(f"{part.name}: {installed.path} (sha256 {installed.sha256[:12]})")


def _installed_and_sound(part: PretrainedPart) -> InstalledPart | None:
    try:
        return find_part(part)
    except UserError:
        return None


@list_app.command(epilog="Example: models-list")
def list_parts() -> None:
    """List all pretrained parts: what each is for, whether it is installed, where, and with which hash."""
    out = _console()
    table = Table("part", "for", "licence", "MB", "installed", "sha256", box=None, pad_edge=False)
    with waiting("reading installed parts and checking their hashes", tell_first=False):
        states = states_of_parts()
    for part in states:
        where = f"no: {part.install}" if part.path is None else str(part.path)
        where = "refused, see below" if part.trouble else where
        sha256 = (part.sha256 or "")[:12]
        table.add_row(part.name, part.purpose, part.licence, str(part.megabytes), escape(where), sha256)
    out.print(table)
    out.print(f"Folder for parts: {escape(str(models_folder()))}")
    for part in states:
        if part.trouble:
            out.print(f"[red]{escape(part.trouble)}: install it again with `{part.install}`[/]")


@info_app.command(
    epilog="Examples: models-info demo | models-info people --card | models-info runs/joint/bundle"
)
def show_bundle(
    bundle: Annotated[
        str,
        typer.Argument(
            metavar="BUNDLE", help="A bundle's folder, or the name of one that ships with the package."
        ),
    ],
    card: Annotated[
        bool,
        typer.Option(
            "--card",
            help="Print the bundle's model card: what it is for, and how good; as it is, into a pipe.",
        ),
    ] = False,
) -> None:
    """Show a bundle's network, folds and training, and the pretrained parts that it needs.

    All files of the bundle are checked: a damaged one is refused.
    """
    if card:
        _print_card(bundle)
        return
    from models.bundle.shipped import resolve_bundle

    resolve_bundle(
        bundle
    )  # PyTorch, which loading needs, takes seconds to import: a wrong name is told before
    with waiting(f"reading the bundle {bundle} and checking its hashes", tell_first=False):
        from models.bundle.card import has_card
        from models.bundle.load import load_bundle
        from models.bundle.size import bytes_on_disk

        loaded = load_bundle(bundle, missing_parts="tolerate")
    manifest, recipe = loaded.manifest, loaded.manifest.recipe
    facts = Table.grid(padding=(0, 2))
    frames = max(manifest.spec.branch(m).temporal.receptive_field for m in manifest.spec.modalities)
    facts.add_row("bundle", escape(f"{manifest.name} in {loaded.folder}"))
    facts.add_row(
        "content", f"sha256 {loaded.content_hash[:12]}, {bytes_on_disk(loaded.folder) / 1e6:.1f} MB"
    )
    facts.add_row("trained", "yes" if manifest.trained else "[bold red]no[/]")
    if manifest.note:
        facts.add_row("note", escape(manifest.note))
    if has_card(loaded.folder):
        facts.add_row("card", escape(f"models-info {bundle} --card"))
    facts.add_row("preset", f"{manifest.preset}, for {' and '.join(manifest.spec.targets)}")
    for name, text in _branches(manifest.spec):
        facts.add_row(name, text)
    facts.add_row("size", _sizes(manifest))
    facts.add_row(
        "sees", f"{frames} frames, {frames / recipe.frame_rate:.1f} s at {recipe.frame_rate:g} a second"
    )
    for key, value in sorted(manifest.provenance.items()):
        facts.add_row(escape(key), escape(value))
    out = _console()
    out.print(facts)
    out.print()
    out.print(_folds_table(manifest))
    out.print()
    out.print(_parts_table(loaded))


def _print_card(bundle: str) -> None:
    """A bundle's card: laid out on a terminal, as it is elsewhere. Says so where it was written for other content."""
    from models.bundle.card import body_of, read_card, written_for
    from models.bundle.manifest import read_manifest
    from models.bundle.shipped import resolve_bundle

    folder = resolve_bundle(bundle)
    manifest = read_manifest(folder)
    card = read_card(folder)
    if written_for(card) not in (None, manifest.content_hash):
        tell(
            f"this card was written for other content than the bundle {folder} has now: offline-card renews it"
        )
    out = _console()
    if out.is_terminal:
        from rich.markdown import Markdown

        out.print(Markdown(body_of(card)))
    else:
        typer.echo(card, nl=not card.endswith("\n"))


def _branches(spec: NetworkSpec) -> Iterator[tuple[str, str]]:
    for modality in spec.modalities:
        branch = spec.branch(modality)
        widths = ", ".join(str(width) for width in branch.temporal.widths)
        yield modality.value, f"{branch.embedding} wide, TCN {widths} with kernel {branch.temporal.kernel}"


def _sizes(manifest: Manifest) -> str:
    from models.bundle.size import count_parameters

    size = count_parameters(manifest)
    text = f"{size.fold_parameters / 1e6:.2f} million parameters a fold"
    if size.trunks:
        text += f", {size.trunk_parameters / 1e6:.2f} million of each network's in a trunk ({size.trunks} different)"
    return text


def _folds_table(manifest: Manifest) -> Table:
    targets = manifest.spec.targets
    table = Table("fold", "networks", *(f"validation CCC, {t}" for t in targets), box=None, pad_edge=False)
    for index, fold in enumerate(manifest.folds):
        networks = " + ".join(" and ".join(network.targets) for network in fold.networks)
        ccc = fold.validation_ccc or {}
        table.add_row(str(index), networks, *(f"{ccc[t]:.3f}" if t in ccc else "none" for t in targets))
    return table


def _parts_table(loaded: Bundle) -> Table:
    table = Table("part", "as", "installed", box=None, pad_edge=False)
    for role, use in loaded.manifest.recipe.parts.items():
        if use.bundled:
            state = "in the bundle"
        elif role in loaded.parts:
            state = f"yes: {loaded.parts[role].path}"
        elif use.name in loaded.missing:
            state = f"no: {install_command(use.name)}"
        else:
            state = "comes with the software"
        table.add_row(use.name, role.replace("_", " "), escape(state))
    return table


def _console() -> Console:
    """The terminal; a pipe or file gets lines that are not folded at 80 columns."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=240)
