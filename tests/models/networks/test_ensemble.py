"""The ensemble: equal to its folds one by one, whatever they are, and one computation however it is run."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.errors import UserError
from models.networks.ensemble import Ensemble, EnsembleState
from models.networks.fold import EmotionNetwork
from models.networks.stacking import Fold, trunk_hash
from models.spec import (
    COMPACT,
    PAPER,
    TARGETS,
    AudioSpec,
    LanguageSpec,
    Modality,
    NetworkSpec,
    TemporalSpec,
    VggishSpec,
)
from tests.models.small_networks import (
    NORMED,
    cuts,
    make_network,
    network_specs,
    random_embeddings,
    random_mask,
    share_trunk,
    temporal_specs,
)

SEEDS = st.integers(0, 10_000)


class Folds(list[Fold]):
    """Folds that a failing example shows by their specifications, not by their modules."""

    def __repr__(self) -> str:
        return repr([[n.spec for n in networks_of(fold)] for fold in self])


def networks_of(fold: Fold) -> list[EmotionNetwork]:
    return [fold] if isinstance(fold, EmotionNetwork) else list(fold)


def inputs(ensemble: Ensemble, batch: int, frames: int, seed: int) -> tuple[dict[str, Tensor], Tensor]:
    """What `forward` takes, and a mask with about a third missing."""
    found = random_embeddings(ensemble.spec, batch, frames, seed)
    given = {m.value: x for m, x in found.items() if m is not Modality.VISUAL}
    if ensemble.spec.visual is not None:
        size = ensemble.spec.visual.backbone.input_size
        generator = torch.Generator().manual_seed(seed)
        given["crops"] = torch.randn(batch, frames, 3, size, size, generator=generator)
    return given, random_mask(ensemble.spec, batch, frames, seed)


@torch.no_grad()
def one_by_one(
    folds: list[Fold], ensemble: Ensemble, given: dict[str, Tensor], mask: Tensor | None
) -> Tensor:
    """Every fold's networks run on their own, their outputs put in the order of `TARGETS`: (F, B, T, K)."""
    estimates = []
    for fold in folds:
        by_target: dict[str, Tensor] = {}
        for network in networks_of(fold):
            columns = [ensemble.modalities.index(m) for m in network.spec.modalities]
            own = {"crops" if m is Modality.VISUAL else m.value for m in network.spec.modalities}
            found = network.forward_crops(
                **{name: x for name, x in given.items() if name in own},
                available=None if mask is None else mask[..., columns],
            )
            by_target |= dict(zip(network.spec.targets, found.unbind(-1), strict=True))
        estimates.append(torch.stack([by_target[t] for t in ensemble.targets], dim=-1))
    return torch.stack(estimates)


def embedded(ensemble: Ensemble, given: dict[str, Tensor]) -> dict[Modality, Tensor]:
    """The embeddings (S or 1, B, T, E) of `forward`'s inputs."""
    found = {Modality(name): x.unsqueeze(0) for name, x in given.items() if name != "crops"}
    if "crops" in given:
        batch, frames = given["crops"].shape[:2]
        visual = ensemble.embed_visual(given["crops"].flatten(0, 1))
        found[Modality.VISUAL] = visual.unflatten(1, (batch, frames))
    return found


@st.composite
def fold_sets(draw: st.DrawFn) -> list[Fold]:
    """1 to 4 folds of one specification: joint ones or pairs, with a common trunk, two trunks or one each."""
    spec, seed = draw(network_specs()), draw(SEEDS)
    pairs = len(spec.targets) == 2 and draw(st.booleans())
    parts = [(t,) for t in spec.targets] if pairs else [spec.targets]
    folds = [
        [make_network(spec.model_copy(update={"targets": p}), seed + 10 * f + i) for i, p in enumerate(parts)]
        for f in range(draw(st.integers(1, 4)))
    ]
    networks = [n for fold in folds for n in fold]
    if spec.visual is not None:
        common = draw(st.integers(1, len(networks)))
        share_trunk(networks[:common])
    return Folds(fold if pairs else fold[0] for fold in folds)


@st.composite
def mixed_fold_sets(draw: st.DrawFn) -> list[Fold]:
    """2 to 4 folds of different shapes: widths, branches, targets per network; embeddings and crops agree."""
    first = draw(network_specs(visual=True))
    seed, audio, language = draw(SEEDS), draw(st.integers(1, 5)), draw(st.integers(1, 5))
    encoder = VggishSpec(widths=(1, 1, 1, 1, 1, 1), hidden=(1, 1), embedding=audio)

    def spec(targets: tuple[str, ...]) -> NetworkSpec:
        seen, heard, read = draw(st.tuples(st.booleans(), st.booleans(), st.booleans()).filter(any))
        other = draw(network_specs(visual=True)).visual
        assert other is not None
        assert first.visual is not None
        size = first.visual.backbone.input_size
        backbone = other.backbone.model_copy(update={"input_size": size})
        return NetworkSpec(
            visual=other.model_copy(update={"backbone": backbone}) if seen else None,
            audio=AudioSpec(encoder=encoder, temporal=draw(temporal_specs())) if heard else None,
            language=LanguageSpec(embedding=language, temporal=draw(temporal_specs())) if read else None,
            d_k=draw(NORMED),
            targets=targets,  # type: ignore[arg-type]
        )

    folds = Folds()
    for f in range(draw(st.integers(2, 4))):
        parts = draw(st.sampled_from([[TARGETS], [("arousal", "valence")], [("valence",), ("arousal",)]]))
        folds.append([make_network(spec(p), seed + 10 * f + i) for i, p in enumerate(parts)])
    return folds


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
        few = torch.cat([ensemble.embed_visual(c) for c in crops.split(1)], dim=1)
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


