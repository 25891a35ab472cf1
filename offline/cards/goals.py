"""What a bundle for real people was meant to reach, beside what was measured: kept or missed, each in a row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from models.spec import TARGETS
from offline.cards.judgements import SAID, Score
from offline.cards.markdown import decimals, table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from models.spec import Target
    from offline.cards.judgements import Judged
    from offline.judging.material import Kind

Measure = Literal["ccc", "pearson"]


@dataclass(frozen=True)
class ScoreGoal:
    """The least agreement, by target, on one kind of material; where something was found, and over all items."""

    kind: Kind
    measure: Measure
    least: dict[Target, float]


SCORE_GOALS: Final = (
    ScoreGoal("faces", "ccc", {"valence": 0.88, "arousal": 0.85}),
    ScoreGoal("voices", "ccc", {"valence": 0.35, "arousal": 0.75}),
    ScoreGoal("texts", "pearson", {"valence": 0.55, "arousal": 0.35}),
    ScoreGoal("clips", "pearson", {"valence": 0.9}),
)
SPREAD_RATIO: Final = 1.5
"""The widest fifth of spreads errs at least so many times as much as the narrowest."""

MOST_AT_REST: Final[dict[Target, float]] = {"valence": 0.2, "arousal": 0.3}
"""How far from zero the mean of somebody who talks and shows nothing may lie: valence either way, arousal upwards."""

STRONG_VOTE: Final = 0.4
"""From this valence on, votes on a recording are strong: anger and disgust on one side, happiness on the other."""

STRONG_UNPLEASANT: Final = -0.25
STRONG_PLEASANT: Final = 0.35
"""The valence that is at most, and at least, published of such a recording on average."""

_MEASURES: Final[dict[Measure, str]] = {"ccc": "CCC", "pearson": "r"}


@dataclass(frozen=True)
class Outcome:
    """One goal: what was judged, what was asked, what was measured, and whether it was kept."""

    judged: str
    asked: str
    measured: str
    kept: bool


def goals_table(judged: Sequence[Judged]) -> str:
    """Every goal that the judgements can tell of, kept or missed."""
    found = [outcome for one in judged for outcome in _outcomes(one)]
    if not found:
        return "No judgement was given to this card that a goal was set for."
    rows = [(o.judged, o.asked, o.measured, "kept" if o.kept else "**missed**") for o in found]
    return table(("judged on", "goal", "measured", ""), rows)


def _outcomes(one: Judged) -> Iterator[Outcome]:
    for goal in SCORE_GOALS:
        if goal.kind == one.what.kind:
            yield from _score_outcomes(one, goal)
    if one.what.kind == "talking":
        yield from _at_rest_outcomes(one)
    if one.what.kind == "clips":
        yield from _strong_emotion_outcomes(one)
    yield from _spread_outcomes(one)


def _score_outcomes(one: Judged, goal: ScoreGoal) -> Iterator[Outcome]:
    for score in one.what.scores:
        least = goal.least.get(score.target)
        if least is not None:
            value: float = getattr(score.agreement, goal.measure)
            name = _MEASURES[goal.measure]
            asked = f"{name} {score.target} at least {decimals(least, 2)}"
            measured = f"{decimals(value)}, {_reading(score)}"
            yield Outcome(f"{one.material}, against {score.against}", asked, measured, value >= least)


def _reading(score: Score) -> str:
    items = "items in which something was found" if score.subset == "present" else "all items"
    return f"{SAID[score.reading]}, {score.agreement.items} {items}"


def _at_rest_outcomes(one: Judged) -> Iterator[Outcome]:
    """Each recording's published mean near neutral."""
    for k, target in enumerate(TARGETS):
        most = MOST_AT_REST[target]
        values = {item.name: item.centered[k] for item in one.what.each if item.present}
        if not values:
            continue
        far = {name: v for name, v in values.items() if (abs(v) if target == "valence" else v) >= most}
        either = "within" if target == "valence" else "below"
        worst = (
            f"; {', '.join(f'{name} {decimals(v, 2, sign=True)}' for name, v in far.items())}" if far else ""
        )
        yield Outcome(
            one.material,
            f"mean {target} of each {either} {decimals(most, 2)}",
            f"{len(values) - len(far)} of {len(values)}{worst}",
            not far,
        )


def _strong_emotion_outcomes(one: Judged) -> Iterator[Outcome]:
    """Each recording that who saw and heard it voted on strongly."""
    for item in one.what.each:
        vote = item.labels.get("both", (0.0, 0.0))[0]
        value = item.centered[0]
        measured = decimals(value, 2, sign=True)
        if vote <= -STRONG_VOTE:
            asked = f"valence at most {decimals(STRONG_UNPLEASANT, 2, sign=True)}"
            yield Outcome(f"{item.name}, {one.material}", asked, measured, value <= STRONG_UNPLEASANT)
        elif vote >= STRONG_VOTE:
            asked = f"valence at least {decimals(STRONG_PLEASANT, 2, sign=True)}"
            yield Outcome(f"{item.name}, {one.material}", asked, measured, value >= STRONG_PLEASANT)


def _spread_outcomes(one: Judged) -> Iterator[Outcome]:
    for score in one.what.scores:
        if score.reading == "centered" and score.groups is not None and score.groups.ratio is not None:
            ratio = score.groups.ratio
            asked = f"{score.target}: widest fifth of spreads errs {SPREAD_RATIO:g} x the narrowest"
            yield Outcome(
                f"{one.material}, against {score.against}",
                asked,
                f"{decimals(ratio, 2)} x, {_reading(score)}",
                ratio >= SPREAD_RATIO,
            )
