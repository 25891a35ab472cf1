"""The store: arrays on disk, what it refuses, and when two feature recipes go together."""

from __future__ import annotations

import json
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.bundle.load import load_bundle
from models.bundle.manifest import FeatureRecipe, PartUse
from models.errors import UserError
from models.spec import LogMelSpec
from offline.data.arrays import RowWriter, map_rows, write_rows
from offline.data.store import (
    STORE,
    TRIAL,
    Store,
    StoreManifest,
    TrialFacts,
    TrialRecord,
    bundle_recipe,
    gather_patches,
    recipe_differences,
)
from offline.files import DiskProblem

FRAMES = 5
RECIPE = FeatureRecipe(detector=PartUse(name="haar"), text_encoder=PartUse(name="small", sha256="a" * 64))


def write_store(folder: Path, names: dict[str, str], recipe: FeatureRecipe = RECIPE) -> Path:
    """A store of tiny trials, partition by name."""
    folder.mkdir(exist_ok=True)
    (folder / STORE).write_text(StoreManifest(recipe=recipe).model_dump_json())
    for number, (name, partition) in enumerate(names.items()):
        trial = folder / partition / name
        trial.mkdir(parents=True)
        facts = TrialFacts(
            name=name,
            partition=partition,  # type: ignore[arg-type]
            subject=name.removesuffix("_right"),
            video=f"{name}.mp4",
            frames=FRAMES,
            frame_rate=25.0,
            annotated=FRAMES,
            with_face=FRAMES,
            crop_source="detected",
            has_sound=True,
        )
        (trial / TRIAL).write_text(facts.model_dump_json())
        ends = np.arange(96, 96 + 4 * FRAMES, 4, dtype=np.int32)
        arrays: dict[str, np.ndarray] = {
            "crops": np.full((FRAMES, 48, 48, 3), number, np.uint8),
            "faces": np.ones(FRAMES, np.bool_),
            "times": np.arange(FRAMES) / 25,
            "logmel": np.arange(ends[-1] * 64, dtype=np.float32).reshape(-1, 64),
            "patch_ends": ends,
            "language": np.ones((FRAMES, 8), np.float32),
            "labels": np.zeros((FRAMES, 2), np.float32),
        }
        for key, array in arrays.items():
            write_rows(trial / f"{key}.npy", array)
    return folder


@given(st.lists(st.integers(0, 4), max_size=6), st.sampled_from([(), (0,), (3,), (2, 2)]))
def test_rows_written_piece_by_piece_are_one_array(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], row: tuple[int, ...]
) -> None:
    path = tmp_path_factory.mktemp("rows") / "x.npy"
    whole = np.random.default_rng(0).normal(size=(sum(sizes), *row)).astype(np.float32)
    with RowWriter(path, row, np.float32) as writer:
        for end, size in zip(np.cumsum(sizes), sizes, strict=True):
            writer.append(whole[end - size : end])
    assert np.array_equal(np.load(path, allow_pickle=False), whole)
    assert np.array_equal(map_rows(path, row, np.float32, len(whole)), whole)


def test_the_last_row_is_repeated(tmp_path: Path) -> None:
    with RowWriter(tmp_path / "x.npy", (2,), np.int32) as writer:
        writer.append(np.array([[1, 2], [3, 4]], np.int32))
        writer.repeat_last(2)
    assert np.load(tmp_path / "x.npy").tolist() == [[1, 2], [3, 4], [3, 4], [3, 4]]


def test_a_row_of_another_shape_is_a_fault(tmp_path: Path) -> None:
    with RowWriter(tmp_path / "x.npy", (2,), np.int32) as writer, pytest.raises(ValueError, match="shape"):
        writer.append(np.zeros((1, 3), np.int32))


def test_a_disk_that_takes_nothing_is_named(tmp_path: Path) -> None:
    with pytest.raises(DiskProblem, match="absent"):
        RowWriter(tmp_path / "absent" / "x.npy", (), np.int32)
    full = Path("/dev/full")
    if full.exists():
        with pytest.raises(DiskProblem, match="No space left"), RowWriter(full, (), np.uint8) as writer:
            writer.append(np.zeros(1 << 20, np.uint8))


