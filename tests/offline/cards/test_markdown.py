"""Text of a card: tables that hold, numbers that do not lie, and nothing of the machine that it was made on."""

from __future__ import annotations

import pytest

from offline.cards.markdown import command_without_folders, decimals, pair, table, without_folders


def test_a_table_keeps_its_cells_apart() -> None:
    assert table(("a", "b"), [("one | two", "3\n4")], numbers=1).splitlines() == [
        "| a | b |",
        "| --- | ---: |",
        "| one \\| two | 3 4 |",
    ]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("/home/me/data/faces.npz", "faces.npz"),
        ("read from /srv/data/emodb/, twice", "read from emodb, twice"),
        ("~/faces.npz and '/a/b c'", "faces.npz and 'b c'"),
        ("build/people/run", "build/people/run"),
        ("./run ../run", "./run ../run"),
        ("https://example.org/a/b", "https://example.org/a/b"),
        ("1/2 and a/b", "1/2 and a/b"),
    ],
)
def test_absolute_paths_are_cut_to_their_names(text: str, kept: str) -> None:
    assert without_folders(text) == kept


def test_a_command_stays_one_that_can_be_typed() -> None:
    command = (
        "offline-judge people --faces '/home/me/my faces.npz' --json=/tmp/out.json --voices data/emodb /"
    )
    assert command_without_folders(command) == (
        "offline-judge people --faces 'my faces.npz' --json=out.json --voices data/emodb /"
    )
    assert command_without_folders("it's /home/me/this") == "it's this", "no shell could read it"


def test_numbers_have_their_decimals_and_no_negative_zero() -> None:
    assert [decimals(v) for v in (0.12345, -0.0004, 1.0)] == ["0.123", "0.000", "1.000"]
    assert [decimals(v, 2, sign=True) for v in (0.0, -0.001, -0.5)] == ["+0.00", "+0.00", "-0.50"]
    assert pair((0.5, -0.25)) == "+0.50, -0.25"
