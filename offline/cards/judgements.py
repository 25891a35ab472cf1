"""Judgements of a bundle as tables of a card."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from models.spec import TARGETS
from offline.cards.markdown import (
    code_block,
    command_without_folders,
    decimals,
    pair,
    table,
    without_folders,
)
from offline.judging.tables import PRESENT, TITLES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from models.spec import Target
    from offline.cards.document import Document, Judged, KindJudged
    from offline.cards.markdown import Row
    from offline.judging.scoring import Reading, Score

SAID: Final[dict[Reading, str]] = {
    "centered": "published (centered)",
    "folds' mean": "folds' mean, not centered",
}
NOTHING_JUDGED: Final = "No judgement was given to this card: how good the bundle is is not known here."

_MOST_CLIPS: Final = 24
_FEWEST_FOR_SHARES: Final = 20


def summary(judged: Sequence[Judged]) -> str:
    """One table over all kinds: what is published, over the items in which something was found."""
    rows: list[Row] = []
    for one in judged:
        for valence, arousal in _pairs_of_scores(one.what, "centered"):
            against = valence.against
            rows.append(
                (
                    TITLES[one.what.kind],
                    f"{one.material}, against {against}",
                    str(valence.agreement.items),
                    *(decimals(score.agreement.ccc) for score in (valence, arousal)),
                    *(decimals(score.agreement.pearson) for score in (valence, arousal)),
                    *(decimals(score.agreement.rmse) for score in (valence, arousal)),
                )
            )
    if not rows:
        return NOTHING_JUDGED
    head = ("judged on", "material", "items")
    measures = tuple(f"{measure} {target}" for measure in ("CCC", "r", "RMSE") for target in TARGETS)
    return table((*head, *measures), rows, numbers=7)


def details(judged: Sequence[Judged]) -> str:
    """Everything about each kind: counts, scores, spread against error, clips, and the command."""
    return "\n\n".join("\n\n".join(_detail(one)) for one in judged) or NOTHING_JUDGED


def reach(judged: Sequence[Judged]) -> str:
    """How far estimates reach: their range beside the labels', and the means by emotion."""
    parts = [_range_table(judged)]
    for one in judged:
        if one.what.categories:
            rows = [
                (c.name, str(c.items), pair(c.label), pair(c.centered), pair(c.folds_mean))
                for c in one.what.categories
            ]
            head = ("emotion", "items", "labels", "published (centered)", "folds' mean")
            parts.append(f"Means by emotion (valence, arousal), {one.material}:")
            parts.append(table(head, rows, numbers=4))
    return "\n\n".join(part for part in parts if part) or NOTHING_JUDGED


def coverage(judged: Sequence[Judged]) -> str:
    """Whether the published spread is the error to expect: errors that lie within one spread, and within two."""
    rows: list[Row] = []
    for one in judged:
        for against in _label_sources(one.what):
            for k, target in enumerate(TARGETS):
                found = _errors_and_spreads(one.what, against, k)
                if len(found) < _FEWEST_FOR_SHARES:
                    continue
                errors, spreads = np.abs(found[:, 0]), found[:, 1]
                shares = tuple(f"{np.mean(errors <= n * spreads):.0%}" for n in (1, 2))
                root = float(np.sqrt(np.mean(errors**2)))
                material = f"{one.material}, against {against}"
                rows.append(
                    (
                        material,
                        target,
                        str(len(found)),
                        decimals(float(spreads.mean())),
                        decimals(root),
                        *shares,
                    )
                )
    if not rows:
        return f"Too few labelled items were judged to tell ({_FEWEST_FOR_SHARES} at least)."
    head = ("material", "target", "items", "mean spread", "RMSE", "within 1 spread", "within 2")
    return table(head, rows, numbers=5)


def commands(documents: Sequence[Document]) -> str:
    """The commands that measured all this, and with which software."""
    if not documents:
        return NOTHING_JUDGED
    lines = [command_without_folders(document.command) for document in documents]
    used = sorted(
        {", ".join(f"{name} {v}" for name, v in document.versions.items()) for document in documents}
    )
    return code_block("\n".join(dict.fromkeys(lines))) + f"\n\nWith {'; and with '.join(used)}."


def metadata(name: str, judged: Sequence[Judged]) -> str:
    """The published scores as a card's `model-index` in YAML; nothing where nothing was judged."""
    lines = []
    for one in judged:
        for scores in _pairs_of_scores(one.what, "centered"):
            lines += [
                "      - task: {type: valence-arousal-estimation}",
                f"        dataset: {{type: {one.what.kind}, name: {_quoted(one.material)}}}",
                "        metrics:",
                *(
                    f"          - {{type: ccc, name: {_quoted(f'CCC {s.target}, against {s.against}')}, "
                    f"value: {decimals(s.agreement.ccc)}}}"
                    for s in scores
                ),
            ]
    return "\n".join(["model-index:", f"  - name: {name}", "    results:", *lines]) if lines else ""


