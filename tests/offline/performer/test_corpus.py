"""The performed corpus: Aff-Wild2's layout, real videos with sound, the same each time, resumable."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from itertools import pairwise
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest

from models.errors import UserError
from models.labels import read_labels
from offline.performer.corpus import label_path, perform_corpus, prepare_corpus, video_path
from offline.performer.performance import FULLY_EXPRESSIVE, Channel, Expressiveness, perform
from offline.performer.person import make_person
from offline.performer.plan import CorpusPlan
from offline.performer.recording import draw_performance
from offline.performer.trajectory import composed_trajectory, random_trajectory
from offline.performer.voice import SAMPLE_RATE
from tests.commands import command_line, run_in_own_process

if TYPE_CHECKING:
    from pathlib import Path

PLAN = CorpusPlan(people=3, minutes=0.15, seed=5, test_people=1)

pytestmark = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")


def make(plan: CorpusPlan, folder: Path, workers: int = 1) -> list[str]:
    done: list[str] = []
    perform_corpus(plan, folder, prepare_corpus(plan, folder), workers, lambda trial: done.append(trial.name))
    return done


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "corpus"
    make(PLAN, folder)
    return folder


def decoded(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_the_layout_is_that_of_aff_wild2(corpus: Path) -> None:
    found = sorted(str(p.relative_to(corpus)) for p in corpus.rglob("*") if p.is_file())
    assert found == [
        "VA_Estimation_Challenge/Test_Set/performer003.txt",
        "VA_Estimation_Challenge/Train_Set/performer000.txt",
        "VA_Estimation_Challenge/Train_Set/performer001.txt",
        "VA_Estimation_Challenge/Validation_Set/performer002.txt",
        "performance.json",
        *(f"scripts/performer{n:03d}.csv" for n in range(4)),
        "subjects.csv",
        *(f"videos/performer{n:03d}.mp4" for n in range(4)),
    ]


def test_the_official_split_is_a_sixth() -> None:
    partitions = [trial.partition for trial in CorpusPlan(people=24).trials]
    assert (partitions.count("train"), partitions.count("validation")) == (20, 4)
    assert sum(trial.frames for trial in CorpusPlan().trials) == 20 * 60 * 30


def test_there_is_a_label_for_each_frame_and_sound_beside_it(corpus: Path) -> None:
    for trial in PLAN.trials:
        labels = read_labels(label_path(corpus, trial))
        assert len(labels) == trial.frames == 90
        with av.open(str(video_path(corpus, trial))) as container:
            video, audio = container.streams.video[0], container.streams.audio[0]
            assert (video.width, video.height, float(video.average_rate or 0)) == (320, 240, 30.0)
            assert audio.rate == SAMPLE_RATE
            assert sum(1 for _ in container.decode(video=0)) == trial.frames
            container.seek(0)
            blocks = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
        sound = np.concatenate(blocks)
        assert len(sound) / SAMPLE_RATE == pytest.approx(trial.frames / 30, abs=0.1)
        assert np.sqrt(np.mean(np.square(sound))) > 0.005


def test_provenance_says_how_to_make_it_again(corpus: Path) -> None:
    made = json.loads((corpus / "performance.json").read_text())
    assert made["plan"]["seed"] == 5
    assert "eSpeak NG" in made["tools"]["espeak-ng"]
    assert "Not recordings of anyone" in made["note"]


def test_the_same_seed_gives_the_same_labels_and_pictures_in_any_number_of_processes(
    corpus: Path, tmp_path: Path
) -> None:
    make(PLAN, tmp_path / "again", workers=2)
    for trial in PLAN.trials:
        here, there = (label_path(f, trial).read_bytes() for f in (corpus, tmp_path / "again"))
        assert here == there
        ours, again = (decoded(video_path(f, trial)) for f in (corpus, tmp_path / "again"))
        assert np.array_equal(ours, again)


def test_another_seed_gives_other_labels(corpus: Path) -> None:
    other = CorpusPlan(people=3, minutes=0.15, seed=6)
    assert not np.allclose(other.labels(other.trials[0]), PLAN.labels(PLAN.trials[0]))


def test_what_is_missing_is_made_and_the_rest_is_left(corpus: Path, tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    shutil.copytree(corpus, folder)
    label_path(folder, PLAN.trials[1]).unlink()
    video_path(folder, PLAN.trials[2]).unlink()
    untouched = video_path(folder, PLAN.trials[0]).stat().st_mtime_ns
    assert make(PLAN, folder) == ["performer001", "performer002"]
    assert video_path(folder, PLAN.trials[0]).stat().st_mtime_ns == untouched
    assert make(PLAN, folder) == []


def test_a_folder_with_another_corpus_is_refused(corpus: Path) -> None:
    with pytest.raises(UserError, match="plan seed 5, not 6"):
        prepare_corpus(CorpusPlan(people=3, minutes=0.15, seed=6, test_people=1), corpus)


def test_a_corpus_of_another_version_is_refused_as_that(tmp_path: Path) -> None:
    prepare_corpus(PLAN, tmp_path)
    path = tmp_path / "performance.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"recipe": 1}))
    with pytest.raises(UserError, match="another version of offline-perform"):
        prepare_corpus(PLAN, tmp_path)


def test_a_folder_with_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"")
    with pytest.raises(UserError, match="not empty"):
        prepare_corpus(PLAN, tmp_path)
    with pytest.raises(UserError, match="is a file"):
        prepare_corpus(PLAN, tmp_path / "holiday.jpg")


def test_a_damaged_provenance_is_named(tmp_path: Path) -> None:
    (tmp_path / "performance.json").write_text("{")
    with pytest.raises(UserError, match=r"performance\.json"):
        prepare_corpus(PLAN, tmp_path)


@pytest.mark.parametrize(
    "numbers",
    [
        {"people": 1},
        {"minutes": 0.0},
        {"minutes": float("nan")},
        {"minutes": float("inf")},
        {"minutes": 1e300},
        {"test_people": -1},
        {"seed": -1},
        {"time_constant_s": 0.0},
        {"time_constant_s": float("nan")},
        {"time_constant_s": float("inf")},
    ],
    ids=str,
)
def test_numbers_that_make_no_corpus_are_refused(numbers: dict[str, float]) -> None:
    with pytest.raises(UserError):
        CorpusPlan(**numbers)  # type: ignore[arg-type]


@pytest.mark.parametrize("option", ["--minutes", "--time-constant"])
@pytest.mark.parametrize("number", ["inf", "nan"])
def test_the_command_refuses_what_is_no_finite_number_before_it_writes(
    option: str, number: str, tmp_path: Path
) -> None:
    done = run_in_own_process("offline-perform", str(tmp_path / "c"), option, number)
    assert done.returncode == 2
    assert option in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_the_shorter_a_feeling_lasts_the_more_of_them_there_are() -> None:
    def crossings(time_constant_s: float) -> int:
        plan = CorpusPlan(people=2, minutes=4, time_constant_s=time_constant_s)
        valence = plan.labels(plan.trials[0])[:, 0]
        return int(np.count_nonzero(np.diff(np.sign(valence))))

    assert crossings(2.0) > 1.5 * crossings(8.0)


def test_face_voice_and_words_carry_noise_of_their_own() -> None:
    labels = random_trajectory(np.random.default_rng(0), 300, 30.0)
    person = make_person(5, 0)
    plain, noisy = (
        perform(person, labels, seed=1, expressiveness=c) for c in (FULLY_EXPRESSIVE, Expressiveness())
    )
    assert not np.allclose([p.smile for p in plain.poses], [p.smile for p in noisy.poses])
    mute = Channel(valence_noise=0.0, arousal_noise=0.0, mute=1.0)
    stone = perform(person, labels, seed=1, expressiveness=Expressiveness(face=mute, voice=mute, words=mute))
    assert np.ptp([p.smile for p in stone.poses]) < 0.3
    assert all(u.line.valence == 0.05 for u in stone.utterances)


def test_silence_and_speech_alternate_and_end_in_time() -> None:
    labels = composed_trajectory([(0.0, 0.5, 0.0), (20.0, -0.5, 0.5)], 600, 30.0)
    performance = perform(make_person(5, 1), labels, seed=2)
    times = [(u.start_s, u.end_s) for u in performance.utterances]
    assert len(times) >= 5
    assert all(0.49 < b[0] - a[1] < 4.6 for a, b in pairwise(times))
    assert times[-1][1] <= 20.0
    assert len(list(draw_performance(performance, (160, 120)))) == 600


def test_the_command_says_what_is_wrong_in_one_line() -> None:
    for arguments in ([], ["a", "--demo", "b.mp4"], ["--demo", "b.avi"], ["c", "--people", "1"]):
        done = run_in_own_process("offline-perform", *arguments)
        assert done.returncode == 2, arguments
        assert done.stderr.startswith("offline-perform: ")
        assert len(done.stderr.splitlines()) == 1


def test_the_command_makes_a_corpus_and_finds_it_done(tmp_path: Path) -> None:
    arguments = [str(tmp_path / "c"), "--people", "2", "--minutes", "0.1", "--workers", "1"]
    first, second = (run_in_own_process("offline-perform", *arguments) for _ in range(2))
    assert first.returncode == second.returncode == 0, first.stderr
    assert "2 people, 180 frames" in first.stdout
    assert "2 of 2 performances are there already" in second.stderr


@pytest.mark.slow
def test_killed_it_leaves_no_process_behind(tmp_path: Path) -> None:
    line = command_line("offline-perform", tmp_path / "c", "--people", 4, "--minutes", 4, "--workers", 2)
    running = subprocess.Popen(line, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("c/videos/*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    running.kill()
    # Their standard error is the parent's: it ends when the last of them has.
    running.communicate(timeout=30)
    assert list(tmp_path.glob("c/videos/*"))
