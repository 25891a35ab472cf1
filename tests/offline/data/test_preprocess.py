"""Recordings made into trials: the live engine's features, mended lengths, and what is not fatal."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from fractions import Fraction
from multiprocessing.reduction import ForkingPickler
from typing import TYPE_CHECKING, Any

import av
import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.bundle.manifest import PartUse
from models.errors import UserError
from models.spec import LogMelSpec
from models.visual.alignment import to_crop
from models.visual.detectors import Box, Face, Image
from offline.commands.preprocess import describe
from offline.data.aff_wild2 import SourceTrial, find_trials
from offline.data.extraction import OneSideDetector, PatchRows
from offline.data.extractors import Extractors
from offline.data.preprocess import is_done, prepare_store, preprocess_trial
from offline.data.recipe import DISTRIBUTED, FeatureParts, PartChoices, choose_parts
from offline.data.store import Store, TrialRecord, gather_patches
from offline.files import DiskProblem
from stream.build import assemble, load
from stream.estimation.estimates import make_estimate
from stream.options import DEMO_BUNDLE, DetectorChoice, InputOptions

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from models.speech.timeline import WordTimeline
    from stream.estimation.frames import MergedFrame, PendingFrame
    from stream.messages import Estimate

CLIP = "swiz3n.mpg"
CLIP_FRAMES = 75
SPOKEN = "weekly_address_5s.mp4"


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> FeatureParts:
    return choose_parts(PartChoices(recogniser="vosk-tiny", detector="haar"), tmp_path_factory.mktemp("none"))


@pytest.fixture(scope="module")
def extractors(parts: FeatureParts) -> Extractors:
    return Extractors.load(parts)


@pytest.fixture(scope="module")
def taking_crops(extractors: Extractors) -> Extractors:
    """As for a data set that brings its own crops."""
    recipe = extractors.parts.recipe.model_copy(update={"detector": PartUse(name=DISTRIBUTED)})
    return replace(extractors, parts=replace(extractors.parts, recipe=recipe))


@pytest.fixture
def store(tmp_path: Path, parts: FeatureParts) -> Path:
    prepare_store(tmp_path / "store", parts)
    return tmp_path / "store"


@pytest.fixture
def trial(tmp_path: Path, fixtures: Path) -> SourceTrial:
    """A trial without labels of a real clip."""
    return SourceTrial("x", "train", "x", fixtures / "clips" / CLIP)


def labels_file(path: Path, rows: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("valence,arousal\n" + "".join(f"{k / 1000},0.5\n" for k in range(rows)))
    return path


def made(store: Path, name: str = "x") -> TrialRecord:
    return Store.open(store).trial(name)


class TestParity:
    @pytest.mark.parametrize("clip", [SPOKEN, pytest.param("face_noface.mov", marks=pytest.mark.slow)])
    def test_the_store_holds_what_settled_estimates_are_made_with(
        self,
        clip: str,
        fixtures: Path,
        store: Path,
        extractors: Extractors,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        settled: list[PendingFrame] = []

        def watched(merged: MergedFrame, timeline: WordTimeline, **options: Any) -> Estimate:
            if options["ready_at"] is None:
                settled.append(merged.frame)
            return make_estimate(merged, timeline, **options)

        monkeypatch.setattr("stream.estimation.estimator.make_estimate", watched)
        path = fixtures / "clips" / clip
        choices = InputOptions(str(path), bundle=DEMO_BUNDLE, recogniser="vosk-tiny", detector="haar")
        asyncio.run(assemble(load(choices), [], pace="fast").run())

        preprocess_trial(SourceTrial("x", "test", "x", path), store, extractors)
        trial = made(store)
        assert trial.frames == len(settled) > 100
        assert np.array_equal(trial.crops, np.stack([f.features.crop for f in settled]))
        assert trial.faces.tolist() == [f.features.face for f in settled]
        assert trial.times.tolist() == [f.time_s for f in settled]
        assert np.array_equal(trial.patches(0, trial.frames), np.stack([f.features.patch for f in settled]))
        assert np.array_equal(trial.language, np.stack([f.vector for f in settled]))
        assert trial.log_mel.shape[0] < 96 + 110 * (trial.times[-1] + 0.1)
        spoken = np.abs(trial.language).sum(1) > 0
        if clip == SPOKEN:
            assert spoken.any()
            assert not spoken.all()
            during = [
                any(w["start_s"] <= t < w["end_s"] for u in trial.words() for w in u) for t in trial.times
            ]
            assert spoken.tolist() == during


class TestLabels:
    def test_a_row_with_one_value_missing_is_not_annotated(
        self, tmp_path: Path, store: Path, extractors: Extractors, trial: SourceTrial
    ) -> None:
        path = tmp_path / "x.txt"
        path.write_text("valence,arousal\n-5,0.5\n0.5,-5\n" + "0.5,0.5\n" * (CLIP_FRAMES - 2))
        facts = preprocess_trial(replace(trial, labels=path), store, extractors)
        assert facts.annotated == CLIP_FRAMES - 2
        assert np.isnan(made(store).labels).all(axis=1).tolist() == [True] * 2 + [False] * (CLIP_FRAMES - 2)


class TestLengths:
    @pytest.mark.parametrize("more", [1, -1, 3])
    def test_labels_and_video_that_differ_by_a_few_frames(
        self, more: int, tmp_path: Path, store: Path, extractors: Extractors, trial: SourceTrial
    ) -> None:
        rows = CLIP_FRAMES + more
        facts = preprocess_trial(
            replace(trial, labels=labels_file(tmp_path / "x.txt", rows)), store, extractors
        )
        record = made(store)
        assert (facts.frames, facts.padded, facts.trimmed) == (rows, max(0, more), max(0, -more))
        assert len(record.crops) == len(record.labels) == len(record.language) == rows
        assert record.labels[:, 0].tolist() == [np.float32(k / 1000) for k in range(rows)]
        assert (np.diff(record.times) > 0).all()
        for k in range(CLIP_FRAMES, rows):
            assert np.array_equal(record.crops[k], record.crops[CLIP_FRAMES - 1])
            assert np.array_equal(record.language[k], record.language[CLIP_FRAMES - 1])
            assert record.patch_ends[k] == record.patch_ends[CLIP_FRAMES - 1]
        line = describe(facts)
        expected = {1: "1 frame shorter", -1: "1 frame longer", 3: "3 frames shorter"}[more]
        assert f"the video is {expected} than the labels: " in line
        assert "\n" not in line

    def test_a_video_cut_short_is_not_padded_into_a_trial(
        self, tmp_path: Path, store: Path, extractors: Extractors, trial: SourceTrial
    ) -> None:
        long = replace(trial, labels=labels_file(tmp_path / "x.txt", 200))
        with pytest.raises(
            UserError, match=r"75 frames but 200 labels: is it whole.*--tolerance 125"
        ) as refused:
            preprocess_trial(long, store, extractors)
        assert str(ForkingPickler.loads(ForkingPickler.dumps(refused.value))) == str(refused.value), (
            "it comes from a worker process"
        )
        assert list(store.glob("train/*")) == list(store.glob(".*unfinished")) == []
        assert preprocess_trial(long, store, extractors, tolerance=125).padded == 125

    def test_without_labels_the_video_says_how_long(
        self, store: Path, extractors: Extractors, trial: SourceTrial
    ) -> None:
        facts = preprocess_trial(trial, store, extractors)
        assert (facts.frames, facts.annotated) == (CLIP_FRAMES, 0)
        assert np.isnan(made(store).labels).all()


class TestDistributedCrops:
    def test_images_are_taken_and_missing_ones_are_zero(
        self, tmp_path: Path, store: Path, taking_crops: Extractors, trial: SourceTrial
    ) -> None:
        folder = tmp_path / "cropped_aligned" / "x"
        folder.mkdir(parents=True)
        pictures = np.random.default_rng(0).integers(0, 255, (CLIP_FRAMES + 1, 112, 112, 3), np.uint8)
        missing = {0, 7, 8, CLIP_FRAMES - 1}
        for k in set(range(CLIP_FRAMES + 1)) - missing:
            cv2.imwrite(str(folder / f"{k + 1:05d}.jpg"), pictures[k])
        (folder / "00011.jpg").write_bytes(b"damaged")
        labels = labels_file(tmp_path / "x.txt", CLIP_FRAMES + 1)
        facts = preprocess_trial(replace(trial, crops=folder, labels=labels), store, taking_crops)
        record = made(store)
        absent = sorted(missing | {10})
        assert np.flatnonzero(~record.faces).tolist() == absent
        assert not record.crops[absent].any()
        stored: Any = cv2.imread(str(folder / f"{CLIP_FRAMES + 1:05d}.jpg"))
        stored = stored[:, :, ::-1]
        assert np.array_equal(record.crops[CLIP_FRAMES], to_crop(np.ascontiguousarray(stored)))
        assert facts.crop_source == "distributed"
        line = describe(facts)
        assert "5 without an image" in line
        assert "1 images cannot be read" in line

    def test_sound_and_words_are_those_of_the_video(
        self,
        tmp_path: Path,
        store: Path,
        extractors: Extractors,
        taking_crops: Extractors,
        trial: SourceTrial,
    ) -> None:
        (tmp_path / "empty").mkdir()
        preprocess_trial(trial, store, extractors)
        preprocess_trial(replace(trial, name="y", crops=tmp_path / "empty"), store, taking_crops)
        seen, unseen = made(store, "x"), made(store, "y")
        assert seen.crops.any()
        assert not unseen.crops.any()
        assert np.array_equal(seen.log_mel, unseen.log_mel)
        assert np.array_equal(seen.times, unseen.times)
        assert np.array_equal(seen.language, unseen.language)

    def test_a_detector_that_is_asked_for_looks_itself(
        self, tmp_path: Path, store: Path, extractors: Extractors, trial: SourceTrial
    ) -> None:
        """What the live engine sees is what this trains on, crops or no crops."""
        (tmp_path / "empty").mkdir()
        facts = preprocess_trial(replace(trial, crops=tmp_path / "empty"), store, extractors)
        assert facts.crop_source == "detected"
        assert facts.with_face > CLIP_FRAMES // 2

    def test_a_trial_without_crops_beside_others_with_them_is_said_to_be_one(
        self, store: Path, taking_crops: Extractors, trial: SourceTrial
    ) -> None:
        facts = preprocess_trial(trial, store, taking_crops)
        assert facts.crop_source == "detected"
        assert "no crops came with it: faces by haar" in describe(facts)

    @pytest.mark.parametrize(
        ("choice", "crops", "named"),
        [("auto", True, DISTRIBUTED), ("auto", False, "haar"), ("haar", True, "haar")],
    )
    def test_the_recipe_names_whose_crops_they_are(
        self, tmp_path: Path, choice: DetectorChoice, crops: bool, named: str
    ) -> None:
        if crops:
            (tmp_path / "cropped_aligned_new").mkdir()
        chosen = choose_parts(PartChoices(recogniser="none", text_encoder="none", detector=choice), tmp_path)
        assert chosen.recipe.detector is not None
        assert chosen.recipe.detector.name == named
        said = " ".join(chosen.notes)
        assert ("data set's own" in said) == (named == DISTRIBUTED)
        assert ("haar finds the faces" in said) == (choice == "auto")


def two_people(path: Path, clips: list[Path], frames: int) -> list[NDArray[np.uint8]]:
    """A silent video of two clips side by side."""
    shown: list[list[NDArray[Any]]] = []
    for clip in clips:
        with av.open(str(clip)) as container:
            shown.append(
                [
                    f.to_ndarray(format="rgb24")
                    for f, _ in zip(container.decode(video=0), range(frames), strict=False)
                ]
            )
    pictures = [np.ascontiguousarray(np.hstack(pair)) for pair in zip(*shown, strict=True)]
    with av.open(str(path), "w") as container:
        video = container.add_stream("ffv1", rate=25)
        video.height, video.width = pictures[0].shape[:2]
        video.pix_fmt = "bgr0"
        for k, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = k, Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    return pictures


class TestTwoPeople:
    @pytest.mark.parametrize(
        ("names", "left", "right"), [(["x_left", "x_right"], 0, 1), (["x", "x_left"], 1, 0)]
    )
    def test_each_trial_shows_its_own_person(
        self,
        names: list[str],
        left: int,
        right: int,
        tmp_path: Path,
        fixtures: Path,
        store: Path,
        extractors: Extractors,
    ) -> None:
        data = tmp_path / "data"
        (data / "videos").mkdir(parents=True)
        clips = [fixtures / "clips" / name for name in ("bbaf2n.mpg", "swiz3n.mpg")]
        two_people(data / "videos" / "x.mkv", clips, 8)
        for name in names:
            labels_file(data / "VA_Estimation_Challenge" / "Train_Set" / f"{name}.txt", 8)
        alone = []
        for k, clip in enumerate(clips):
            preprocess_trial(SourceTrial(f"alone{k}", "test", "x", clip), store, extractors)
            alone.append(made(store, f"alone{k}").crops[:8].astype(float))
        for trial in find_trials(data):
            facts = preprocess_trial(trial, store, extractors)
            assert (facts.subject, facts.has_sound, facts.with_face) == ("x", False, 8)
            crops = made(store, trial.name).crops.astype(float)
            distances = [float(np.abs(crops - other).mean()) for other in alone]
            assert int(np.argmin(distances)) == names.index(trial.name) ^ (left == 1)
        record = made(store, names[0])
        assert not record.language.any()
        assert np.ptp(record.log_mel) == 0
        assert "no sound" in record.facts.warnings

    def test_the_side_is_where_a_face_is_taken_up_and_not_where_it_is_followed(self) -> None:
        def face(x: float) -> Face:
            return Face((x, 0, 10, 10), np.zeros((5, 2), np.float32), 0.9)

        class Both:
            name = "both"

            def detect(self, rgb: Image) -> list[Face]:
                return [face(10), face(80)]

            def detect_near(self, rgb: Image, box: Box) -> list[Face]:
                return [face(box[0] + 1)]

        picture = np.zeros((20, 100, 3), np.uint8)
        left, right = OneSideDetector(Both(), "left"), OneSideDetector(Both(), "right")
        assert [f.box[0] for f in left.detect(picture)] == [10]
        assert [f.box[0] for f in right.detect(picture)] == [80]
        assert left.detect_near(picture, (60, 0, 10, 10))[0].box[0] == 61
        assert left.name == "both"


class TestPatches:
    @given(st.lists(st.floats(0.001, 2.0), min_size=1, max_size=30), st.booleans())
    def test_kept_rows_give_every_patch_back(self, steps: list[float], revised: bool) -> None:
        spec = LogMelSpec(bands=2)
        times = np.cumsum(steps) - steps[0]
        random = np.random.default_rng(len(steps))
        kept, ends, patches = [], [], []
        rows = PatchRows(spec)
        for time_s in times:
            grid = (int(time_s * 16_000) - 400) // 160 + 1
            patch = np.repeat(np.arange(grid - 96, grid, dtype=np.float32)[:, None], 2, axis=1)
            if revised and random.random() < 0.2:
                patch[int(random.integers(96))] += 0.5
            new, end = rows.add(patch, float(time_s))
            kept.append(new)
            ends.append(end)
            patches.append(patch)
        found = gather_patches(np.concatenate(kept), np.array(ends, np.int32), 96)
        assert np.array_equal(found, np.stack(patches))
        if not revised:
            assert len(np.concatenate(kept)) <= 96 + sum(min(96, 101 * step + 1) for step in steps[1:])


def test_recordings_of_another_rate_than_the_stores_are_named(
    store: Path, extractors: Extractors, trial: SourceTrial
) -> None:
    """A window is so many frames: at another rate it is another time."""
    facts = preprocess_trial(trial, store, extractors)
    assert "25 frames a second, not the store's 30" in describe(facts)
    recipe = extractors.parts.recipe.model_copy(update={"frame_rate": 25.0})
    of_that_rate = replace(extractors, parts=replace(extractors.parts, recipe=recipe))
    assert "frames a second" not in describe(preprocess_trial(trial, store, of_that_rate))


class TestResuming:
    def test_a_finished_trial_is_done_until_what_it_is_made_from_changes(
        self, tmp_path: Path, store: Path, extractors: Extractors, trial: SourceTrial
    ) -> None:
        labelled = replace(trial, labels=labels_file(tmp_path / "x.txt", CLIP_FRAMES))
        assert not is_done(labelled, store)
        preprocess_trial(labelled, store, extractors)
        assert is_done(labelled, store)
        assert is_done(replace(labelled, subject="anna"), store)
        assert made(store).subject == "anna"
        (tmp_path / "crops").mkdir()
        cropped = replace(labelled, crops=tmp_path / "crops")
        assert not is_done(cropped, store)
        preprocess_trial(cropped, store, extractors)
        assert is_done(cropped, store)
        (tmp_path / "crops" / "00001.jpg").write_bytes(b"unpacked since")
        assert not is_done(cropped, store)
        preprocess_trial(labelled, store, extractors)
        labels_file(tmp_path / "x.txt", CLIP_FRAMES - 1)
        assert not is_done(labelled, store)
        preprocess_trial(labelled, store, extractors)
        assert made(store).frames == CLIP_FRAMES - 1
        (store / "train" / "x" / "trial.json").write_text("{")
        assert not is_done(labelled, store)

    def test_a_trial_stopped_half_way_leaves_nothing(
        self, store: Path, extractors: Extractors, trial: SourceTrial
    ) -> None:
        frames = iter(range(10))

        def count_down() -> None:
            next(frames)

        with pytest.raises(StopIteration):
            preprocess_trial(trial, store, extractors, on_frame=count_down)
        assert sorted(p.name for p in store.iterdir()) == ["store.json"]

    def test_a_disk_that_takes_no_trial_is_a_problem_of_its_own(
        self, store: Path, extractors: Extractors, trial: SourceTrial
    ) -> None:
        (store / "train").touch()
        with pytest.raises(DiskProblem, match="cannot be written"):
            preprocess_trial(trial, store, extractors)
        assert sorted(p.name for p in store.iterdir()) == ["store.json", "train"]

    def test_what_a_kill_left_is_cleared_away(self, store: Path, parts: FeatureParts) -> None:
        (store / ".x-abc-unfinished" / "trial").mkdir(parents=True)
        prepare_store(store, parts)
        assert sorted(p.name for p in store.iterdir()) == ["store.json"]

    def test_a_store_of_another_recipe_is_refused_by_name(self, store: Path, parts: FeatureParts) -> None:
        other = replace(parts, recipe=parts.recipe.model_copy(update={"recogniser": None}))
        with pytest.raises(UserError, match="another recipe: recogniser is vosk-tiny here, none there"):
            prepare_store(store, other)

    def test_a_folder_of_other_things_is_refused(self, tmp_path: Path, parts: FeatureParts) -> None:
        (tmp_path / "thesis.tex").touch()
        with pytest.raises(UserError, match="something that is not a store"):
            prepare_store(tmp_path, parts)
        with pytest.raises(UserError, match="is a file"):
            prepare_store(tmp_path / "thesis.tex", parts)
