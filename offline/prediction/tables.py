"""Scores as tables for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from rich import box
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from models.spec import Target
    from offline.metrics import Scores
    from offline.prediction.predict import Prediction
    from offline.prediction.scorecard import Ablations, Outcome, OwnFoldScores, Scorecard
    from offline.training.options import Context

MOST_TRIALS: Final = 40
_METRICS: Final = ("CCC", "PCC", "RMSE")
_NONE: Final = "-"


def partition_table(cards: Sequence[Scorecard]) -> Table:
    """Every fold and the centered merge, contexts side by side: a row for each target."""
    whole = cards[0].whole
    labelled = max((s.frames for s in whole.centered.values()), default=0)
    table = _table(
        f"{whole.name}: {_count(len(cards[0].trials), 'trial')}, {whole.frames} frames, {labelled} labelled"
    )
    table.add_column("")
    table.add_column("target")
    for card in cards:
        for metric in _METRICS:
            table.add_column(f"{card.context}\n{metric}", justify="right")
    rows = [("centered", [card.whole.centered for card in cards])]
    rows += [(f"fold {f}", [card.whole.folds[f] for card in cards]) for f in range(len(whole.folds))]
    for name, of_cards in rows:
        for target in cards[0].targets:
            first = target == cards[0].targets[0]
            cells = [cell for scores in of_cards for cell in _ccc_pcc_rmse(scores.get(target))]
            last = target == cards[0].targets[-1]
            table.add_row(name if first else "", target, *cells, end_section=last and name == "centered")
    return table


def trial_table(cards: Sequence[Scorecard]) -> Table:
    """The centered merge on each trial, a row for each context; the first `MOST_TRIALS` trials."""
    table = _table("centered, by trial")
    table.collapse_padding, table.pad_edge = True, False
    table.add_column("trial", overflow="fold")
    table.add_column("frames", justify="right", no_wrap=True)
    if len(cards) > 1:
        table.add_column("context", no_wrap=True)
    for target in cards[0].targets:
        for metric in _METRICS:
            table.add_column(f"{target}\n{metric}", justify="right", no_wrap=True)
    for i, trial in enumerate(cards[0].trials[:MOST_TRIALS]):
        for card in cards:
            first = card is cards[0]
            cells = [cell for t in card.targets for cell in _ccc_pcc_rmse(card.trials[i].centered.get(t))]
            context = [card.context] if len(cards) > 1 else []
            table.add_row(trial.name if first else "", str(trial.frames) if first else "", *context, *cells)
    left = len(cards[0].trials) - MOST_TRIALS
    if left > 0:
        table.caption = f"and {_count(left, 'more trial')}: give --out for all"
    return table


def ablation_table(cards: Sequence[Scorecard], ablations: Ablations) -> Table:
    """The centered merge's CCC with all branches, and what becomes of it without one."""
    table = _table("ablation: centered CCC without a branch, and its change")
    table.add_column("", no_wrap=True)
    for card in cards:
        for target in card.targets:
            table.add_column(f"{card.context}\n{target}", justify="right")
    table.add_row("all branches", *(_ccc(c.whole.centered.get(t)) for c in cards for t in c.targets))
    for modality in ablations[cards[0].context]:
        cells = []
        for card in cards:
            masked = ablations[card.context][modality]
            cells += [_change(masked.get(t), card.whole.centered.get(t)) for t in card.targets]
        table.add_row(f"no {modality.value}", *cells)
    return table


def own_fold_table(own: Sequence[tuple[Context, OwnFoldScores]], targets: Sequence[Target]) -> Table:
    """Each fold's CCC on its own validation part, contexts side by side."""
    table = _table("each fold on its own validation part: CCC")
    table.add_column("")
    table.add_column("trials", justify="right")
    for context, _ in own:
        for target in targets:
            table.add_column(f"{context}\n{target}", justify="right")
    numbers = list(own[0][1].folds)
    for number in numbers:
        cells = [_ccc(scores.folds[number].get(t)) for _, scores in own for t in targets]
        trials = own[0][1].trials[number]
        table.add_row(f"fold {number}", str(trials), *cells, end_section=number == numbers[-1])
    total = sum(own[0][1].trials.values())
    table.add_row("together", str(total), *(_ccc(scores.pooled.get(t)) for _, scores in own for t in targets))
    return table


def summary_text(context: Context, predictions: Sequence[Prediction]) -> str:
    """What was predicted where there are no labels: how many frames, and where the values lie."""
    frames = sum(len(p.times) for p in predictions)
    values = np.concatenate([p.value for p in predictions])
    name = predictions[0].trial if len(predictions) == 1 else _count(len(predictions), "trial")
    ranges = ", ".join(
        f"{target} mean {values[:, k].mean():+.3f} ({values[:, k].min():+.3f} to {values[:, k].max():+.3f})"
        for k, target in enumerate(predictions[0].targets)
    )
    return f"{name}, context {context}: {frames} frames without labels; {ranges}"


def outcome_tables(outcome: Outcome, targets: Sequence[Target]) -> Iterator[Table | str]:
    """What there is to show of an outcome: tables of scores, or a line for each context where there are no labels."""
    cards = outcome.cards
    if outcome.own:
        yield own_fold_table(outcome.own, targets)
    elif outcome.labelled:
        yield partition_table(cards)
        if len(cards[0].trials) > 1:
            yield trial_table(cards)
        if outcome.ablations:
            yield ablation_table(cards, outcome.ablations)
    else:
        for context, predictions in outcome.predictions.items():
            yield summary_text(context, predictions)


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)


def _ccc_pcc_rmse(scores: Scores | None) -> tuple[str, str, str]:
    if scores is None:
        return _NONE, _NONE, _NONE
    return f"{scores.ccc:.3f}", f"{scores.pcc:.3f}", f"{scores.rmse:.3f}"


def _ccc(scores: Scores | None) -> str:
    return _NONE if scores is None else f"{scores.ccc:.3f}"


def _change(scores: Scores | None, whole: Scores | None) -> str:
    if scores is None or whole is None:
        return _NONE
    return f"{scores.ccc:.3f} {scores.ccc - whole.ccc:+.3f}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
