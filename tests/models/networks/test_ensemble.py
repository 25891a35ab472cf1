"""The ensemble: equal to its folds one by one, whatever they are, and one computation however it is run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.networks.ensemble import Ensemble, EnsembleState
from models.spec import (
    COMPACT,
    PAPER,
    TARGETS,
    Modality,
)
from tests.models.networks.fold_sets import (
    SEEDS,
    embedded,
    fold_sets,
    inputs,
    mixed_fold_sets,
    networks_of,
    one_by_one,
)
from tests.models.small_networks import (
    cuts,
    make_network,
    random_embeddings,
    share_trunk,
)

if TYPE_CHECKING:
    from models.networks.stacking import Fold


class TestEqualToItsFolds:
    @settings(deadline=None, max_examples=20)
    @given(fold_sets(), st.integers(1, 2), st.integers(1, 12), st.booleans(), SEEDS)
    def test_of_one_shape(self, folds: list[Fold], batch: int, frames: int, masked: bool, seed: int) -> None:
        ensemble = Ensemble.from_folds(folds)
        given_, mask = inputs(ensemble, batch, frames, seed)
        available = mask if masked else None
        found = ensemble(**given_, available=available)
        assert found.shape == (len(folds), batch, frames, len(ensemble.targets))
        expected = one_by_one(folds, ensemble, given_, available)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)

    @settings(deadline=None, max_examples=20)
    @given(mixed_fold_sets(), st.integers(1, 8), st.booleans(), SEEDS)
    def test_of_many_shapes(self, folds: list[Fold], frames: int, masked: bool, seed: int) -> None:
        ensemble = Ensemble.from_folds(folds)
        given_, mask = inputs(ensemble, 2, frames, seed)
        available = mask if masked else None
        expected = one_by_one(folds, ensemble, given_, available)
        torch.testing.assert_close(ensemble(**given_, available=available), expected, atol=1e-5, rtol=0)

    @pytest.mark.parametrize("paired", [False, True], ids=["joint", "pairs"])
    def test_in_the_compact_preset(self, paired: bool) -> None:
        parts = [(t,) for t in TARGETS] if paired else [TARGETS]
        folds: list[Fold] = [
            [make_network(COMPACT.model_copy(update={"targets": p}), 10 * f + i) for i, p in enumerate(parts)]
            for f in range(6)
        ]
        share_trunk([n for fold in folds for n in networks_of(fold)])
        ensemble = Ensemble.from_folds(folds)
        assert (len(ensemble.trunks), ensemble.folds, ensemble.networks) == (1, 6, 12 if paired else 6)
        given_, mask = inputs(ensemble, 1, 40, 0)
        expected = one_by_one(folds, ensemble, given_, mask)
        assert expected.std() > 0.01
        torch.testing.assert_close(ensemble(**given_, available=mask), expected, atol=1e-5, rtol=0)

    @pytest.mark.slow
    def test_in_the_paper_preset(self) -> None:
        folds: list[Fold] = [make_network(PAPER, f) for f in range(2)]
        share_trunk([n for fold in folds for n in networks_of(fold)])
        ensemble = Ensemble.from_folds(folds)
        given_, mask = inputs(ensemble, 1, 6, 0)
        expected = one_by_one(folds, ensemble, given_, mask)
        torch.testing.assert_close(ensemble(**given_, available=mask), expected, atol=1e-5, rtol=0)
        assert_steps_equal(ensemble, given_, mask, expected)


def assert_steps_equal(ensemble: Ensemble, given_: dict[str, Tensor], mask: Tensor, window: Tensor) -> None:
    """One crop, one embedding of each kind at a time."""
    batch, frames = mask.shape[:2]
    state, steps = ensemble.initial_states(batch), []
    for t in range(frames):
        now = {Modality(name): x[None, :, t] for name, x in given_.items() if name != "crops"}
        if "crops" in given_:
            now[Modality.VISUAL] = ensemble.embed_visual(given_["crops"][:, t])
        state, y = ensemble.step(state, now, mask[:, t])
        steps.append(y)
    torch.testing.assert_close(torch.stack(steps, dim=2), window, atol=1e-5, rtol=0)


class TestOneComputation:
    @settings(deadline=None, max_examples=20)
    @given(st.one_of(fold_sets(), mixed_fold_sets()), st.integers(1, 12), SEEDS)
    def test_step_equals_forward(self, folds: list[Fold], frames: int, seed: int) -> None:
        ensemble = Ensemble.from_folds(folds)
        given_, mask = inputs(ensemble, 2, frames, seed)
        assert_steps_equal(ensemble, given_, mask, ensemble(**given_, available=mask))

    @settings(deadline=None, max_examples=20)
    @given(st.one_of(fold_sets(), mixed_fold_sets()), st.data(), st.integers(1, 20), SEEDS)
    def test_chunks_of_any_length_equal_forward(
        self, folds: list[Fold], data: st.DataObject, frames: int, seed: int
    ) -> None:
        ensemble = Ensemble.from_folds(folds)
        given_, mask = inputs(ensemble, 1, frames, seed)
        embeddings, start, parts = embedded(ensemble, given_), 0, []
        state: EnsembleState | None = None
        for length in data.draw(cuts(frames)):
            span = slice(start, start + length)
            chunk = {m: x[:, :, span] for m, x in embeddings.items()}
            state, y = ensemble.run(chunk, state, mask[:, span])
            parts.append(y)
            start += length
        expected = ensemble(**given_, available=mask)
        torch.testing.assert_close(torch.cat(parts, dim=2), expected, atol=1e-5, rtol=0)

    @settings(deadline=None, max_examples=20)
    @given(fold_sets(), st.integers(2, 12), st.data(), SEEDS)
    def test_the_future_is_not_read(
        self, folds: list[Fold], frames: int, data: st.DataObject, seed: int
    ) -> None:
        now, ensemble = data.draw(st.integers(0, frames - 2)), Ensemble.from_folds(folds)
        given_, mask = inputs(ensemble, 1, frames, seed)
        other, _ = inputs(ensemble, 1, frames, seed + 1)
        changed = {n: torch.cat([x[:, : now + 1], other[n][:, now + 1 :]], dim=1) for n, x in given_.items()}
        flipped = torch.cat([mask[:, : now + 1], ~mask[:, now + 1 :]], dim=1)
        before, after = ensemble(**given_, available=mask), ensemble(**changed, available=flipped)
        assert torch.equal(before[:, :, : now + 1], after[:, :, : now + 1])

    def test_words_that_change_are_run_again_from_a_snapshot(self) -> None:
        ensemble = Ensemble.from_folds([make_network(COMPACT, f) for f in range(3)])
        words = random_embeddings(COMPACT, 1, 30, 0)[Modality.LANGUAGE][None]
        state, snapshots = ensemble.initial_state(Modality.LANGUAGE, 1), []
        for t in range(30):
            snapshots.append(state)
            state, _ = ensemble.step_branch(Modality.LANGUAGE, words[:, :, t], state)
        revised = words.clone()
        revised[:, :, 12:18] = 0.0
        after, again = ensemble.run_branch(Modality.LANGUAGE, revised[:, :, 12:], snapshots[12])
        _, whole = ensemble.run_branch(Modality.LANGUAGE, revised)
        scale = float(whole.abs().max())
        torch.testing.assert_close(again / scale, whole[:, :, 12:] / scale, atol=1e-5, rtol=0)
        state = snapshots[12]
        for t in range(12, 30):
            state, _ = ensemble.step_branch(Modality.LANGUAGE, revised[:, :, t], state)
        for one, other in zip(after.stacks, state.stacks, strict=True):
            assert one is not None
            assert other is not None
            for a, b in zip(one.history, other.history, strict=True):
                torch.testing.assert_close(a / scale, b / scale, atol=1e-5, rtol=0)

    def test_many_crops_are_embedded_as_few(self) -> None:
        ensemble = Ensemble.from_folds([make_network(COMPACT, f) for f in range(2)])
        crops = torch.randn(70, 3, 40, 40, generator=torch.Generator().manual_seed(0))
        few = torch.cat([ensemble.embed_visual(c) for c in crops.split(1)], dim=1)  # type: ignore[no-untyped-call]
        torch.testing.assert_close(ensemble.embed_visual(crops), few, atol=1e-5, rtol=0)

    def test_repeating_repeats_to_the_bit(self) -> None:
        ensemble = Ensemble.from_folds([make_network(COMPACT, f) for f in range(2)])
        given_, mask = inputs(ensemble, 1, 10, 0)
        assert torch.equal(ensemble(**given_, available=mask), ensemble(**given_, available=mask))


class TestMissing:
    @settings(deadline=None, max_examples=20)
    @given(st.one_of(fold_sets(), mixed_fold_sets()), st.integers(1, 8), SEEDS)
    def test_what_a_missing_modality_holds_does_not_matter(
        self, folds: list[Fold], frames: int, seed: int
    ) -> None:
        ensemble = Ensemble.from_folds(folds)
        given_, mask = inputs(ensemble, 1, frames, seed)
        embeddings, junk = embedded(ensemble, given_), {}
        for i, m in enumerate(ensemble.modalities):
            junk[m] = embeddings[m].masked_fill(~mask[..., i : i + 1], float("nan"))
        found = ensemble.run(junk, None, mask)[1]
        assert bool(found.isfinite().all())
        assert torch.equal(found, ensemble.run(embeddings, None, mask)[1])

    @settings(deadline=None, max_examples=20)
    @given(st.one_of(fold_sets(), mixed_fold_sets()), SEEDS)
    def test_an_input_left_out_is_one_masked_throughout(self, folds: list[Fold], seed: int) -> None:
        ensemble = Ensemble.from_folds(folds)
        given_, mask = inputs(ensemble, 1, 5, seed)
        if len(given_) == 1:
            return
        gone = sorted(given_)[seed % len(given_)]
        column = ensemble.modalities.index(Modality.VISUAL if gone == "crops" else Modality(gone))
        masked = mask.clone()
        masked[..., column] = False
        less = {name: x for name, x in given_.items() if name != gone}
        assert torch.equal(ensemble(**less, available=mask), ensemble(**given_, available=masked))

    def test_with_everything_missing_the_estimates_are_finite(self) -> None:
        ensemble = Ensemble.from_folds([make_network(COMPACT, f) for f in range(2)])
        given_, mask = inputs(ensemble, 1, 5, 0)
        assert bool(ensemble(**given_, available=torch.zeros_like(mask)).isfinite().all())


class TestServing:
    def test_it_has_no_gradients_and_never_trains(self) -> None:
        ensemble = Ensemble.from_folds([make_network(COMPACT, 0)])
        given_, mask = inputs(ensemble, 1, 3, 0)
        assert not ensemble(**given_, available=mask).requires_grad
        assert not ensemble.eval().training
        with pytest.raises(ValueError, match="only serves"):
            ensemble.train()

    def test_it_holds_copies(self) -> None:
        network = make_network(COMPACT, 0)
        ensemble = Ensemble.from_folds([network])
        given_, mask = inputs(ensemble, 1, 3, 0)
        before = ensemble(**given_, available=mask)
        with torch.no_grad():
            for tensor in network.state_dict().values():
                tensor.zero_()
        network.set_normalisation(Modality.AUDIO, 9.0, 9.0)
        assert torch.equal(ensemble(**given_, available=mask), before)

    def test_networks_in_training_are_served_as_they_evaluate(self) -> None:
        network = make_network(COMPACT, 0)
        before = Ensemble.from_folds([network])
        given_, mask = inputs(before, 1, 3, 0)
        network.train()
        assert torch.equal(
            Ensemble.from_folds([network])(**given_, available=mask), before(**given_, available=mask)
        )
        assert network.training

    def test_weight_norm_is_folded_away(self) -> None:
        ensemble = Ensemble.from_folds([make_network(COMPACT, 0)])
        assert list(ensemble.parameters()) == []
        assert not [name for name in ensemble.state_dict() if "original" in name]

    def test_what_it_says_of_itself(self) -> None:
        pair = [make_network(COMPACT.model_copy(update={"targets": (t,)}), 0) for t in ("arousal", "valence")]
        ensemble = Ensemble.from_folds([pair, make_network(COMPACT, 1)])
        assert ensemble.targets == TARGETS
        assert (ensemble.folds, ensemble.networks) == (2, 3)
        assert ensemble.spec == COMPACT
        assert ensemble.modalities == COMPACT.modalities
        assert ensemble.embedding(Modality.LANGUAGE) == 48
