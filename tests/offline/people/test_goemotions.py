"""GoEmotions' comments as they are read, and said."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from models.errors import UserError
from offline.people.emotions import EMOTIONS
from offline.people.goemotions import read_comments
from offline.people.text_normalisation import spoken_words, written_tokens

if TYPE_CHECKING:
    from pathlib import Path

LABELS = "joy\nsadness\nneutral\n"


def write(folder: Path, rows: str, labels: str = LABELS) -> Path:
    (folder / "labels.txt").write_text(labels)
    (folder / "dev.tsv").write_text(rows, encoding="utf-8")
    return folder / "dev.tsv"


def test_comments_and_their_emotions(tmp_path: Path) -> None:
    comments = read_comments(write(tmp_path, "So glad!\t0\tid1\nHm\u2028mm\t2,1\tid2\nFine\t2\n"))
    assert comments.texts == ("So glad!", "Hm\u2028mm", "Fine")
    assert comments.emotions == ("joy", "sadness", "neutral")
    assert comments.labelled.tolist() == [[True, False, False], [False, True, True], [False, False, True]]
    assert comments.first_emotions == ("joy", "sadness", "neutral")
    assert np.allclose(comments.valence_arousal, [[0.8, 0.45], [-0.325, -0.15], [0.0, 0.0]])


def test_labels_may_lie_elsewhere(tmp_path: Path) -> None:
    path = write(tmp_path, "Fine\t0\n")
    (tmp_path / "other.txt").write_text("anger\n")
    assert read_comments(path, tmp_path / "other.txt").emotions == ("anger",)


def test_hidden_names_are_said_and_always_the_same(tmp_path: Path) -> None:
    path = write(tmp_path, "[NAME] is [RELIGION]\t0\n[NAME] too\t0\n")
    first, second = read_comments(path).texts
    assert first == "james is christian"
    assert second == "mary too"
    assert read_comments(path).texts == (first, second)


@pytest.mark.parametrize("row", ["no label", "text\t3", "text\t-1", "text\t1,", "text\tjoy", "text\t"])
def test_another_line_is_refused(tmp_path: Path, row: str) -> None:
    with pytest.raises(
        UserError, match=r"dev\.tsv line 2 is not a text, a tab and label numbers from 0 to 2"
    ):
        read_comments(write(tmp_path, f"fine\t0\n{row}\n"))


@pytest.mark.parametrize(
    ("labels", "problem"),
    [("joy\nglee\n", "it names 'glee'"), ("joy\njoy\n", "one twice"), ("", "it is empty")],
)
def test_emotions_without_a_place_are_refused(tmp_path: Path, labels: str, problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        read_comments(write(tmp_path, "fine\t0\n", labels))


def test_absent_and_empty_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no comment"):
        read_comments(write(tmp_path, "\n"))
    (tmp_path / "labels.txt").unlink()
    with pytest.raises(UserError, match=r"labels\.txt does not exist"):
        read_comments(tmp_path / "dev.tsv")
    write(tmp_path, "").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot be read as text"):
        read_comments(tmp_path / "dev.tsv")


def test_text_as_it_is_said() -> None:
    assert spoken_words("I don’t KNOW - it's 5 o'clock!") == ("i", "don't", "know", "it's", "5", "o'clock")
    assert written_tokens("Well, yes!") == ("well", ",", "yes", "!")
    assert spoken_words("?!") == ()


def test_every_emotion_has_its_place() -> None:
    for name, place in EMOTIONS.items():
        assert -1 <= place.valence <= 1, name
        assert -1 <= place.arousal <= 1, name
        assert place.reason, name
    assert (EMOTIONS["neutral"].valence, EMOTIONS["neutral"].arousal) == (0, 0)


def test_the_real_comments(people: Path) -> None:
    comments = read_comments(people / "goemotions" / "dev.tsv")
    assert len(comments) == 5426
    assert len(comments.emotions) == 28
    assert "[NAME]" not in " ".join(comments.texts)
    assert comments.labelled.any(axis=1).all()