def test_trials_are_in_order_of_partition_and_name(tmp_path: Path) -> None:
    names = {"b": "validation", "c": "train", "a": "train", "d": "test"}
    store = Store.open(write_store(tmp_path / "store", names))
    assert [t.name for t in store.trials()] == ["a", "c", "b", "d"]
    assert [t.name for t in store.trials("train")] == ["a", "c"]
    assert store.trial("d").partition == "test"
    with pytest.raises(UserError, match="no trial 'e'"):
        store.trial("e")


def test_a_trial_gives_its_features_without_loading_them(tmp_path: Path) -> None:
    trial = Store.open(write_store(tmp_path / "store", {"x_right": "train"})).trial("x_right")
    assert (trial.subject, trial.frames, trial.frame_rate) == ("x", FRAMES, 25.0)
    arrays = (trial.crops, trial.times, trial.faces, trial.log_mel, trial.language, trial.labels)
    assert all(isinstance(array, np.memmap) and not array.flags.writeable for array in arrays)
    assert trial.audio is None
    patches = trial.patches(1, 3)
    assert patches.shape == (2, 96, 64)
    assert np.array_equal(patches[1], trial.log_mel[trial.patch_ends[2] - 96 : trial.patch_ends[2]])


def test_many_trials_keep_no_file_open(tmp_path: Path) -> None:
    open_files = Path("/proc/self/fd")
    if not open_files.is_dir():
        pytest.skip("counts open files through /proc")
    store = Store.open(write_store(tmp_path / "store", {f"t{n}": "train" for n in range(5)}))
    before = len(list(open_files.iterdir()))
    assert sum(int(t.crops[0, 0, 0, 0]) + t.labels.size for t in store.trials()) > 0
    assert len(list(open_files.iterdir())) <= before + 1


@given(st.lists(st.integers(3, 30), min_size=1, max_size=10))
def test_patches_are_rows_before_their_ends(ends: list[int]) -> None:
    log_mel = np.arange(60, dtype=np.float32).reshape(30, 2)
    patches = gather_patches(log_mel, np.array(ends, np.int32), 3)
    assert all(np.array_equal(p, log_mel[e - 3 : e]) for p, e in zip(patches, ends, strict=True))


def test_an_unfinished_trial_is_not_in_the_store(tmp_path: Path) -> None:
    folder = write_store(tmp_path / "store", {"a": "train", "b": "train"})
    (folder / "train" / "b" / TRIAL).unlink()
    (folder / ".c-x-unfinished" / "trial").mkdir(parents=True)
    assert [t.name for t in Store.open(folder).trials()] == ["a"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "is not a store"),
        ("{", "damaged"),
        ('{"format_version": 2}', "update affectstream"),
        ('{"format_version": 1, "recipe": {}, "more": 1}', "more"),
    ],
)
def test_what_is_no_store_is_refused(tmp_path: Path, content: str | None, said: str) -> None:
    if content is not None:
        (tmp_path / STORE).write_text(content)
    with pytest.raises(UserError, match=said):
        Store.open(tmp_path)


def test_damage_in_a_trial_is_named(tmp_path: Path) -> None:
    folder = write_store(tmp_path / "store", {"a": "train"})
    trial = Store.open(folder).trial("a")
    crops = trial.folder / "crops.npy"
    crops.write_bytes(crops.read_bytes()[:500])
    with pytest.raises(UserError, match=r"crops\.npy is damaged"):
        _ = trial.crops
    write_rows(trial.folder / "labels.npy", np.zeros((FRAMES + 1, 2), np.float32))
    with pytest.raises(UserError, match=r"labels\.npy is damaged: it holds float32 \(6, 2\)"):
        _ = trial.labels
    np.save(trial.folder / "times.npy", np.array([{}] * FRAMES), allow_pickle=True)
    with pytest.raises(UserError, match=r"times\.npy is damaged"):
        _ = trial.times
    (trial.folder / "faces.npy").unlink()
    with pytest.raises(UserError, match=r"faces\.npy is missing"):
        _ = trial.faces
    (trial.folder / TRIAL).write_text("{}")
    with pytest.raises(UserError, match=r"trial\.json is damaged: name"):
        Store.open(folder)