class TestTrunks:
    def make(self, count: int = 3) -> list[EmotionNetwork]:
        networks = [make_network(COMPACT, f) for f in range(count)]
        share_trunk(networks)
        return networks

    def test_identical_trunks_are_one(self) -> None:
        ensemble = Ensemble.from_folds(self.make())
        assert len(ensemble.trunks) == 1
        assert len(ensemble.trunk_features(torch.zeros(1, 3, 40, 40))) == 1

    @pytest.mark.parametrize(
        "name", ["input_layer.0.weight", "body.1.res_layer.4.running_mean", "body.2.res_layer.0.running_var"]
    )
    def test_one_value_makes_another_trunk(self, name: str) -> None:
        networks = self.make()
        backbone = networks[1].backbone
        assert backbone is not None
        assert backbone.group_of(name) == "trunk"
        backbone.state_dict()[name].view(-1)[0] += 1e-3
        assert len(Ensemble.from_folds(networks).trunks) == 2

    def test_what_a_fold_fine_tunes_makes_none(self) -> None:
        networks = self.make()
        for n in networks[1:]:
            assert n.backbone is not None
            n.backbone.groups()["output"][0][3].weight.data += 1.0
        assert len(Ensemble.from_folds(networks).trunks) == 1

    def test_counters_of_seen_batches_make_none(self) -> None:
        networks = self.make()
        assert networks[1].backbone is not None
        networks[1].backbone.state_dict()["input_layer.1.num_batches_tracked"] += 5
        assert len(Ensemble.from_folds(networks).trunks) == 1

    def test_the_hash_is_of_the_content(self) -> None:
        networks = self.make(2)
        first, second = (n.backbone for n in networks)
        assert first is not None
        assert second is not None
        assert trunk_hash(first) == trunk_hash(second) == trunk_hash(copy.deepcopy(first))
        other = make_network(COMPACT, 9).backbone
        assert other is not None
        assert trunk_hash(first) != trunk_hash(other)

    def test_the_trunk_and_the_tails_are_the_whole(self) -> None:
        ensemble = Ensemble.from_folds(self.make())
        crops = torch.randn(2, 3, 40, 40, generator=torch.Generator().manual_seed(0))
        features = ensemble.trunk_features(crops)
        assert torch.equal(ensemble.tail_embed(features), ensemble.embed_visual(crops))
        assert ensemble.tail_embed(features).shape == (3, 2, 64)


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


class TestRefused:
    def refuse(self, folds: list[Fold], match: str) -> None:
        with pytest.raises(UserError, match=match):
            Ensemble.from_folds(folds)

    def test_no_folds(self) -> None:
        self.refuse([], "at least one fold")
        self.refuse([[]], "at least one network")

    def test_targets_that_do_not_agree(self) -> None:
        joint, valence = (
            make_network(COMPACT, 0),
            make_network(COMPACT.model_copy(update={"targets": ("valence",)}), 1),
        )
        self.refuse([joint, valence], "fold 1 estimates valence, fold 0 arousal, valence")
        self.refuse([[joint, valence]], "fold 0 estimates a target twice")

    def test_embeddings_of_different_widths(self) -> None:
        other = NetworkSpec(visual=None, audio=None, language=LanguageSpec(embedding=7))
        self.refuse(
            [make_network(COMPACT, 0), make_network(other, 1)],
            "network 1 takes language embeddings of width 7",
        )

    def test_crops_of_different_sizes(self) -> None:
        assert COMPACT.visual is not None
        backbone = COMPACT.visual.backbone.model_copy(update={"input_size": 48})
        other = COMPACT.model_copy(
            update={"visual": COMPACT.visual.model_copy(update={"backbone": backbone})}
        )
        self.refuse([make_network(COMPACT, 0), make_network(other, 1)], "network 1 takes crops of 48 pixels")

    def test_inputs_of_the_wrong_shape(self) -> None:
        ensemble = Ensemble.from_folds([make_network(COMPACT, 0)])
        with pytest.raises(ValueError, match=r"expected crops \(N, 3, 40, 40\)"):
            ensemble.embed_visual(torch.zeros(1, 3, 48, 48))
        with pytest.raises(ValueError, match=r"expected audio embeddings \(1 or 1, B, T, 32\)"):
            ensemble.run_branch(Modality.AUDIO, torch.zeros(1, 1, 1, 33))
        only_words = NetworkSpec(
            visual=None, audio=None, language=LanguageSpec(embedding=4, temporal=TemporalSpec(widths=(3,)))
        )
        with pytest.raises(ValueError, match="no visual branch"):
            Ensemble.from_folds([make_network(only_words, 0)]).embed_visual(torch.zeros(1, 3, 40, 40))
