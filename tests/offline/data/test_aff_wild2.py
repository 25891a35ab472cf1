"""Aff-Wild2 as distributed: label files, names, sides, crops, subjects, and what is wrong with a folder."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import UserError
from models.labels import read_labels
from models.visual.alignment import to_crop
from offline.data.aff_wild2 import (
    DistributedCrops,
    SourceTrial,
    count_rows,
    find_trials,
    read_subjects,
    split_side,
)

if TYPE_CHECKING:
    from pathlib import Path

TWO_PEOPLE = {
    "10-60-1280x720": ("left", "right"),
    "video59": ("left", "right"),
    "video2": ("right", "left"),
}
"""A bare trial beside a suffixed one: the bare one's side, and the other's."""


def labels_text(rows: int = 3) -> str:
    return "valence,arousal\n" + "".join(f"{k / 1000},{-k / 1000}\n" for k in range(rows))


def write_dataset(folder: Path, trials: dict[str, str], videos: list[str]) -> Path:
    """Label files by name and folder, and empty videos by their path under videos/."""
    for name, partition in trials.items():
        path = folder / "VA_Estimation_Challenge" / partition / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(labels_text())
    for video in videos:
        path = folder / "videos" / video
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def by_name(trials: tuple[SourceTrial, ...]) -> dict[str, SourceTrial]:
    return {trial.name: trial for trial in trials}


class TestLabels:
    def test_rows_are_counted_as_they_are_read(self, fixtures: Path) -> None:
        path = fixtures / "affwild2" / "synthetic_sample" / "Validation_Set" / "video59_right.txt"
        assert len(read_labels(path)) == count_rows(path) == 200

    @given(st.integers(1, 20))
    def test_what_is_written_is_counted(self, tmp_path_factory: pytest.TempPathFactory, rows: int) -> None:
        path = tmp_path_factory.mktemp("labels") / "x.txt"
        path.write_text("valence,arousal\n" + "\n".join(["-5,-5"] * rows) + "\n")
        assert count_rows(path) == rows

    def test_other_systems_line_ends_and_marks(self, tmp_path: Path) -> None:
        path = tmp_path / "x.txt"
        path.write_bytes(b"\xef\xbb\xbfvalence,arousal\r\n0.5,-0.5\r\n-5,-5\r\n\r\n")
        assert count_rows(path) == len(read_labels(path)) == 2


class TestSides:
    @pytest.mark.parametrize(
        ("name", "others", "expected"),
        [
            ("video5_left", ["video5_right"], ("video5", "left")),
            ("video5_right", ["video5_left"], ("video5", "right")),
            ("video59", ["video59_right"], ("video59", "left")),
            ("video2", ["video2_left"], ("video2", "right")),
            ("video2", ["video2_left", "video2_right"], ("video2", None)),
            ("309", ["30", "309_1"], ("309", None)),
        ],
    )
    def test_a_trial_knows_its_video_and_its_side(
        self, name: str, others: list[str], expected: tuple[str, str | None]
    ) -> None:
        assert split_side(name, [name, *others]) == expected

    def test_all_distributed_names_come_in_pairs(self, fixtures: Path) -> None:
        with (fixtures / "affwild2" / "trial_list.csv").open(newline="") as file:
            names = [row["trial"] for row in csv.DictReader(file)]
        sides: dict[str, list[str | None]] = {}
        for name in names:
            video, side = split_side(name, names)
            sides.setdefault(video, []).append(side)
        assert len(names) == len(set(names)) == 594
        assert all(
            found == [None] or sorted(map(str, found)) == ["left", "right"] for found in sides.values()
        )
        for video, (bare, other) in TWO_PEOPLE.items():
            assert split_side(video, names) == (video, bare)
            assert split_side(f"{video}_{other}", names) == (video, other)


class TestDataset:
    def test_trials_find_their_parts_in_any_depth_and_format(self, tmp_path: Path) -> None:
        names = {"309": "Train_Set", "video5_left": "Validation_Set", "video5_right": "Validation_Set"}
        data = write_dataset(tmp_path, names, ["batch1/309.mp4", "batch2/deep/video5.AVI", "notes.txt"])
        (data / "cropped_aligned" / "309").mkdir(parents=True)
        (data / "cropped_aligned" / "batch2" / "video5_left").mkdir(parents=True)
        trials = by_name(find_trials(data))
        assert list(trials) == ["309", "video5_left", "video5_right"]
        assert trials["309"].video == data / "videos" / "batch1" / "309.mp4"
        assert trials["309"].rows == 3
        assert trials["309"].crops == data / "cropped_aligned" / "309"
        assert trials["video5_left"].crops == data / "cropped_aligned" / "batch2" / "video5_left"
        assert trials["video5_right"].crops is None
        assert trials["video5_left"].video == trials["video5_right"].video
        assert {t.subject for t in trials.values()} == {"309", "video5"}
        assert trials["video5_right"].side == "right"

    def test_a_partition_alone(self, tmp_path: Path) -> None:
        data = write_dataset(tmp_path, {"a": "Train_Set", "b": "Validation_Set"}, ["a.mp4", "b.mp4"])
        assert [t.name for t in find_trials(data, "validation")] == ["b"]
        with pytest.raises(UserError, match="no trials in the test partition, only in train, validation"):
            find_trials(data, "test")

    def test_a_suffix_may_be_the_videos_own(self, tmp_path: Path) -> None:
        trial = find_trials(write_dataset(tmp_path, {"turn_left": "Train_Set"}, ["turn_left.mp4"]))[0]
        assert (trial.subject, trial.side) == ("turn_left", None)

    @pytest.mark.parametrize("place", ["", "VA_Estimation_Challenge"])
    def test_the_test_partition_is_a_list_of_names(self, tmp_path: Path, place: str) -> None:
        data = write_dataset(tmp_path, {"a": "Train_Set"}, ["a.mp4", "309.mp4", "video2.mp4"])
        (data / place / "VA_test_set_release.txt").write_text("video2_left\n309\n\nvideo2.txt\n")
        trials = find_trials(data, "test")
        assert [(t.name, t.side, t.labels) for t in trials] == [
            ("309", None, None),
            ("video2", "right", None),
            ("video2_left", "left", None),
        ]
        assert all(t.video is not None for t in trials)

    def test_a_name_that_leads_elsewhere_is_refused(self, tmp_path: Path) -> None:
        data = write_dataset(tmp_path, {"a": "Train_Set"}, ["a.mp4"])
        (data / "test.txt").write_text("../../etc\n")
        with pytest.raises(UserError, match="line 1 is no trial's name"):
            find_trials(data)

    def test_a_performed_test_set_has_labels(self, tmp_path: Path) -> None:
        data = write_dataset(tmp_path, {"a": "Train_Set", "b": "Test_Set"}, ["a.mp4", "b.mp4"])
        assert find_trials(data, "test")[0].rows == 3

    def test_labels_may_lie_open(self, tmp_path: Path, fixtures: Path) -> None:
        trials = by_name(find_trials(fixtures / "affwild2" / "synthetic_sample"))
        assert {n: t.partition for n, t in trials.items()} == {
            "1-30-1280x720": "train",
            "video59_right": "validation",
        }
        assert trials["video59_right"].problem == "there is no video 'video59' in videos/"

    def test_two_videos_of_one_name_are_a_trials_problem(self, tmp_path: Path) -> None:
        data = write_dataset(tmp_path, {"a": "Train_Set", "b": "Train_Set"}, ["a.mp4", "x/a.avi", "b.mp4"])
        trials = by_name(find_trials(data))
        assert trials["a"].video is None
        assert trials["a"].problem.startswith("there are 2 videos of that name: ")
        assert trials["b"].problem == ""

    def test_what_is_no_data_set_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="is not a folder"):
            find_trials(tmp_path / "absent")
        with pytest.raises(UserError, match="is empty"):
            find_trials(tmp_path)
        (tmp_path / "videos").mkdir()
        with pytest.raises(
            UserError, match="has no labels: they belong in VA_Estimation_Challenge/Train_Set/"
        ):
            find_trials(tmp_path)

    def test_a_trial_in_two_partitions_is_refused(self, tmp_path: Path) -> None:
        data = write_dataset(tmp_path, {"a": "Train_Set"}, ["a.mp4"])
        write_dataset(tmp_path, {"a": "Validation_Set"}, [])
        with pytest.raises(UserError, match="'a' in two partitions"):
            find_trials(data)


class TestSubjects:
    def test_by_trial_or_by_video(self, tmp_path: Path) -> None:
        data = write_dataset(
            tmp_path, {"x_left": "Train_Set", "x_right": "Train_Set", "y": "Train_Set"}, ["x.mp4", "y.mp4"]
        )
        (data / "subjects.csv").write_text("video,subject\nx,anna\n")
        assert [t.subject for t in find_trials(data)] == ["anna", "anna", "y"]
        (data / "subjects.csv").write_text("trial,subject,partition\nx_left,anna,train\nx_right,ben,train\n")
        assert [t.subject for t in find_trials(data)] == ["anna", "ben", "y"]

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            ("", "must begin with the columns"),
            ("name,who\n", "must begin with the columns"),
            ("trial,subject\na\n", "line 2 lacks a trial or its subject"),
            ("trial,subject\na,\n", "line 2 lacks"),
            ("trial,subject\na,x\na,y\n", "line 3 gives 'a' a second subject"),
        ],
    )
    def test_what_is_no_such_table_is_refused(self, tmp_path: Path, content: str, said: str) -> None:
        (tmp_path / "subjects.csv").write_text(content)
        with pytest.raises(UserError, match=said):
            read_subjects(tmp_path / "subjects.csv")


class TestCrops:
    def test_images_are_numbered_from_one_and_made_48(self, tmp_path: Path) -> None:
        picture = np.random.default_rng(0).integers(0, 255, (112, 112, 3), np.uint8)
        cv2.imwrite(str(tmp_path / "00003.png"), picture[:, :, ::-1])
        crops = DistributedCrops(tmp_path)
        crop = crops.crop(2)
        assert crop is not None
        assert np.array_equal(crop, to_crop(picture))
        assert crops.crop(0) is None
        assert (crops.frames, crops.unreadable) == (3, 0)

    @pytest.mark.parametrize("content", [b"", b"no picture"])
    def test_an_image_that_cannot_be_read_counts_as_missing(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "00001.jpg").write_bytes(content)
        (tmp_path / "thumbs.db").touch()
        crops = DistributedCrops(tmp_path)
        assert crops.crop(0) is None
        assert (crops.frames, crops.unreadable) == (1, 1)
