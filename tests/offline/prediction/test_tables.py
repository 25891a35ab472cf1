"""Scores as they are printed: what is there, in the width of a terminal."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from models.spec import TARGETS, Target
from offline.metrics import Scores, TargetScores
from offline.prediction.scorecard import Scorecard, Scored
from offline.prediction.tables import MOST_TRIALS, trial_table

if TYPE_CHECKING:
    from rich.table import Table

    from offline.training.options import Context


def scored(name: str, seed: int, targets: tuple[Target, ...] = TARGETS) -> Scored:
    """Scores that tell by themselves whose they are: 0.<seed><target><metric>."""
    centered: TargetScores = {
        t: Scores(
            ccc=-(100 * seed + 10 * k + 1) / 1000, pcc=(100 * seed + 10 * k + 2) / 1000, rmse=k + 1, frames=9
        )
        for k, t in enumerate(targets)
    }
    return Scored(name, 1000 * seed, centered, (centered,))


def card(context: Context, trials: list[Scored]) -> Scorecard:
    return Scorecard(context, TARGETS, scored("validation", 9), tuple(trials))


def printed(table: Table, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert all(len(line) <= width for line in lines)
    return lines


def row(lines: list[str], *begin: str) -> list[str]:
    """The cells of the one row that begins with these."""
    (found,) = [cells for line in lines if tuple((cells := line.split())[: len(begin)]) == begin]
    return found[len(begin) :]


@pytest.mark.parametrize("width", [80, 100])
def test_each_trial_has_ccc_pcc_and_rmse_of_each_target(width: int) -> None:
    trials = [scored("100-29-1080x1920_left", 1), scored("video12", 2), scored("mute", 3, ("arousal",))]
    lines = printed(trial_table([card("stream", trials)]), width)
    text = "\n".join(lines)
    assert re.search(r"valence +valence +valence +arousal +arousal +arousal", text)
    assert re.search(r"trial +frames +CCC +PCC +RMSE +CCC +PCC +RMSE", text)
    assert row(lines, "video12", "2000") == ["-0.201", "0.202", "1.000", "-0.211", "0.212", "2.000"]
    assert row(lines, "mute", "3000") == ["-", "-", "-", "-0.301", "0.302", "1.000"]
    whole_name = width == 100
    assert any(line.split()[:1] == ["100-29-1080x1920_left"] for line in lines) == whole_name
    assert any("-0.101" in line for line in lines), "a name is folded before a number is"


def test_contexts_are_rows_of_a_trial_and_fit_too() -> None:
    name = "100-29-1080x1920_left"
    cards = [card("stream", [scored(name, 1)]), card("windows", [scored(name, 2)])]
    lines = printed(trial_table(cards), 100)
    assert row(lines, name, "1000", "stream")[:3] == ["-0.101", "0.102", "1.000"]
    assert row(lines, "windows")[:3] == ["-0.201", "0.202", "1.000"]
    narrow = printed(trial_table(cards), 80)
    assert row(narrow, "windows") == row(lines, "windows")


def test_only_the_first_trials_are_printed_and_the_rest_is_counted() -> None:
    trials = [scored(f"t{i}", i) for i in range(MOST_TRIALS + 3)]
    lines = printed(trial_table([card("stream", trials)]), 100)
    assert row(lines, f"t{MOST_TRIALS - 1}")
    assert not any(f"t{MOST_TRIALS} " in line for line in lines)
    assert "and 3 more trials: give --out for all" in lines[-1]
