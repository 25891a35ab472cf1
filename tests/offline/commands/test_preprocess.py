"""`offline-preprocess`, as somebody at a terminal meets it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest

from offline.data.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from tests.commands import RunCommand

CLIP = "swiz3n.mpg"
CLIP_FRAMES = 75

# What loads quickly: every process loads it.
OPTIONS = ("--recogniser", "none", "--text-encoder", "none", "--detector", "haar")


def labels_file(path: Path, rows: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("valence,arousal\n" + "".join(f"{k / 1000},0.5\n" for k in range(rows)))
    return path


Console = Callable[..., tuple[int, str, str]]


@pytest.fixture
def console(run_command: RunCommand) -> Console:
    """Runs `offline-preprocess` in this process: status, stdout, stderr."""
    return partial(run_command, "offline-preprocess")


def write_dataset(folder: Path, clips: dict[str, Path], rows: int = CLIP_FRAMES) -> Path:
    (folder / "videos").mkdir(parents=True)
    for name, clip in clips.items():
        shutil.copy(clip, folder / "videos" / f"{name}{clip.suffix}")
        labels_file(folder / "VA_Estimation_Challenge" / "Train_Set" / f"{name}.txt", rows)
    return folder


class TestCommand:
    def test_bad_videos_are_listed_and_not_fatal(
        self, console: Console, tmp_path: Path, fixtures: Path
    ) -> None:
        data = write_dataset(tmp_path / "data", {"good": fixtures / "clips" / CLIP})
        (data / "videos" / "bad.mp4").write_bytes(b"no video" * 1000)
        labels_file(data / "VA_Estimation_Challenge" / "Train_Set" / "bad.txt", 30)
        labels_file(data / "VA_Estimation_Challenge" / "Validation_Set" / "gone.txt", 30)
        arguments = (data, tmp_path / "store", *OPTIONS, "--workers", "1")

        status, out, err = console(*arguments)
        assert status == 0
        assert out == f"{tmp_path / 'store'}: 1 of 3 trials, 1 of them new\n"
        assert "2 not made:\n  bad: " in err
        assert "  gone: there is no video 'gone' in videos/\n" in err
        assert "good: 75 frames" in err
        assert "Traceback" not in err
        assert Store.open(tmp_path / "store").trial("good").frames == CLIP_FRAMES

        (data / "videos" / "bad.mp4").unlink()
        status, out, err = console(*arguments, "--strict")
        assert status == 2
        assert "1 of 3 trials, 0 of them new" in out
        assert console(*arguments, "--partition", "validation")[0] == 2
        status, out, _ = console(*arguments, "--limit", "1", "--partition", "train")
        assert status == 2
        assert "0 of 1 trials" in out

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (
                ["{data}", "{store}", "--partition", "training"],
                "there is no partition 'training': choose from train",
            ),
            (["{data}", "{store}", "--partition", "test"], "has no trials in the test partition"),
            (["{data}", "{data}"], "holds something that is not a store"),
            (["{data}", "{data}/videos/x.mpg"], "is a file: give a folder for the store"),
            (["{store}", "{store}"], "is not a folder: give the data set's"),
            (["{data}", "{store}", "--detector", "dlib"], "unknown face detector 'dlib'"),
            (["{data}", "{store}", "--recogniser", "whisper"], "no recogniser 'whisper'"),
            (["{data}", "{store}", "--text-encoder", "gpt"], "there is no text encoder 'gpt'"),
            (["{data}", "{store}", "--text-encoder", "yunet"], "yunet"),
            (["{data}", "{store}", "--text-encoder", "bundle:none"], "there is no bundle 'none'"),
            (
                ["{data}", "{store}", "--preset", "huge"],
                "there is no preset 'huge': choose from paper, compact",
            ),
            (["{data}", "{store}", "--preset", "paper"], "is not installed: run `models-pull "),
            (["{data}", "{store}", "--audio-encoder", "clap"], "there is no audio encoder 'clap'"),
            (["{data}", "{store}", "--workers", "0"], "Invalid value for '--workers'"),
        ],
    )
    def test_a_mistake_is_one_line(
        self,
        console: Console,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        arguments: list[str],
        said: str,
    ) -> None:
        monkeypatch.setenv("AFFECT_MODELS", str(tmp_path / "models"))
        data = tmp_path / "data"
        labels_file(data / "VA_Estimation_Challenge" / "Train_Set" / "x.txt", 3)
        (data / "videos").mkdir()
        (data / "videos" / "x.mpg").write_bytes(b"x")
        status, out, err = console(*(a.format(data=data, store=tmp_path / "store") for a in arguments))
        assert (status, out) == (2, "")
        assert said in err
        assert err.startswith("offline-preprocess: ")
        assert err.count("\n") == 1

    def test_help_has_examples(self, console: Console) -> None:
        status, out, _ = console("--help")
        assert status == 0
        assert "offline-preprocess corpus/ store/" in out
        assert "--text-encoder" in out

    @pytest.mark.slow
    @pytest.mark.parametrize(("sent", "status"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
    def test_stopped_at_any_moment_it_goes_on_where_it_was(
        self, sent: signal.Signals, status: int, tmp_path: Path, fixtures: Path
    ) -> None:
        if os.name != "posix":
            pytest.skip("sends POSIX signals")
        clip = fixtures / "clips" / CLIP
        data = write_dataset(tmp_path / "data", {f"x{k}": clip for k in range(4)})
        store = tmp_path / "store"
        line = [sys.executable, "-c", "from offline.commands.preprocess import command; command()"]
        line += [str(data), str(store), *OPTIONS, "--workers", "1"]
        running = subprocess.Popen(line, stderr=subprocess.PIPE, text=True, start_new_session=True)
        deadline = time.monotonic() + 120
        while not list(store.glob("train/*/trial.json")) and time.monotonic() < deadline:
            time.sleep(0.02)
        if sent == signal.SIGINT:
            # As a terminal does: to the whole process group.
            os.killpg(running.pid, sent)
        else:
            running.send_signal(sent)
        _, err = running.communicate(timeout=60)
        assert running.returncode == status
        assert "Traceback" not in err
        assert ("the same command goes on from here" in err) == (sent == signal.SIGINT)
        first = {t.name: (t.folder / "crops.npy").stat().st_mtime_ns for t in Store.open(store).trials()}
        assert 0 < len(first) < 4

        finished = subprocess.run(line, capture_output=True, text=True, timeout=120, check=True)
        assert f"4 of 4 trials, {4 - len(first)} of them new" in finished.stdout
        trials = Store.open(store).trials()
        again = {t.name: (t.folder / "crops.npy").stat().st_mtime_ns for t in trials}
        assert again.items() >= first.items()
        assert all(np.array_equal(t.crops, trials[0].crops) for t in trials)
        assert not list(store.glob(".*unfinished"))
        assert json.loads((store / "store.json").read_text())["recipe"]["detector"]["name"] == "haar"


def test_the_recordings_rate_is_the_stores(tmp_path: Path, fixtures: Path, console: Console) -> None:
    dataset = write_dataset(tmp_path / "data", {"a": fixtures / "clips" / CLIP})
    store = tmp_path / "store"

    def rate() -> float:
        return float(json.loads((store / "store.json").read_text())["recipe"]["frame_rate"])

    assert console(dataset, store, *OPTIONS)[0] == 0
    assert rate() == 25
    status, _, said = console(dataset, store, *OPTIONS, "--frame-rate", "30")
    assert status == 2
    assert "frame_rate is 25.0 here, 30.0 there" in said
    assert console(dataset, store, *OPTIONS)[0] == 0


@pytest.mark.parametrize("rate", ["0", "nan", "inf", "-25"])
def test_a_rate_that_is_none_is_one_line(tmp_path: Path, fixtures: Path, console: Console, rate: str) -> None:
    dataset = write_dataset(tmp_path / "data", {"a": fixtures / "clips" / CLIP})
    status, _, said = console(dataset, tmp_path / "store", *OPTIONS, "--frame-rate", rate)
    assert status == 2
    assert "--frame-rate" in said
    assert not (tmp_path / "store").exists()