def test_a_trial_that_was_moved_or_copied_is_named(tmp_path: Path) -> None:
    folder = write_store(tmp_path / "store", {"a": "train"})
    (folder / "train" / "a").rename(folder / "train" / "z")
    with pytest.raises(UserError, match="move its folder back"):
        Store.open(folder)


def test_words_come_back(tmp_path: Path) -> None:
    trial = Store.open(write_store(tmp_path / "store", {"a": "train"})).trial("a")
    with pytest.raises(UserError, match=r"words\.json"):
        trial.words()
    words = [[{"text": "hello", "start_s": 0.5, "end_s": 1.0, "confidence": 0.9}]]
    (trial.folder / "words.json").write_text(json.dumps(words))
    assert trial.words() == words


def test_a_record_travels_to_other_processes(tmp_path: Path) -> None:
    trial = Store.open(write_store(tmp_path / "store", {"a": "train"})).trial("a")
    _ = trial.crops
    content = ForkingPickler.dumps(trial)
    assert len(content) < 10_000
    again: TrialRecord = ForkingPickler.loads(content)
    assert again == trial


HASH, OTHER = "a" * 64, "b" * 64


@pytest.mark.parametrize(
    ("ours", "theirs", "said"),
    [
        ({}, {}, []),
        ({"detector": PartUse(name="haar")}, {"detector": PartUse(name="yunet")}, ["haar here, yunet there"]),
        ({}, {"detector": PartUse(name="haar")}, ["detector is none here, haar there"]),
        ({"recogniser": PartUse(name="x", sha256=HASH)}, {}, []),
        ({"recogniser": PartUse(name="x", sha256=HASH)}, {"recogniser": PartUse(name="x")}, []),
        (
            {"text_encoder": PartUse(name="x", sha256=HASH)},
            {"text_encoder": PartUse(name="y", sha256=HASH)},
            [],
        ),
        (
            {"text_encoder": PartUse(name="x", sha256=HASH)},
            {"text_encoder": PartUse(name="x", sha256=OTHER)},
            ["text encoder is x (aaaaaaaaaaaa) here, x (bbbbbbbbbbbb) there"],
        ),
        ({}, {"audio_encoder": PartUse(name="vggish", sha256=HASH)}, []),
        ({"frame_rate": 25.0}, {}, ["frame_rate is 25.0 here, 30.0 there"]),
        ({"logmel": LogMelSpec(bands=32)}, {}, ["logmel is"]),
    ],
)
def test_recipes_differ_by_name(ours: dict[str, object], theirs: dict[str, object], said: list[str]) -> None:
    a, b = (FeatureRecipe.model_validate(fields) for fields in (ours, theirs))
    found = recipe_differences(a, b)
    assert len(found) == len(said)
    assert all(part in line for part, line in zip(said, found, strict=True))
    assert bool(recipe_differences(a, b, strict=True)) == (a != b)


def test_a_store_refuses_another_recipe_by_name(tmp_path: Path) -> None:
    store = Store.open(write_store(tmp_path / "store", {"a": "train"}))
    store.check_recipe(RECIPE, "the bundle 'demo'")
    other = RECIPE.model_copy(update={"detector": PartUse(name="yunet")})
    with pytest.raises(
        UserError, match=r"the bundle 'demo' was made with other features .* haar here, yunet"
    ):
        store.check_recipe(other, "the bundle 'demo'")


def test_a_bundled_text_encoder_goes_by_its_hash() -> None:
    from offline.data.recipe import PartChoices, choose_parts

    manifest = load_bundle("demo").manifest
    recipe = bundle_recipe(manifest)
    assert recipe.audio_encoder is None
    parts = choose_parts(PartChoices(recogniser="vosk-tiny", detector="haar"), Path())
    assert recipe_differences(parts.recipe, recipe) == ()
    assert parts.recipe.text_encoder is not None
    assert recipe.text_encoder is not None
    assert parts.recipe.text_encoder.sha256 == recipe.text_encoder.sha256