def _detail(one: Judged) -> Iterator[str]:
    what = one.what
    title = TITLES[what.kind]
    yield f"### {title[0].upper()}{title[1:]}: {one.material}"
    sample = f", evenly spread over {what.available}" if what.items < what.available else ""
    counts = f"{what.items} items{sample}; {PRESENT[what.kind]}: {what.present}"
    yield " ".join([f"{counts}.", *(without_folders(note).rstrip(".") + "." for note in what.notes)])
    if what.scores:
        yield _score_table(what)
    if groups := _group_table(what):
        yield "Spread against error, in five equal groups from the narrowest spread to the widest:"
        yield groups
    if what.kind in ("clips", "talking"):
        yield _clip_table(what)
    if what.largest_deviation is not None:
        deviation = what.largest_deviation
        yield (
            f"Furthest from zero: {deviation.target} {decimals(deviation.value, sign=True)} ({deviation.name}). "
            "Zero would be right for all of them."
        )
    yield code_block(command_without_folders(one.command))


def _score_table(what: KindJudged) -> str:
    rows = [
        (
            SAID[s.reading],
            s.against,
            f"{s.agreement.items} {'found' if s.subset == 'present' else 'all'}",
            s.target,
            *(decimals(getattr(s.agreement, name)) for name in ("ccc", "pearson", "mae", "rmse")),
        )
        for s in what.scores
    ]
    return table(("estimate", "against", "items", "target", "CCC", "r", "MAE", "RMSE"), rows, numbers=4)


def _group_table(what: KindJudged) -> str:
    rows: list[Row] = []
    for reading in SAID:
        for scores in _pairs_of_scores(what, reading):
            for score in scores:
                groups = score.groups
                if groups is None:
                    continue
                ratio = "-" if groups.ratio is None else decimals(groups.ratio, 2)
                label = (SAID[reading], score.against, score.target)
                rows.append((*label, "spread", *map(decimals, groups.spread), ""))
                rows.append((*label, "RMSE", *map(decimals, groups.rmse), ratio))
    if not rows:
        return ""
    count = len(rows[0]) - 5
    numbered = tuple(str(n) for n in range(1, count + 1))
    return table(("estimate", "against", "target", "", *numbered, "last/first"), rows, numbers=count + 1)


def _clip_table(what: KindJudged) -> str:
    sources = _label_sources(what)
    head = ("clip", "published (centered)", "folds' mean", *(f"votes on {name}" for name in sources))
    rows = [
        (
            item.name,
            pair(item.centered),
            pair(item.folds_mean),
            *(pair(item.labels[name]) if name in item.labels else "-" for name in sources),
        )
        for item in what.each[:_MOST_CLIPS]
    ]
    more = len(what.each) - len(rows)
    return table(head, rows, numbers=len(head) - 1) + (f"\n\nand {more} more." if more else "")


def _range_table(judged: Sequence[Judged]) -> str:
    """Middle nine tenths of labels and estimates, over the labelled items in which something was found."""
    rows: list[Row] = []
    for one in judged:
        for against in _label_sources(one.what):
            items = [i for i in one.what.each if i.present and against in i.labels]
            if len(items) < _FEWEST_FOR_SHARES:
                continue
            for k, target in enumerate(TARGETS):
                series = (
                    [item.labels[against][k] for item in items],
                    [item.centered[k] for item in items],
                    [item.folds_mean[k] for item in items],
                )
                rows.append((f"{one.material}, against {against}", target, *map(_middle, series)))
    if not rows:
        return ""
    return "Between which two values the middle nine tenths lie:\n\n" + table(
        ("material", "target", "labels", "published (centered)", "folds' mean"), rows, numbers=3
    )


def _middle(values: Sequence[float]) -> str:
    low, high = np.percentile(values, (5, 95))
    return f"{decimals(float(low), 2, sign=True)} to {decimals(float(high), 2, sign=True)}"


def _errors_and_spreads(what: KindJudged, against: str, k: int) -> NDArray[np.float64]:
    """(N, 2): published minus labelled, and the published spread, where something was found and is labelled."""
    return np.array(
        [
            (item.centered[k] - item.labels[against][k], item.centered_spread[k])
            for item in what.each
            if item.present and against in item.labels
        ]
    ).reshape(-1, 2)


def _label_sources(what: KindJudged) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for item in what.each for name in item.labels))


def _pairs_of_scores(what: KindJudged, reading: Reading) -> Iterator[tuple[Score, ...]]:
    """Valence and arousal of a reading against each set of labels, over the fewest items: those found, where any."""
    for against in dict.fromkeys(score.against for score in what.scores):
        found: dict[Target, Score] = {}
        for score in what.scores:
            if (score.reading, score.against) == (reading, against):
                found.setdefault(score.target, score)
        if all(target in found for target in TARGETS):
            yield tuple(found[target] for target in TARGETS)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
