"""What a bundle for real people was meant to reach, beside what was measured: kept or missed, each in a row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from models.spec import TARGETS
from offline.cards.judgements import SAID
from offline.cards.markdown import decimals, table
from offline.judging.scoring import GROUPS
from offline.judging.tables import PRESENT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from models.spec import Target
    from offline.cards.document import Judged
    from offline.judging.material import Kind
    from offline.judging.scoring import Score, SpreadGroups

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

_MOST_NAMED: Final = 6
"""So many recordings that missed a goal are named."""

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
    """Recordings' published means near neutral: those in which a face or a voice was found."""
    found = [item for item in one.what.each if item.present]
    for k, target in enumerate(TARGETS):
        most = MOST_AT_REST[target]
        either = "within" if target == "valence" else "below"
        values = {item.name: item.centered[k] for item in found}
        far = {name: v for name, v in values.items() if (abs(v) if target == "valence" else v) >= most}
        among = f" with a {PRESENT[one.what.kind]}, of {len(one.what.each)} judged"
        yield Outcome(
            one.material,
            f"mean {target} of each {either} {decimals(most, 2)}",
            _count(values, far, among),
            bool(values) and not far,
        )


def _strong_emotion_outcomes(one: Judged) -> Iterator[Outcome]:
    """Recordings that who saw and heard them voted on strongly, a goal for each side that there are any of."""
    votes = {item.name: item.labels["both"][0] for item in one.what.each if "both" in item.labels}
    values = {item.name: item.centered[0] for item in one.what.each if item.name in votes}
    unpleasant = {name: values[name] for name, vote in votes.items() if vote <= -STRONG_VOTE}
    pleasant = {name: values[name] for name, vote in votes.items() if vote >= STRONG_VOTE}
    sides = (
        ("unpleasant", "at most", STRONG_UNPLEASANT, unpleasant),
        ("pleasant", "at least", STRONG_PLEASANT, pleasant),
    )
    for side, bound, limit, judged in sides:
        if judged:
            missed = {n: v for n, v in judged.items() if (v > limit if limit < 0 else v < limit)}
            yield Outcome(
                f"{one.material}, against both",
                f"valence of each that is voted strongly {side} {bound} {decimals(limit, 2, sign=True)}",
                _count(judged, missed, f", of {len(one.what.each)} judged"),
                not missed,
            )


def _count(values: Mapping[str, float], missed: Mapping[str, float], among: str) -> str:
    """How many of the recordings kept a goal, and the first of those that did not, with their means."""
    said = [f"{name} {decimals(value, 2, sign=True)}" for name, value in missed.items()]
    if len(said) > _MOST_NAMED:
        said[_MOST_NAMED:] = [f"and {len(said) - _MOST_NAMED} more"]
    names = f"; not {', '.join(said)}" if said else ""
    return f"{len(values) - len(missed)} of {len(values)}{among}{names}"


def _spread_outcomes(one: Judged) -> Iterator[Outcome]:
    """Whether wide spreads err more, of every score with enough items to be put into groups."""
    for score in one.what.scores:
        if score.reading == "centered" and score.agreement.items >= GROUPS:
            told, kept = _told_by_spread(score.groups)
            yield Outcome(
                f"{one.material}, against {score.against}",
                f"{score.target}: widest fifth of spreads errs {SPREAD_RATIO:g} x the narrowest",
                f"{told}, {_reading(score)}",
                kept,
            )


def _told_by_spread(groups: SpreadGroups | None) -> tuple[str, bool]:
    if groups is None:
        return "all spreads alike", False
    if groups.ratio is None:
        return f"the narrowest errs nothing, the widest {decimals(groups.rmse[-1])}", True
    return f"{decimals(groups.ratio, 2)} x", groups.ratio >= SPREAD_RATIO
