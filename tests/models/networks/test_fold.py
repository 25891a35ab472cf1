"""One fold's network: a window, chunks and frames are one computation; what is missing does not matter."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.networks.fold import EmotionNetwork
from models.spec import COMPACT, PAPER, Modality, NetworkSpec
from tests.models.small_networks import cuts, make_network, network_specs, random_embeddings, random_mask

SEEDS = st.integers(0, 10_000)


def at(embeddings: dict[Modality, Tensor], frame: int) -> dict[Modality, Tensor]:
    return {m: x[:, frame] for m, x in embeddings.items()}


def stepped(network: EmotionNetwork, embeddings: dict[Modality, Tensor], mask: Tensor | None) -> Tensor:
    first = next(iter(embeddings.values()))
    state, steps = network.initial_state(first.shape[0]), []
    with torch.no_grad():
        for t in range(first.shape[1]):
            state, y = network.step(state, at(embeddings, t), None if mask is None else mask[:, t])
            steps.append(y)
    return torch.stack(steps, dim=1)


class TestOneComputation:
    @settings(deadline=None, max_examples=30)
    @given(network_specs(), st.integers(1, 3), st.integers(1, 25), st.booleans(), SEEDS)
    def test_step_equals_forward(
        self, spec: NetworkSpec, batch: int, frames: int, masked: bool, seed: int
    ) -> None:
        network, embeddings = make_network(spec, seed), random_embeddings(spec, batch, frames, seed)
        mask = random_mask(spec, batch, frames, seed) if masked else None
        with torch.no_grad():
            window = network(embeddings, mask)
        assert window.shape == (batch, frames, len(spec.targets))
        torch.testing.assert_close(stepped(network, embeddings, mask), window, atol=1e-5, rtol=0)

    @settings(deadline=None, max_examples=30)
    @given(network_specs(), st.data(), st.integers(1, 25), SEEDS)
    def test_chunks_of_any_length_equal_forward(
        self, spec: NetworkSpec, data: st.DataObject, frames: int, seed: int
    ) -> None:
        network, embeddings = make_network(spec, seed), random_embeddings(spec, 2, frames, seed)
        mask = random_mask(spec, 2, frames, seed)
        lengths = data.draw(cuts(frames))
        state, parts, start = None, [], 0
        with torch.no_grad():
            for length in lengths:
                span = slice(start, start + length)
                chunk = {m: x[:, span] for m, x in embeddings.items()}
                state, y = network.run(chunk, state, mask[:, span])
                parts.append(y)
                start += length
            window = network(embeddings, mask)
        torch.testing.assert_close(torch.cat(parts, dim=1), window, atol=1e-5, rtol=0)

    @pytest.mark.parametrize("spec", [PAPER, COMPACT], ids=["paper", "compact"])
    def test_the_presets(self, spec: NetworkSpec) -> None:
        network, embeddings = make_network(spec, 1), random_embeddings(spec, 1, 130, 1)
        visual = embeddings[Modality.VISUAL]
        embeddings[Modality.VISUAL] = visual / visual.norm(dim=-1, keepdim=True)
        with torch.no_grad():
            window = network(embeddings)
        assert window.std() > 0.01
        torch.testing.assert_close(stepped(network, embeddings, None), window, atol=1e-5, rtol=0)


@settings(deadline=None, max_examples=30)
@given(network_specs(), st.integers(2, 20), st.data(), SEEDS)
def test_the_future_is_not_read(spec: NetworkSpec, frames: int, data: st.DataObject, seed: int) -> None:
    now = data.draw(st.integers(0, frames - 2))
    network, embeddings = make_network(spec, seed), random_embeddings(spec, 1, frames, seed)
    mask, other = random_mask(spec, 1, frames, seed), random_embeddings(spec, 1, frames, seed + 1)
    changed = {m: torch.cat([x[:, : now + 1], other[m][:, now + 1 :]], dim=1) for m, x in embeddings.items()}
    flipped = torch.cat([mask[:, : now + 1], ~mask[:, now + 1 :]], dim=1)
    with torch.no_grad():
        before, after = network(embeddings, mask), network(changed, flipped)
    torch.testing.assert_close(before[:, : now + 1], after[:, : now + 1], atol=0, rtol=0)


class TestMissing:
    @settings(deadline=None, max_examples=30)
    @given(network_specs(), st.integers(1, 12), SEEDS)
    def test_what_a_missing_modality_holds_does_not_matter(
        self, spec: NetworkSpec, frames: int, seed: int
    ) -> None:
        network, embeddings = make_network(spec, seed), random_embeddings(spec, 2, frames, seed)
        mask = random_mask(spec, 2, frames, seed)
        junk = {
            m: x.masked_fill(~mask[:, :, i : i + 1], float("nan"))
            for i, (m, x) in enumerate(embeddings.items())
        }
        with torch.no_grad():
            found = network(junk, mask)
            assert bool(found.isfinite().all())
            assert torch.equal(found, network(embeddings, mask))

    @settings(deadline=None, max_examples=20)
    @given(network_specs(), SEEDS)
    def test_with_everything_missing_the_estimates_are_finite(self, spec: NetworkSpec, seed: int) -> None:
        network, embeddings = make_network(spec, seed), random_embeddings(spec, 1, 6, seed)
        with torch.no_grad():
            found = network(embeddings, torch.zeros(1, 6, len(spec.modalities), dtype=torch.bool))
        assert bool(found.isfinite().all())

    def test_a_modality_left_out_is_one_masked_throughout(self) -> None:
        network, embeddings = make_network(COMPACT, 0), random_embeddings(COMPACT, 2, 5, 0)
        masked = torch.tensor([True, False, True]).expand(2, 5, 3)
        less = {m: x for m, x in embeddings.items() if m is not Modality.AUDIO}
        with torch.no_grad():
            assert torch.equal(network(less), network(embeddings, masked))
            assert torch.equal(network(less, torch.ones(2, 5, 3, dtype=torch.bool)), network(less))

    def test_a_missing_modality_is_not_one_of_zeros(self) -> None:
        network, embeddings = make_network(COMPACT, 0), random_embeddings(COMPACT, 1, 5, 0)
        silent = embeddings | {Modality.AUDIO: torch.zeros_like(embeddings[Modality.AUDIO])}
        less = {m: x for m, x in embeddings.items() if m is not Modality.AUDIO}
        with torch.no_grad():
            assert not torch.allclose(network(silent), network(less), atol=1e-3)

    def test_nothing_given_at_all_is_refused(self) -> None:
        with pytest.raises(ValueError, match="no embeddings given"):
            make_network(COMPACT, 0)({})

    def test_a_branch_that_is_not_there_is_refused(self) -> None:
        network = make_network(NetworkSpec(visual=None, language=None), 0)
        with pytest.raises(ValueError, match="no branch for language"):
            network({Modality.LANGUAGE: torch.zeros(1, 2, 768)})
        with pytest.raises(ValueError, match="no visual branch"):
            network.embed_visual(torch.zeros(1, 3, 40, 40))


class TestNormalisation:
    def test_it_is_one_mean_and_one_standard_deviation(self) -> None:
        network, embeddings = make_network(COMPACT, 0), random_embeddings(COMPACT, 1, 5, 0)
        network.set_normalisation(Modality.AUDIO, 0.0, 1.0)
        with torch.no_grad():
            plain = network(embeddings)
            network.set_normalisation(Modality.AUDIO, 3.0, 2.0)
            scaled = embeddings | {Modality.AUDIO: embeddings[Modality.AUDIO] * 2 + 3}
            torch.testing.assert_close(network(scaled), plain, atol=1e-5, rtol=0)
        assert network.normalisation[Modality.AUDIO] == (3.0, 2.0)
        assert network.normalisation[Modality.VISUAL] == (0.0, 1.0)

    def test_it_is_not_among_the_weights(self) -> None:
        names = EmotionNetwork(COMPACT).state_dict().keys()
        assert not [n for n in names if "mean" in n and "running" not in n]
        assert not [n for n in names if n.endswith("_std")]

    @pytest.mark.parametrize(
        ("mean", "std"), [(0.0, 0.0), (0.0, -1.0), (float("nan"), 1.0), (0.0, float("inf"))]
    )
    def test_nonsense_is_refused(self, mean: float, std: float) -> None:
        with pytest.raises(ValueError, match="audio cannot be normalised"):
            EmotionNetwork(COMPACT).set_normalisation(Modality.AUDIO, mean, std)


class TestWhole:
    def test_crops_go_through_the_backbone(self) -> None:
        network, embeddings = make_network(COMPACT, 0), random_embeddings(COMPACT, 2, 3, 0)
        crops = torch.randn(2, 3, 3, 40, 40, generator=torch.Generator().manual_seed(0))
        audio, language = embeddings[Modality.AUDIO], embeddings[Modality.LANGUAGE]
        with torch.no_grad():
            visual = network.embed_visual(crops)
            assert visual.shape == (2, 3, 64)
            torch.testing.assert_close(visual.norm(dim=-1), torch.ones(2, 3))
            whole = network.forward_crops(crops, audio, language)
            assert torch.equal(whole, network(embeddings | {Modality.VISUAL: visual}))
            assert torch.equal(network.forward_crops(None, audio), network({Modality.AUDIO: audio}))

    def test_weights_repeat_under_a_seed(self) -> None:
        first, second = (make_network(COMPACT, 4).state_dict() for _ in range(2))
        assert all(torch.equal(first[name], second[name]) for name in first)

    def test_gradients_reach_every_weight(self) -> None:
        network, embeddings = make_network(COMPACT, 0), random_embeddings(COMPACT, 2, 4, 0)
        crops = torch.randn(2, 4, 3, 40, 40, generator=torch.Generator().manual_seed(0))
        estimates = network.forward_crops(crops, embeddings[Modality.AUDIO], embeddings[Modality.LANGUAGE])
        estimates.square().sum().backward()  # type: ignore[no-untyped-call]
        still = [name for name, p in network.named_parameters() if p.grad is None]
        assert still == []

    def test_the_papers_head_takes_224_numbers_to_two(self) -> None:
        network = EmotionNetwork(PAPER)
        assert network.head.weight.shape == (2, 224)
        assert EmotionNetwork(NetworkSpec(visual=None, targets=("arousal",))).head.weight.shape == (
            1,
            128 - 32,
        )
