"""Folds into a bundle: whole, verified, and refused in one line where something does not belong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from models.bundle.load import load_bundle, load_networks
from models.bundle.save import draw_probe
from models.errors import UserError
from models.files import file_hash
from models.spec import COMPACT, CropSpec, Modality
from models.text.small_bert import make_text_encoder
from models.visual.alignment import network_input
from offline.bundling import bundle as packing
from offline.bundling.bundle import BundlingOptions, BundlingResult, make_bundle
from offline.data.store import Store
from offline.tensors import load_tensors, save_tensors
from offline.training.results import find_runs, open_run
from tests.offline.stores import write_store, write_trunk
from tests.offline.training.runs import train_run

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.commands import RunCommand

NOTE = "trained on noise: for testing only"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `store`, `trunk.safetensors` and the finished run `runs/compact`."""
    folder = tmp_path_factory.mktemp("made")
    write_store(folder / "store", people=2, trials=1, validation=1, frames=24)
    write_trunk(folder / "trunk.safetensors")
    train_run(folder / "runs" / "compact", folder / "store", folder / "trunk.safetensors")
    return folder


@pytest.fixture
def run_folder(made: Path, tmp_path: Path) -> Path:
    """A copy of the run that a test may damage."""
    return Path(shutil.copytree(made / "runs" / "compact", tmp_path / "run"))


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def pack_run(folder: Path, target: Path, **options: Any) -> BundlingResult:
    return make_bundle([open_run(folder)], target, BundlingOptions(**options))


def refusal(folder: Path, target: Path, **options: Any) -> str:
    with pytest.raises(UserError) as refused:
        pack_run(folder, target, **options)
    assert not target.exists(), "nothing is left behind"
    return str(refused.value)


def test_the_bundle_is_the_folds(made: Path, tmp_path: Path) -> None:
    run = open_run(made / "runs" / "compact")
    packed = make_bundle([run], tmp_path / "bundle", BundlingOptions(note=NOTE))
    assert packed.folds == (0, 1, 2)
    assert packed.difference <= packing.AGREEMENT
    manifest, folds = load_networks(tmp_path / "bundle")
    assert manifest.trained
    assert manifest.name == "bundle"
    assert manifest.note == NOTE
    assert manifest.preset == "compact"
    assert {n.trunk for f in manifest.folds for n in f.networks} == {0}, "the frozen trunk is stored once"
    assert manifest.recipe.recogniser == run.recipe.recogniser
    assert manifest.recipe.detector == run.recipe.detector
    assert manifest.recipe.audio_encoder is not None
    assert manifest.recipe.audio_encoder.bundled
    for entry, networks, fold in zip(manifest.folds, folds, run.folds, strict=True):
        result = json.loads(fold.folder.result.read_text())
        assert entry.validation_ccc == result["validation_ccc"]
        for modality, moments in entry.normalisation.items():
            assert moments == pytest.approx(tuple(result["normalisation"][modality.value]), rel=1e-6)
        best, _ = load_tensors(fold.folder.best)
        own = networks[0].state_dict()
        assert own.keys() == best.keys()
        assert all(torch.equal(own[name], best[name]) for name in best)
        assert networks[0].normalisation[Modality.AUDIO] == pytest.approx(
            tuple(result["normalisation"]["audio"]), rel=1e-6
        )


def test_the_bundle_says_where_it_comes_from(made: Path, tmp_path: Path) -> None:
    packed = pack_run(made / "runs" / "compact", tmp_path / "bundle", name="noise")
    record = json.loads((made / "runs" / "compact" / "run.json").read_text())
    said = packed.manifest.provenance
    assert packed.manifest.name == "noise"
    assert said["runs"] == "compact"
    assert said["folds"] == "0 1 2"
    assert said["store_hash"] == record["store_hash"]
    assert json.loads(said["options"]) == record["options"]
    assert str(made) not in packed.manifest.to_json(), "no path of this machine"


def test_the_audio_encoder_is_the_runs(made: Path, tmp_path: Path) -> None:
    pack_run(made / "runs" / "compact", tmp_path / "bundle")
    bundle = load_bundle(tmp_path / "bundle", missing_parts="tolerate")
    encoder = open_run(made / "runs" / "compact").pretrained().audio_encoder
    assert bundle.audio_encoder is not None
    assert encoder is not None
    for name, value in encoder.state_dict().items():
        assert torch.equal(bundle.audio_encoder.state_dict()[name], value)


