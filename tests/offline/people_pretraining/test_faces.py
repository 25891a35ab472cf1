"""A face backbone learns from votes on drawn faces: the loss and its parts, resuming, what is written, bad input."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from models.bundle.manifest import PartUse
from models.errors import UserError
from models.spec import CROP_SPECS, PRACTICAL
from offline.composer.detected_faces import DetectedFaces
from offline.people.emotions import EMOTIONS
from offline.people.ferplus import EXPRESSIONS, read_pictures
from offline.people_pretraining.faces import (
    HAPPINESS,
    NEUTRAL,
    SURPRISE,
    FaceBatches,
    FaceModel,
    FaceScores,
    FaceSet,
    compare,
    face_loss,
    network_inputs,
    score_faces,
    valence_arousal,
)
from offline.people_pretraining.options import FaceOptions
from offline.people_pretraining.prelu import VectorizedPReLU, vectorize_prelu
from offline.people_pretraining.pretrain_faces import (
    FaceEpoch,
    FaceFiles,
    FaceMaterial,
    pretrain_faces,
    rank,
    read_material,
    write_trunk,
)
from offline.tensors import load_tensors
from offline.training.pretrained import check_recipe, load_pretrained

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from tests.commands import RunCommand

CROP = CROP_SPECS["practical"]
OPTIONS = FaceOptions(epochs=2, batch=12)


def draw_face(kind: int, random: np.random.Generator) -> NDArray[np.uint8]:
    """A drawn face (48, 48) whose mouth says which of the expressions it has."""
    face = np.full((48, 48), 60 + random.integers(30), np.uint8)
    cv2.ellipse(face, (24, 25), (18, 22), 0, 0, 360, 190, -1)
    for x in (16, 32):
        cv2.circle(face, (x, 19), 2 + kind % 2, 30, -1)
    if kind == HAPPINESS:
        cv2.ellipse(face, (24, 32), (9, 7), 0, 10, 170, 30, 2)
    elif kind == SURPRISE:
        cv2.ellipse(face, (24, 37), (4, 6), 0, 0, 360, 20, -1)
    elif kind == NEUTRAL:
        cv2.line(face, (17, 37), (31, 37), 40, 2)
    else:
        cv2.ellipse(face, (24, 44), (9, 8), 0, 190, 350, 30, 2)
        cv2.line(face, (12, 12 + kind % 3), (20, 15), 40, 2)
    return np.clip(face + random.normal(0, 6, face.shape), 0, 255).astype(np.uint8)


def write_archive(path: Path, count: int, seed: int, kinds: tuple[int, ...] = (0, 1, 2, 3, 4)) -> Path:
    random = np.random.default_rng(seed)
    labels = [kinds[k % len(kinds)] for k in range(count)]
    votes = np.zeros((count, 10), np.uint8)
    votes[np.arange(count), labels] = 8
    votes[np.arange(count), random.integers(0, 8, count)] += 2
    np.savez(path, images=np.stack([draw_face(kind, random) for kind in labels]), votes=votes)
    return path


def face_set(path: Path) -> FaceSet:
    """Pictures of which every face is where it is drawn."""
    pictures = read_pictures(path)
    count = len(pictures)
    squares = np.tile(np.array([24, 25, 46], np.float32), (count, 1))
    landmarks = np.array([[16, 19], [32, 19], [24, 28], [17, 37], [31, 37]], np.float32)
    there = np.ones(count, np.bool_)
    return FaceSet.from_pictures(pictures, DetectedFaces(squares, np.tile(landmarks, (count, 1, 1)), there))


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("faces")
    return write_archive(folder / "train.npz", 96, 1), write_archive(folder / "held.npz", 30, 2)


@pytest.fixture(scope="module")
def material(archives: tuple[Path, Path]) -> FaceMaterial:
    learned, judged = (face_set(path) for path in archives)
    return FaceMaterial(learned, judged, {"training": "drawn"})


def nothing(event: FaceEpoch) -> None:
    pass


def test_drawn_faces_are_learned(material: FaceMaterial, tmp_path: Path) -> None:
    events: list[FaceEpoch] = []
    options = OPTIONS.model_copy(update={"epochs": 10})
    best = pretrain_faces(material, options, tmp_path / "c", events.append)
    assert [event.epoch for event in events] == list(range(1, 11))
    assert events[-1].loss < 0.6 * events[0].loss
    assert best.ccc["valence"] > 0.5
    assert rank(best) == max(rank(event.scores) for event in events)


def test_killed_after_an_epoch_it_goes_on_to_the_same_weights(material: FaceMaterial, tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    def die(event: FaceEpoch) -> None:
        torch.manual_seed(77)
        raise Killed

    first = pretrain_faces(material, OPTIONS, tmp_path / "whole", nothing)
    with pytest.raises(Killed):
        pretrain_faces(material, OPTIONS, tmp_path / "cut", die)
    assert pretrain_faces(material, OPTIONS, tmp_path / "cut", nothing) == first
    (wanted, state), (found, other) = (load_tensors(tmp_path / name) for name in ("whole", "cut"))
    assert state == other
    assert wanted.keys() == found.keys()
    assert all(torch.equal(found[k], wanted[k]) for k in wanted)


def test_what_is_written_is_a_trunk_for_the_preset_and_either_detector_s_store(
    material: FaceMaterial, tmp_path: Path
) -> None:
    options = OPTIONS.model_copy(update={"epochs": 1})
    best = pretrain_faces(material, options, tmp_path / "c", nothing)
    write_trunk(material, options, tmp_path / "c", tmp_path / "trunk.safetensors")
    trunk = load_pretrained(tmp_path / "trunk.safetensors", PRACTICAL)
    assert trunk.backbone is not None
    assert trunk.recipe is not None
    assert FaceScores.from_json(trunk.provenance["reached"]["visual"]) == best
    for detector in ("haar", "yunet"):
        store = trunk.recipe.model_copy(update={"detector": PartUse(name=detector)})
        check_recipe(trunk, store, "the trunk")
    with pytest.raises(UserError, match="crop is"):
        check_recipe(trunk, trunk.recipe.model_copy(update={"crop": CROP_SPECS["compact"]}), "the trunk")
    # The head is not in the file, but the backbone is the one that was judged.
    model = FaceModel(PRACTICAL.visual)  # type: ignore[arg-type]
    tensors, _ = load_tensors(tmp_path / "c")
    model.load_state_dict({k.removeprefix("best/"): v for k, v in tensors.items() if k.startswith("best/")})
    model.encoder.load_state_dict(trunk.backbone.state_dict())
    scores = score_faces(model, material.validation, CROP)
    assert scores.ccc["valence"] == pytest.approx(best.ccc["valence"], abs=1e-4)


def test_another_run_s_checkpoint_is_refused(material: FaceMaterial, tmp_path: Path) -> None:
    pretrain_faces(material, OPTIONS.model_copy(update={"epochs": 1}), tmp_path / "c", nothing)
    with pytest.raises(UserError, match="of another pretraining"):
        pretrain_faces(material, OPTIONS.model_copy(update={"seed": 4}), tmp_path / "c", nothing)


def test_divergence_is_one_line(material: FaceMaterial, tmp_path: Path) -> None:
    wild = OPTIONS.model_copy(update={"learning_rate": 1e30})
    with pytest.raises(UserError, match=r"diverged.*lower --learning-rate") as refused:
        pretrain_faces(material, wild, tmp_path / "c", nothing)
    assert "\n" not in str(refused.value)


def test_near_duplicates_of_validation_pictures_are_left_out(
    archives: tuple[Path, Path], tmp_path: Path
) -> None:
    training, held = archives
    with np.load(training) as a, np.load(held) as b:
        images, votes = (np.concatenate([a[name], b[name][:5]]) for name in ("images", "votes"))
    np.savez(tmp_path / "both.npz", images=images, votes=votes)
    plain = read_material(FaceFiles(training, held, "haar"), tmp_path / "kept")
    found = read_material(FaceFiles(tmp_path / "both.npz", held, "haar"), tmp_path / "kept")
    assert len(found.training) == len(plain.training)
    left_out = [m.identity["near_duplicates_left_out"] for m in (plain, found)]
    assert left_out[1] == left_out[0] + 5
    with pytest.raises(UserError, match="no two pictures that are not in"):
        read_material(FaceFiles(held, held, "haar"), tmp_path / "kept")


def test_a_face_that_no_detector_finds_has_the_usual_square(
    archives: tuple[Path, Path], tmp_path: Path
) -> None:
    with np.load(archives[0]) as drawn:
        images, votes = drawn["images"][:6].copy(), drawn["votes"][:6]
    images[1:4] = np.random.default_rng(3).integers(0, 255, (3, 48, 48), np.uint8)
    np.savez(tmp_path / "some.npz", images=images, votes=votes)
    found = read_material(FaceFiles(tmp_path / "some.npz", archives[1], "haar"), tmp_path / "kept").training
    assert torch.isfinite(found.squares).all()
    assert found.found.tolist() == [True, False, False, False, True, True]
    assert torch.equal(found.squares[1:4], torch.tensor([[24.0, 25.5, 46.0]]).expand(3, 3))


def test_batches_are_the_same_for_one_seed_and_balance_draws_the_rare_more_often(tmp_path: Path) -> None:
    faces = face_set(write_archive(tmp_path / "a.npz", 100, 1, (0,) * 9 + (4,)))

    def draw(balance: float, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
        options = FaceOptions(batch=20, balance=balance, swap_share=0)
        batches = FaceBatches(faces, options, CROP, torch.Generator().manual_seed(seed))
        drawn = [batches.draw() for _ in range(batches.steps * 4)]
        return torch.cat([d[0] for d in drawn]), torch.cat([d[1] for d in drawn])

    first, again = draw(0.5), draw(0.5)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert first[0].shape[1:] == (3, 40, 40)
    anger = [(draw(balance)[1].argmax(dim=1) == 4).float().mean().item() for balance in (0.0, 0.5, 1.0)]
    assert anger[0] < anger[1] < anger[2]


def test_neutral_faces_get_no_mouth_of_another_feeling_than_surprise(tmp_path: Path) -> None:
    faces = face_set(write_archive(tmp_path / "a.npz", 200, 1, (0, 0, 2, 3, 4, 6)))
    one_hot = nn.functional.one_hot(faces.majority, len(EXPRESSIONS)).float()
    faces = FaceSet(faces.images, one_hot, faces.squares, faces.landmarks, faces.found)
    options = FaceOptions(batch=100, swap_share=0.25)
    batches = FaceBatches(faces, options, CROP, torch.Generator().manual_seed(1))
    shares = torch.cat([batches.draw()[1] for _ in range(10)])
    assert torch.allclose(shares.sum(dim=1), torch.ones(len(shares)), atol=1e-5)
    neutral = shares[shares[:, NEUTRAL] > 0.8]
    mixed = neutral[neutral[:, NEUTRAL] < 1]
    assert len(mixed)
    assert torch.allclose(mixed[:, NEUTRAL] + mixed[:, SURPRISE], torch.ones(len(mixed)), atol=1e-5)
    angry = shares[shares[:, 4] > 0.5]
    assert (angry[:, 4] > 0.999).all(), "any other face gets a mouth of its own kind"


def test_faces_without_any_donor_keep_their_mouths(tmp_path: Path) -> None:
    faces = face_set(write_archive(tmp_path / "a.npz", 30, 1, (2,)))
    options = FaceOptions(batch=30, swap_share=0.25)
    _, shares = FaceBatches(faces, options, CROP, torch.Generator().manual_seed(1)).draw()
    assert (shares[:, SURPRISE] > 0.7).all()


def test_votes_become_the_mean_of_their_expressions_places() -> None:
    places = valence_arousal(torch.eye(len(EXPRESSIONS)))
    for name, (valence, arousal) in zip(EXPRESSIONS, places.tolist(), strict=True):
        assert (valence, arousal) == pytest.approx((EMOTIONS[name].valence, EMOTIONS[name].arousal))
    assert torch.allclose(valence_arousal(torch.full((1, 8), 1 / 8)), places.mean(dim=0), atol=1e-6)


def test_the_loss_is_least_where_everything_is_right_and_counts_each_expression_s_level() -> None:
    shares = nn.functional.one_hot(torch.arange(8).repeat(4), 8).float()
    wanted = valence_arousal(shares)
    logits = 30 * shares
    right = face_loss(wanted, logits, shares, 4.0).item()
    assert right == pytest.approx(0, abs=1e-4)
    shrunk = face_loss(0.6 * wanted, logits, shares, 4.0).item()
    assert shrunk > face_loss(0.6 * wanted, logits, shares, 0.0).item() > right
    # Errors that cancel out within each expression leave its level as it is.
    noisy = wanted + torch.tensor([0.2, -0.2]).repeat(2).repeat_interleave(8)[:, None]
    assert face_loss(noisy, logits, shares, 4.0).item() == pytest.approx(
        face_loss(noisy, logits, shares, 0.0).item(), abs=1e-5
    )


def test_scores_of_the_votes_themselves_are_perfect_and_of_damaged_estimates_are_refused() -> None:
    shares = nn.functional.one_hot(torch.arange(24) % 3, 8).float()
    wanted = valence_arousal(shares).numpy()
    scores = compare(wanted, shares.numpy(), shares)
    assert scores.ccc == pytest.approx({"valence": 1, "arousal": 1})
    assert (scores.correct, scores.level_error) == (1, 0)
    assert set(scores.voted) == {"neutral", "happiness", "surprise"}
    assert FaceScores.from_json(scores.as_json()) == scores
    off = compare(wanted + np.float32(0.1), shares.numpy(), shares)
    assert off.level_error == pytest.approx(0.1, abs=1e-6)
    with pytest.raises(ValueError, match="finite"):
        compare(np.full_like(wanted, np.nan), shares.numpy(), shares)


def test_an_epoch_with_the_wanted_agreement_is_best_by_its_levels() -> None:
    def scores(valence: float, arousal: float, off: float) -> FaceScores:
        return FaceScores(
            {"valence": valence, "arousal": arousal}, 0.8, {"fear": (off, off)}, {"fear": (0, 0)}
        )

    weak, wanted, near = scores(0.95, 0.8, 0.0), scores(0.89, 0.87, 0.2), scores(0.886, 0.866, 0.1)
    assert max([weak, wanted, near], key=rank) == near
    assert max([weak, scores(0.8, 0.8, 0.0)], key=rank) == weak


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_the_vectorised_prelu_is_prelu_and_so_are_its_gradients(kind: torch.dtype) -> None:
    plain, fast = nn.PReLU(3), nn.Sequential(nn.PReLU(3))
    nn.init.uniform_(plain.weight, -0.5, 0.5)
    fast[0].load_state_dict(plain.state_dict())
    vectorize_prelu(fast)
    assert isinstance(fast[0], VectorizedPReLU)
    results = []
    for module, dtype in ((plain, torch.float32), (fast[0], kind)):
        x = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(2)).requires_grad_()
        module(x.to(dtype)).float().square().sum().backward()
        results.append((x.grad, module.weight.grad))
    tolerance = 1e-5 if kind is torch.float32 else 5e-2
    for reference, found in zip(*results, strict=True):
        assert isinstance(reference, torch.Tensor)
        assert isinstance(found, torch.Tensor)
        assert torch.allclose(found, reference, rtol=tolerance, atol=tolerance)


def test_the_network_sees_the_same_grey_three_times() -> None:
    crops = torch.rand(2, 40, 40)
    inputs = network_inputs(crops, CROP)
    assert inputs.shape == (2, 3, 40, 40)
    assert torch.allclose(inputs[:, 2], 2 * crops - 1)


def test_the_command_writes_the_trunk_and_nothing_else(
    archives: tuple[Path, Path],
    tmp_path: Path,
    run_command: RunCommand,
) -> None:
    out = tmp_path / "out" / "trunk.safetensors"
    files = ["--faces", str(archives[0]), "--validation-faces", str(archives[1])]
    options = ["-o", str(out), "--detector", "haar", "--epochs", "1", "--batch", "24", "--threads", "1"]
    ended = run_command("offline-pretrain-people", *files, *options)
    assert ended.status == 0
    assert [path.name for path in out.parent.iterdir()] == ["trunk.safetensors"]
    printed = ended.out
    assert "faces: epoch 1/1" in printed
    assert "faces: anger: valence" in printed
    assert load_pretrained(out, PRACTICAL).backbone is not None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "huge"], "unknown preset 'huge'"),
        (["--preset", "compact"], "the compact preset's crops are not grey squares about a box"),
        (["--epochs", "0"], "--epochs: Input should be greater than 0"),
        (["--learning-rate", "inf"], "--learning-rate: Input should be a finite number"),
        (["--swap-share", "0.6"], "--swap-share: Input should be less than or equal to 0.25"),
        (["--detector", "eyes"], "eyes"),
        (["--faces", "nowhere.npz"], "nowhere.npz does not exist"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str],
    message: str,
    archives: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run_command: RunCommand,
) -> None:
    files = ["--faces", str(archives[0]), "--validation-faces", str(archives[1]), "--detector", "haar"]
    monkeypatch.chdir(tmp_path)
    ended = run_command("offline-pretrain-people", *files, "-o", "out.safetensors", *arguments)
    assert ended.status == 2
    error = ended.err
    assert message in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
