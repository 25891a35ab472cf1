"""The report on training: it shows what the run's files say, and stands alone."""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from models.errors import UserError
from offline.data.store import Store
from offline.prediction.files import write_trials
from offline.prediction.predict import Prediction
from offline.reporting.revalidate import find_store, validation_predictions
from offline.training.options import TrainOptions
from offline.training.results import open_run
from offline.training.run import RunFolder, prepare_run
from offline.training.schedule import ScheduleOptions
from offline.training.train import train_fold
from tests.offline.stores import write_store, write_trunk

pytest.importorskip("matplotlib", reason="reports need matplotlib: pip install 'affectstream[train]'")

from offline.metrics import score_targets
from offline.reporting.figures import draw_trial
from offline.reporting.report import PredictionGroup, choose_trials, distinct_names, make_report

if TYPE_CHECKING:
    from tests.commands import RunCommand

PNG = b"\x89PNG\r\n\x1a\n"

Command = Callable[..., str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `store` and `runs/compact`: fold 0 of three trained for two epochs, in two phases."""
    folder = tmp_path_factory.mktemp("made")
    write_store(folder / "store", people=2, trials=1, validation=2, frames=40)
    write_trunk(folder / "trunk.safetensors")
    schedule = ScheduleOptions(
        learning_rate=3e-3, least_learning_rate=2e-3, warm_up=0, patience=0, epochs=3, early_stopping=50
    )
    options = TrainOptions(preset="compact", schedule=schedule, window=20, hop=15, cache_trunk=1)
    run, _ = prepare_run(
        RunFolder(folder / "runs" / "compact"),
        Store.open(folder / "store"),
        options,
        trunk=folder / "trunk.safetensors",
        split=None,
        parts=2,
        resume=False,
    )
    train_fold(run, 0, lambda event: None, tensorboard=False)
    return folder


@pytest.fixture
def command(run_command: RunCommand) -> Command:
    """Runs `offline-report` in this process; gives all that it printed."""

    def call(*arguments: object, status: int = 0) -> str:
        ended = run_command("offline-report", *arguments, "--threads", "1")
        assert ended.status == status, ended.err
        if status:
            assert ended.err.count("\n") == 1, ended.err
        return ended.out + ended.err

    return call


class Page(HTMLParser):
    """Text, table cells and images of a page; fails on anything that would be fetched."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.cells: list[str] = []
        self.images: list[bytes] = []
        self.headings: list[str] = []
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag not in ("img", "meta"):
            self._open.append(tag)
        for name, value in attributes:
            if name == "src":
                assert value is not None
                kind, _, content = value.partition(",")
                assert kind == "data:image/png;base64"
                self.images.append(base64.b64decode(content))
            assert name not in ("href", "onclick")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in ("td", "th"):
            self.cells.append(data)
        if self._open and re.fullmatch("h[123]", self._open[-1]):
            self.headings.append(data)


def prediction(name: str, seed: int, noise: float) -> Prediction:
    random = np.random.default_rng(seed)
    labels = np.sin(np.arange(50)[:, None] / [7, 9])
    value = np.clip(labels + random.normal(0, noise, (50, 2)), -1, 1)
    return Prediction(
        trial=name,
        context="stream",
        targets=("valence", "arousal"),
        times=np.arange(50) / 30,
        folds=value[None],
        value=value,
        spread=np.full((50, 2), 0.1),
        labels=labels,
    )


def test_the_page_shows_what_the_files_say_and_stands_alone(made: Path, command: Command) -> None:
    said = command(made / "runs")
    page = made / "runs" / "report" / "report.html"
    assert f"written: {page}" in said
    found = Page(page.read_text())
    result = json.loads((made / "runs" / "compact" / "fold-0" / "result.json").read_text())
    for metric in ("ccc", "pcc", "rmse"):
        for value in result[f"validation_{metric}"].values():
            assert f"{value:.3f}" in found.cells
    assert found.cells.count("missing") == 2, "folds 1 and 2 were not trained"
    assert "schedule.learning_rate" in found.cells
    assert "Fold 0 on the part that it validated on, clipped to [-1, 1]" in found.headings
    files = sorted(p.name for p in page.parent.glob("*.png"))
    assert files == [
        "compact-fold-0-agreement.png",
        "compact-fold-0-curves.png",
        "compact-fold-0-trial-v-0.png",
        "compact-fold-0-trial-v-1.png",
        "compact-overview.png",
    ]
    assert sorted(found.images) == sorted((page.parent / name).read_bytes() for name in files)
    assert all(image.startswith(PNG) for image in found.images)
    before = page.read_bytes()
    command(made / "runs")
    assert page.read_bytes() == before, "made again, it is the same"


def test_folds_are_predicted_as_training_judged_them(made: Path) -> None:
    run = open_run(made / "runs" / "compact")
    fold = run.folds[0]
    found = list(validation_predictions(run, fold, Store.open(made / "store")))
    assert [p.trial for p in found] == list(run.split.validation)
    outputs, labels = np.concatenate([p.folds[0] for p in found]), np.concatenate([p.labels for p in found])
    for target, scores in score_targets(outputs, labels, run.spec.targets).items():
        assert scores.ccc == pytest.approx(fold.validation_ccc[target], abs=1e-5)
    assert np.abs(np.concatenate([p.value for p in found])).max() <= 1


def test_only_the_runs_own_store_is_taken_up_by_itself(
    made: Path, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = open_run(made / "runs" / "compact")
    assert find_store(run, [tmp_path]) is None
    assert find_store(run, [tmp_path, made]) is not None
    write_store(tmp_path / "store", people=2, trials=1, validation=2, frames=30)
    assert find_store(run, [tmp_path]) is None, "another store of the same name"
    moved = Path(shutil.copytree(made / "runs" / "compact", tmp_path / "compact"))
    said = command(moved, "--out", tmp_path / "out")
    assert "give --store" in said
    assert "give --store" in (tmp_path / "out" / "report.html").read_text()
    assert sorted(p.name for p in (tmp_path / "out").glob("*.png")) == [
        "compact-fold-0-curves.png",
        "compact-overview.png",
    ]


def test_predictions_of_a_bundle_are_plotted(made: Path, command: Command, tmp_path: Path) -> None:
    write_trials(tmp_path / "centered", [prediction(f"t{i}", i, 0.1 * i) for i in range(6)])
    out = tmp_path / "out"
    command(made / "runs", "--out", out, "--predictions", tmp_path / "centered", "--trials", 3)
    page = Page((out / "report.html").read_text())
    assert "centered, context stream" in page.headings
    assert sorted(p.name for p in out.glob("centered-*.png")) == [
        "centered-stream-agreement.png",
        "centered-stream-trial-t0.png",
        "centered-stream-trial-t2.png",
        "centered-stream-trial-t5.png",
    ]
    assert "no predictions" in command(made / "runs", "--out", out, "--predictions", made, status=2)


def test_runs_and_predictions_of_one_name_keep_their_figures_apart(
    made: Path, command: Command, tmp_path: Path
) -> None:
    for place in ("a", "b"):
        shutil.copytree(made / "runs" / "compact", tmp_path / place / "paper")
        write_trials(tmp_path / place / "out", [prediction("t", ord(place), 0.2)])
    runs = [tmp_path / place / "paper" for place in ("a", "b")]
    outs = [tmp_path / place / "out" for place in ("a", "b")]
    arguments = ["--predictions", outs[0], "--predictions", outs[1]]
    command(*runs, *arguments, "--out", tmp_path / "report")
    figures = {p.name: p.read_bytes() for p in (tmp_path / "report").glob("*.png")}
    assert sorted(figures) == [
        f"{place}-{name}.png"
        for place in ("a", "b")
        for name in (
            "out-stream-agreement",
            "out-stream-trial-t",
            "paper-fold-0-curves",
            "paper-overview",
        )
    ]
    assert figures["a-out-stream-trial-t.png"] != figures["b-out-stream-trial-t.png"]
    page = Page((tmp_path / "report" / "report.html").read_text())
    assert {"Run a-paper", "Run b-paper", "a-out, context stream", "b-out, context stream"} <= set(
        page.headings
    )
    assert sorted(page.images) == sorted(figures.values())
    again = command(*runs[::-1], runs[0] / ".." / "paper", *arguments, "--out", tmp_path / "again")
    assert "a-paper" in again
    assert {p.name: p.read_bytes() for p in (tmp_path / "again").glob("*.png")} == figures


def test_a_name_is_as_long_as_it_must_be(tmp_path: Path) -> None:
    assert distinct_names([]) == []
    assert distinct_names([tmp_path / "a" / "x", tmp_path / "a" / "y"]) == ["x", "y"]
    assert distinct_names([tmp_path / "a" / "x", tmp_path / "b" / "x"]) == ["a-x", "b-x"]
    three = [tmp_path / name for name in ("a/c/x", "b/c/x", "b/d")]
    assert distinct_names(three) == ["a-c-x", "b-c-x", f"{tmp_path.name}-b-d"]


def test_trials_are_chosen_from_the_best_to_the_worst() -> None:
    made = [prediction(f"t{i}", i, noise) for i, noise in enumerate((0.9, 0.1, 0.5, 0.3, 0.7))]
    assert [p.trial for p in choose_trials(made, 3)] == ["t1", "t2", "t0"]
    assert [p.trial for p in choose_trials(made, 1)] == ["t2"]
    assert len(choose_trials(made, 9)) == 5
    unlabelled = prediction("u", 9, 0.1)
    unlabelled = Prediction(**{**vars(unlabelled), "labels": np.full((50, 2), np.nan)})
    assert choose_trials([unlabelled, *made], 9)[-1].trial == "u"
    assert draw_trial(unlabelled, "u").startswith(PNG)


def test_what_users_name_is_shown_as_text() -> None:
    group = PredictionGroup("a<b>&c", "x", (prediction("<i>", 0, 0.1),))
    found = Page(make_report([], [group]).page)
    assert "a<b>&c" in found.headings
    assert "<i>" in found.cells


class TestBadInput:
    @pytest.fixture
    def run_folder(self, made: Path, tmp_path: Path) -> Path:
        return Path(shutil.copytree(made / "runs" / "compact", tmp_path / "compact"))

    def test_folders_that_are_no_runs(self, command: Command, tmp_path: Path) -> None:
        assert "is not a run and holds none" in command(tmp_path, status=2)
        assert "there is no folder" in command(tmp_path / "absent", status=2)

    def test_a_folder_that_holds_something_else_is_kept(
        self, made: Path, command: Command, tmp_path: Path
    ) -> None:
        (tmp_path / "thesis.txt").write_text("precious")
        assert "not a report" in command(made / "runs", "--out", tmp_path, status=2)
        assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]

    def test_another_store_is_refused(self, made: Path, command: Command, tmp_path: Path) -> None:
        write_store(tmp_path / "store", people=1, trials=1, validation=1, frames=20)
        said = command(made / "runs", "--out", tmp_path / "out", "--store", tmp_path / "store", status=2)
        assert "names the trial" in said

    def test_a_damaged_history_is_named(self, run_folder: Path, command: Command, tmp_path: Path) -> None:
        with (run_folder / "fold-0" / "history.jsonl").open("a") as file:
            file.write('{"epoch": 4}\n')
        said = command(run_folder, "--out", tmp_path / "out", status=2)
        assert "history.jsonl is damaged" in said

    def test_damaged_records_are_named(self, run_folder: Path) -> None:
        record = run_folder / "run.json"
        content = json.loads(record.read_text())
        record.write_text(json.dumps({**content, "spec": {}, "recipe": {"frame_rate": "fast"}}))
        with pytest.raises(UserError, match=r"run\.json is damaged"):
            open_run(run_folder)
        record.write_text(json.dumps({**content, "format_version": 99}))
        with pytest.raises(UserError, match="update affectstream"):
            open_run(run_folder)

    def test_a_run_that_has_just_begun(self, run_folder: Path, command: Command, tmp_path: Path) -> None:
        shutil.rmtree(run_folder / "fold-0")
        command(run_folder, "--out", tmp_path / "out")
        assert "No fold has come to the end of an epoch" in (tmp_path / "out" / "report.html").read_text()


def test_matplotlib_is_asked_for_in_one_line(
    made: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("offline.commands.report.find_spec", lambda name: None)
    assert "pip install 'affectstream[train]'" in command(made / "runs", status=2)


def test_help_has_examples(command: Command) -> None:
    assert "offline-report runs/compact --store store/" in command("--help")
