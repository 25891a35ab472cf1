"""Judgements as tables for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich import box
from rich.table import Table

from models.spec import TARGETS
from offline.judging.scoring import GROUPS, Judgement, Score
from offline.people.emotions import EMOTIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from offline.judging.material import Kind

TITLES: Final[dict[Kind, str]] = {
    "faces": "faces, each still for two seconds; sight alone",
    "voices": "voices; sound alone",
    "texts": "texts; words alone",
    "clips": "clips that people voted on; all branches",
    "talking": "people who talk and show nothing; all branches",
}
PRESENT: Final[dict[Kind, str]] = {
    "faces": "face found",
    "voices": "voice heard",
    "texts": "words said",
    "clips": "face or voice",
    "talking": "face or voice",
}
"""What it is that an item may lack."""

_MOST_CLIPS: Final = 40


def print_judgement(judgement: Judgement, console: Console) -> None:
    """Everything about one kind: counts, scores, spread against error, means by emotion, and clips one by one."""
    for line in describe_counts(judgement):
        console.print(line, markup=False, soft_wrap=True)
    if judgement.scores:
        console.print(score_table(judgement))
    if any(score.groups for score in judgement.scores):
        console.print(spread_table(judgement))
    if judgement.categories:
        console.print(category_table(judgement))
    if judgement.material.kind in ("clips", "talking"):
        console.print(clip_table(judgement))
    if judgement.material.kind == "talking":
        name, target, value = judgement.widest_deviation
        console.print(
            f"largest deviation from zero: {target} {value:+.3f} ({name})", markup=False, soft_wrap=True
        )


def describe_counts(judgement: Judgement) -> Iterator[str]:
    """How many items there were and in how many of them something was found to judge by, in lines."""
    material, total = judgement.material, len(judgement.estimates)
    sample = f" (evenly spread over {material.available})" if total < material.available else ""
    yield f"{material.source}: {total} {material.kind if material.kind != 'talking' else 'clips'}{sample}"
    share = judgement.present / total
    yield f"{PRESENT[material.kind]}: {judgement.present} of {total} ({share:.1%})"
    yield from material.notes


def score_table(judgement: Judgement) -> Table:
    """CCC, r and errors of each reading, target and set of items."""
    material = judgement.material
    several = len(material.labels) > 1
    by = "labels" if several else next(iter(material.labels))
    table = _table(f"{TITLES[material.kind]}: agreement with {by}")
    table.add_column("estimate", no_wrap=True)
    if several:
        table.add_column("against", no_wrap=True)
    table.add_column("items", no_wrap=True)
    table.add_column("target", no_wrap=True)
    for name in ("CCC", "r", "MAE", "RMSE"):
        table.add_column(name, justify="right")
    for i, score in enumerate(judgement.scores):
        a = score.agreement
        first = score.target == TARGETS[0]
        table.add_row(
            score.reading if first else "",
            *([score.against if first else ""] if several else []),
            _items(score) if first else "",
            score.target,
            f"{a.ccc:.3f}",
            f"{a.pearson:.3f}",
            f"{a.mae:.3f}",
            f"{a.rmse:.3f}",
            end_section=score.target == TARGETS[-1] and i < len(judgement.scores) - 1,
        )
    return table


def spread_table(judgement: Judgement) -> Table:
    """Mean spread and RMSE of items in groups by spread, for the items in which something was found.

    The last column is the widest group's RMSE over the narrowest's.
    """
    table = _table("spread against error: five equal groups, from narrow to wide")
    table.add_column("estimate", no_wrap=True)
    table.add_column("target", no_wrap=True)
    table.add_column("")
    for group in range(1, GROUPS + 1):
        table.add_column(str(group), justify="right", no_wrap=True)
    table.add_column(f"{GROUPS}/1", justify="right", no_wrap=True)
    for score in _fewest_items(judgement):
        groups = score.groups
        if groups is None:
            continue
        ratio = "-" if groups.ratio is None else f"{groups.ratio:.2f}"
        table.add_row(score.reading, score.target, "spread", *(f"{value:.3f}" for value in groups.spread))
        table.add_row("", "", "RMSE", *(f"{value:.3f}" for value in groups.rmse), ratio, end_section=True)
    return table


def category_table(judgement: Judgement) -> Table:
    """Mean estimates beside mean labels, by emotion; valence and arousal."""
    table = _table("means by emotion: valence, arousal")
    table.add_column("emotion")
    table.add_column("items", justify="right")
    for name in ("centered", "folds' mean", "label"):
        table.add_column(name, justify="right")
    for category in judgement.categories:
        pairs = (category.centered, category.folds_mean, category.label)
        table.add_row(category.name, str(category.items), *(_pair(*pair) for pair in pairs))
    return table


def clip_table(judgement: Judgement) -> Table:
    """Each clip's means, valence and arousal, beside what people voted, or else beside the folds' mean."""
    material = judgement.material
    beside_votes = f" beside votes on {', '.join(material.labels)}" if material.labels else ""
    table = _table(f"means by clip{beside_votes}: valence, arousal")
    table.add_column("clip", overflow="fold")
    table.add_column("frames", justify="right")
    table.add_column("centered", justify="right", no_wrap=True)
    for name in material.labels or ("folds' mean",):
        table.add_column(name, justify="right", no_wrap=True)
    for row, (name, estimate) in enumerate(zip(material.names, judgement.estimates, strict=True)):
        if row == _MOST_CLIPS:
            table.caption = f"and {len(material.names) - _MOST_CLIPS} more: --json has all"
            break
        beside = [values[row] for values in material.labels.values()] or [estimate.folds_mean]
        table.add_row(
            name, str(estimate.frames), _pair(*estimate.centered), *(_pair(*pair) for pair in beside)
        )
    return table


def map_table() -> Table:
    """Where each emotion lies in valence and arousal, and why."""
    table = _table("emotions in valence and arousal (ours, after Russell's circumplex)")
    table.add_column("emotion")
    table.add_column("valence", justify="right")
    table.add_column("arousal", justify="right")
    table.add_column("why there", overflow="fold")
    for name, place in EMOTIONS.items():
        table.add_row(name, f"{place.valence:+.2f}", f"{place.arousal:+.2f}", place.reason)
    return table


def _fewest_items(judgement: Judgement) -> Iterator[Score]:
    """The scores of each reading and target over the fewest items, against the first labels."""
    seen = set()
    first = judgement.scores[0].against
    for score in judgement.scores:
        key = (score.reading, score.target)
        if score.against == first and key not in seen:
            seen.add(key)
            yield score


def _items(score: Score) -> str:
    return f"{score.agreement.items} {'found' if score.subset == 'present' else 'all'}"


def _pair(valence: float, arousal: float) -> str:
    return "-" if valence != valence else f"{valence:+.2f} {arousal:+.2f}"


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