def test_a_text_encoder_is_bundled(made: Path, tmp_path: Path) -> None:
    make_text_encoder(tmp_path / "text", 48, 1)
    packed = pack_run(made / "runs" / "compact", tmp_path / "bundle", text_encoder=tmp_path / "text")
    assert packed.manifest.recipe.text_encoder is not None
    assert packed.manifest.recipe.text_encoder.bundled
    bundle = load_bundle(tmp_path / "bundle")
    assert bundle.text_encoder_folder == tmp_path / "bundle" / "text"


def test_the_probe_is_noise_unless_a_store_s_people_are_to_leave_with_the_bundle(
    made: Path, tmp_path: Path
) -> None:
    run = made / "runs" / "compact"
    pack_run(run, tmp_path / "noise")
    pack_run(run, tmp_path / "people", probe_from=made / "store")
    noise, people = (load_bundle(tmp_path / n, missing_parts="tolerate").probe for n in ("noise", "people"))
    assert torch.equal(noise["crops"], draw_probe(COMPACT)["crops"])
    trial = Store.open(made / "store").trials("train")[0]
    shown = {network_input(crop[None], CropSpec()).tobytes() for crop in trial.crops}
    assert people["crops"][0].numpy().tobytes() in shown
    assert len(people["crops"]) == len(people["patches"]) == len(people["audio"]) == len(people["language"])


def test_a_probe_of_other_features_is_refused(made: Path, tmp_path: Path) -> None:
    other = tmp_path / "store"
    shutil.copytree(made / "store", other)

    def rename(manifest: dict[str, Any]) -> None:
        manifest["recipe"]["detector"] = {"name": "yunet", "sha256": None}

    edit(other / "store.json", rename)
    assert "detector is yunet here" in refusal(made / "runs" / "compact", tmp_path / "b", probe_from=other)


def test_another_text_encoder_than_the_stores_is_refused(run_folder: Path, tmp_path: Path) -> None:
    make_text_encoder(tmp_path / "text", 48, 1)

    def pin(record: dict[str, Any]) -> None:
        record["recipe"]["text_encoder"] = {"name": "small-text", "sha256": "0" * 64}

    edit(run_folder / "run.json", pin)
    assert "give --text-encoder" in refusal(run_folder, tmp_path / "bundle")
    said = refusal(run_folder, tmp_path / "bundle", text_encoder=tmp_path / "text")
    assert "is not the text encoder" in said


def test_two_runs_of_a_target_each_are_paired_by_fold(made: Path, tmp_path: Path) -> None:
    store, trunk = made / "store", made / "trunk.safetensors"
    valence = train_run(tmp_path / "v", store, trunk, targets=("valence",))
    arousal = train_run(tmp_path / "a", store, trunk, targets=("arousal",))
    packed = make_bundle([open_run(arousal), open_run(valence)], tmp_path / "bundle", BundlingOptions())
    assert packed.manifest.spec.targets == ("valence", "arousal")
    assert [[n.targets for n in f.networks] for f in packed.manifest.folds] == [
        [("arousal",), ("valence",)]
    ] * 3
    assert set(packed.manifest.folds[0].validation_ccc or {}) == {"valence", "arousal"}
    for runs, problem in (
        ([valence], "estimates valence alone"),
        ([valence, valence], "estimate the same"),
        ([valence, made / "runs" / "compact"], "estimate the same"),
    ):
        with pytest.raises(UserError, match=problem):
            make_bundle([open_run(r) for r in runs], tmp_path / "other", BundlingOptions())


def test_missing_and_unfinished_folds_are_named(run_folder: Path, tmp_path: Path) -> None:
    shutil.rmtree(run_folder / "fold-1")
    edit(run_folder / "fold-2" / "result.json", lambda result: result.update(finished=False))
    said = refusal(run_folder, tmp_path / "bundle")
    assert "fold 1 of" in said
    assert "is missing" in said
    assert "fold 2 of" in said
    assert "is not finished" in said
    packed = pack_run(run_folder, tmp_path / "bundle", allow_missing=True)
    assert packed.folds == (0,)
    assert packed.manifest.provenance["folds"] == "0"


