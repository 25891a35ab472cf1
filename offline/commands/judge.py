"""offline-judge: what a bundle is worth on labelled material that it never saw, through the path that runs live."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from models.console import make_app, run, tell, waiting
from models.errors import UserError
from offline.commands.progress import LOADING, frame_bar

if TYPE_CHECKING:
    from offline.judging.live_path import JudgeOptions, LivePath
    from offline.judging.material import Material
    from offline.judging.scoring import Judgement

HELP: Final = """
Judge a bundle on labelled material that it never saw.

Everything goes the way that it goes live: the same detector, tracker, crop and
estimator, to settled estimates. Each item starts from a fresh state. Printed are
what is published (centered) and the mean of the folds' own outputs.

Examples:

  offline-judge people --faces ferplus-validation.npz --limit 500
      still pictures of faces, sight alone

  offline-judge bundle/ --voices emodb/ --texts emobank-dev.csv
      voices, sound alone; and texts, words alone

  offline-judge bundle/ --clips clips/ --votes cremad-votes.csv
      recordings that people voted on, all branches

  offline-judge bundle/ --talking talkers/ --json judgement.json --plots plots/
      people who talk and show nothing; all numbers and a picture

  offline-judge --maps
      where emotions that have names are taken to lie
"""

app = make_app(HELP)


@app.command(help=HELP)
def judge(
    bundle: Annotated[
        str | None, typer.Argument(help="Fold models: a shipped name or a bundle's folder.")
    ] = None,
    faces: Annotated[
        Path | None, typer.Option(help="Pictures of faces: an .npz of images and votes, as FER+.")
    ] = None,
    voices: Annotated[
        Path | None, typer.Option(help="Folder of played sentences, named as EmoDB's: SSTTTEv.wav or .flac.")
    ] = None,
    speakers: Annotated[
        str,
        typer.Option(
            help="Only these speakers of --voices, comma separated (03,10): those that were held out.",
            show_default=False,
        ),
    ] = "",
    texts: Annotated[
        Path | None,
        typer.Option(help="Texts: EmoBank's .csv, or GoEmotions' .tsv with labels.txt beside it."),
    ] = None,
    clips: Annotated[
        Path | None, typer.Option(help="Folder of recordings that people voted on; needs --votes.")
    ] = None,
    votes: Annotated[Path | None, typer.Option(help="The votes on --clips: a CSV as CREMA-D's.")] = None,
    talking: Annotated[
        list[Path] | None,
        typer.Option(help="Recordings of neutral people who talk, or a folder of them; may be repeated."),
    ] = None,
    detector: Annotated[
        Literal["auto", "haar", "yunet"], typer.Option(help="Face detector, as in stream-run.")
    ] = "auto",
    recogniser: Annotated[
        str, typer.Option(help="Speech recogniser for recordings, as in stream-run.")
    ] = "auto",
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most so many items of each kind, evenly spread.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes side by side; by default one for each core.")
    ] = None,
    json: Annotated[
        Path | None, typer.Option(help="File for all numbers; one that is there is replaced.")
    ] = None,
    plots: Annotated[Path | None, typer.Option(help="Folder for a PNG of each kind; replaced too.")] = None,
    maps: Annotated[
        bool, typer.Option("--maps", help="Print where emotions lie in valence and arousal.")
    ] = False,
) -> None:
    """Read, show, score, print and write what was asked for."""
    if maps:
        _print_maps()
        if bundle is None:
            return
    if (clips is None) != (votes is None):
        raise UserError(
            "--clips and --votes belong together, recordings and how people voted on them: give both"
        )
    if plots is not None and find_spec("matplotlib") is None:
        raise UserError("plots need matplotlib, which is not installed: pip install 'affectstream[train]'")
    if bundle is None:
        raise UserError("name the bundle to judge: a shipped one's name (people) or a folder")
    if not (faces or voices or texts or clips or talking):
        if maps:
            return
        raise UserError("there is nothing to judge by: give --faces, --voices, --texts, --clips or --talking")
    with waiting(LOADING, tell_first=False):
        from offline.judging.live_path import JudgeOptions, open_live_path

    with waiting("reading the material", tell_first=False):
        materials = _read_materials(
            faces, voices, _split(speakers), texts, clips, votes, talking or (), limit
        )
    options = JudgeOptions(bundle=bundle, detector=detector, recogniser=recogniser)
    with waiting(f"loading the bundle {bundle}", tell_first=False):
        path = open_live_path(options)
    judgements = _judge_all(path, materials, options, workers)
    used = None if all(m.kind in ("voices", "texts") for m in materials) else path.detector.name
    _print_judgements(path, used, judgements)
    if json is not None:
        from offline.files import write_json
        from offline.judging.document import judgement_document

        command_line = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
        write_json(json, judgement_document(path.bundle, options, used, judgements, command_line))
        typer.echo(f"written: {json}")
    if plots is not None:
        with waiting("drawing", tell_first=False):
            drawn = _write_plots(plots, path.bundle.manifest.name, judgements)
        for picture in drawn:
            typer.echo(f"written: {picture}")


def command() -> None:
    """Console script `offline-judge`."""
    run(app)


def _split(names: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in names.split(",") if name.strip())


def _read_materials(
    faces: Path | None,
    voices: Path | None,
    speakers: Sequence[str],
    texts: Path | None,
    clips: Path | None,
    votes: Path | None,
    talking: Sequence[Path],
    limit: int | None,
) -> list[Material]:
    """Everything asked for, read before anything is judged: what cannot be read shows at once."""
    from offline.judging.material import read_clips, read_faces, read_talking, read_texts, read_voices

    materials = []
    if faces is not None:
        materials.append(read_faces(faces, limit))
    if voices is not None:
        materials.append(read_voices(voices, limit, speakers))
    if texts is not None:
        materials.append(read_texts(texts, limit))
    if clips is not None and votes is not None:
        materials.append(read_clips(clips, votes, limit))
    if talking:
        materials.append(read_talking(talking, limit))
    return materials


def _judge_all(
    path: LivePath, materials: Sequence[Material], options: JudgeOptions, workers: int | None
) -> list[Judgement]:
    from models.machine import usable_processors
    from offline.judging.judge import check_kind, judge

    for material in materials:
        for note in check_kind(path, material.kind):
            tell(note)
        if material.kind not in ("voices", "texts"):
            _ = path.detector  # raises where it is not installed, before any work is done
    judgements = []
    for material in materials:
        with frame_bar(f"judging {material.kind}", len(material.items)) as advance:
            judgements.append(judge(material, options, workers or usable_processors(), advance))
    return judgements


def _print_judgements(path: LivePath, detector: str | None, judgements: Sequence[Judgement]) -> None:
    from rich.console import Console

    from offline.judging.tables import print_judgement

    console = Console()
    manifest = path.bundle.manifest
    trained_on = manifest.recipe.detector
    other = "" if trained_on is None or trained_on.name == detector else f", trained with {trained_on.name}"
    faces = "" if detector is None else f"; faces by {detector}{other}"
    console.print(f"bundle {manifest.name} ({manifest.content_hash[:12]}){faces}", markup=False)
    for judgement in judgements:
        console.print()
        print_judgement(judgement, console)


def _print_maps() -> None:
    from rich.console import Console

    from offline.judging.tables import map_table

    Console().print(map_table())


def _write_plots(folder: Path, bundle: str, judgements: Sequence[Judgement]) -> list[Path]:
    from offline.files import replacing
    from offline.judging.plots import draw_judgement

    written = []
    for judgement in judgements:
        written.append(folder / f"{judgement.material.kind}.png")
        with replacing(written[-1]) as file:
            file.write(draw_judgement(judgement, bundle))
    return written