def test_a_run_without_any_finished_fold_is_refused(run_folder: Path, tmp_path: Path) -> None:
    for index in range(3):
        shutil.rmtree(run_folder / f"fold-{index}")
    assert "no finished fold" in refusal(run_folder, tmp_path / "bundle", allow_missing=True)


def test_what_is_there_is_kept_unless_asked(made: Path, tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    run = made / "runs" / "compact"
    pack_run(run, target)
    before = file_hash(target / "bundle.json")
    with pytest.raises(UserError, match="exists already"):
        pack_run(run, target, note="another")
    assert file_hash(target / "bundle.json") == before
    (target / "README.md").write_text("its card")
    pack_run(run, target, note="another", overwrite=True)
    assert (target / "README.md").read_text() == "its card"
    assert load_networks(target)[0].note == "another"
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("precious")
    with pytest.raises(UserError, match="not a bundle"):
        pack_run(run, other, overwrite=True)
    assert (other / "thesis.txt").read_text() == "precious"
    assert not [p.name for p in tmp_path.iterdir() if p.name.startswith(".")], "nothing staged is left"


def test_damage_is_named(run_folder: Path, tmp_path: Path) -> None:
    best = run_folder / "fold-1" / "best.safetensors"
    tensors, state = load_tensors(best)
    name = next(iter(tensors))
    tensors[name].view(-1)[0] = float("nan")
    save_tensors(best, tensors, state)
    assert "NaN" in refusal(run_folder, tmp_path / "bundle")
    best.write_bytes(best.read_bytes()[:1000])
    assert "fold-1" in refusal(run_folder, tmp_path / "bundle")
    best.unlink()
    assert "best.safetensors does not exist" in refusal(run_folder, tmp_path / "bundle")


def test_a_damaged_result_is_named(run_folder: Path, tmp_path: Path) -> None:
    edit(run_folder / "fold-0" / "result.json", lambda result: result.pop("normalisation"))
    assert "no sound normalisation" in refusal(run_folder, tmp_path / "bundle")


def test_another_trunk_is_refused(run_folder: Path, made: Path, tmp_path: Path) -> None:
    (run_folder / "trunk.safetensors").unlink()
    assert "give --trunk" in refusal(run_folder, tmp_path / "bundle")
    edit(run_folder / "run.json", lambda record: record["foundation"].update(source="elsewhere"))
    said = refusal(run_folder, tmp_path / "bundle", trunk=made / "trunk.safetensors")
    assert "is not what the run" in said


def test_a_bundle_that_computes_something_else_is_not_put_in_place(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = packing.save_bundle  # type: ignore[attr-defined]

    def wrong(folder: Path, **given: Any) -> Any:
        given["folds"] = [[n.to(torch.float32) for n in fold] for fold in given["folds"][::-1]]
        return right(folder, **given)

    monkeypatch.setattr(packing, "save_bundle", wrong)
    assert "computes something else" in refusal(run_folder, tmp_path / "bundle")


@pytest.mark.parametrize(
    ("options", "problem"),
    [({"name": "a b"}, "cannot be a bundle's name"), ({"note": "x" * 501}, "500 characters")],
)
def test_bad_options_are_refused_before_anything_is_read(
    made: Path, tmp_path: Path, options: dict[str, Any], problem: str
) -> None:
    assert problem in refusal(made / "runs" / "compact", tmp_path / "bundle", **options)


def test_a_folder_of_runs_stands_for_the_one_in_it(made: Path, tmp_path: Path) -> None:
    assert find_runs([made / "runs"]) == [made / "runs" / "compact"]
    with pytest.raises(UserError, match="is not a run and holds none"):
        find_runs([tmp_path])
    with pytest.raises(UserError, match="there is no folder"):
        find_runs([tmp_path / "absent"])


def test_the_command(made: Path, tmp_path: Path, run_command: RunCommand) -> None:
    arguments = [made / "runs", "-o", tmp_path / "bundle", "--note", NOTE]
    said = run_command("offline-bundle", *arguments).said
    assert "fold 2: validation CCC valence" in said
    assert "bundle 'bundle', 3 folds" in said
    ended = run_command("offline-bundle", *arguments)
    assert ended.status == 2
    error = ended.err
    assert error.count("\n") == 1
    assert "--overwrite" in error


def test_help_has_examples(run_command: RunCommand) -> None:
    assert "offline-bundle runs/compact -o bundle/" in run_command("offline-bundle", "--help").said
