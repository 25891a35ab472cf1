"""The causal TCN: one computation, as a window, in chunks, frame by frame, and stacked."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.networks.tcn import StackedTemporal, TemporalBranch, TemporalState
from models.spec import PAPER, TemporalSpec
from tests.models.small_networks import cuts, temporal_specs

SEEDS = st.integers(0, 10_000)


def make_branch(spec: TemporalSpec, in_width: int, seed: int) -> TemporalBranch:
    torch.manual_seed(seed)
    return TemporalBranch(spec, in_width).eval()


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def assert_same(found: Tensor, expected: Tensor) -> None:
    """Within 1e-5 of the encodings' own scale: float32 keeps no more of encodings that reach 50."""
    scale = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(found / scale, expected / scale, atol=1e-5, rtol=0)


@torch.no_grad()
def run_in_chunks(branch: TemporalBranch, x: Tensor, lengths: list[int]) -> Tensor:
    state: TemporalState | None = None
    parts = []
    for chunk in x.split(lengths, dim=1):  # type: ignore[no-untyped-call]
        state, y = branch.run(chunk, state)
        parts.append(y)
    return torch.cat(parts, dim=1)


class TestOneComputation:
    @settings(deadline=None, max_examples=40)
    @given(temporal_specs(), st.integers(1, 5), st.integers(1, 3), st.integers(1, 40), SEEDS)
    def test_step_equals_forward(
        self, spec: TemporalSpec, in_width: int, batch: int, frames: int, seed: int
    ) -> None:
        branch, x = make_branch(spec, in_width, seed), noise(batch, frames, in_width, seed=seed)
        state = branch.initial_state(batch)
        steps = []
        with torch.no_grad():
            for t in range(frames):
                state, y = branch.step(state, x[:, t])
                steps.append(y)
            assert_same(torch.stack(steps, dim=1), branch(x))

    @settings(deadline=None, max_examples=40)
    @given(temporal_specs(), st.data(), st.integers(1, 40), SEEDS)
    def test_chunks_of_any_length_equal_forward(
        self, spec: TemporalSpec, data: st.DataObject, frames: int, seed: int
    ) -> None:
        branch, x = make_branch(spec, 3, seed), noise(2, frames, 3, seed=seed)
        with torch.no_grad():
            window = branch(x)
        chunks = run_in_chunks(branch, x, data.draw(cuts(frames)))
        assert_same(chunks, window)

    @settings(deadline=None, max_examples=40)
    @given(temporal_specs(), st.integers(1, 3), st.data(), SEEDS)
    def test_a_stack_equals_its_branches(
        self, spec: TemporalSpec, networks: int, data: st.DataObject, seed: int
    ) -> None:
        frames = data.draw(st.integers(1, 30))
        branches = [make_branch(spec, 3, seed + i) for i in range(networks)]
        stack, x = StackedTemporal.from_branches(branches), noise(networks, 2, frames, 3, seed=seed)
        state, parts = stack.initial_state(2), []
        with torch.no_grad():
            for chunk in x.split(data.draw(cuts(frames)), dim=2):  # type: ignore[no-untyped-call]
                state, y = stack.run(chunk, state)
                parts.append(y)
            window = torch.stack([b(x[i]) for i, b in enumerate(branches)])
        assert_same(torch.cat(parts, dim=2), window)

    @pytest.mark.parametrize("modality", PAPER.modalities)
    def test_the_papers_branches(self, modality: str) -> None:
        part = PAPER.branch(next(m for m in PAPER.modalities if m == modality))
        branch, x = make_branch(part.temporal, part.embedding, 1), noise(1, 140, part.embedding)
        with torch.no_grad():
            window = branch(x)
        assert window.std() > 0.1
        assert_same(run_in_chunks(branch, x, [1] * 140), window)


class TestCausality:
    @settings(deadline=None, max_examples=40)
    @given(temporal_specs(), st.integers(2, 30), st.data(), SEEDS)
    def test_the_future_is_not_read(
        self, spec: TemporalSpec, frames: int, data: st.DataObject, seed: int
    ) -> None:
        now = data.draw(st.integers(0, frames - 2))
        branch, x = make_branch(spec, 3, seed), noise(1, frames, 3, seed=seed)
        other = x.clone()
        other[:, now + 1 :] = 100.0
        with torch.no_grad():
            assert torch.equal(branch(x)[:, : now + 1], branch(other)[:, : now + 1])

    def test_the_papers_receptive_field_is_121_frames(self) -> None:
        spec = PAPER.branch(PAPER.leading).temporal
        branch = make_branch(spec, 8, 0)
        x = noise(1, 200, 8).requires_grad_()
        branch(x)[0, 180].abs().sum().backward()
        assert x.grad is not None
        seen = x.grad.abs().sum(dim=2)[0].nonzero().flatten().tolist()
        assert seen[0] == 180 - 120
        assert seen[-1] == 180
        assert spec.receptive_field == 121


class TestState:
    def test_a_snapshot_stays_valid(self) -> None:
        branch = make_branch(TemporalSpec(widths=(4, 5)), 3, 0)
        with torch.no_grad():
            snapshot, _ = branch.run(noise(1, 20, 3))
            before = [h.clone() for h in snapshot.history]
            first = branch.run(noise(1, 7, 3, seed=1), snapshot)[1]
            branch.step(snapshot, noise(1, 3, seed=2))
            again = branch.run(noise(1, 7, 3, seed=1), snapshot)[1]
        assert torch.equal(first, again)
        assert all(torch.equal(a, b) for a, b in zip(before, snapshot.history, strict=True))

    def test_the_state_does_not_keep_a_long_window_alive(self) -> None:
        branch = make_branch(TemporalSpec(widths=(4, 5)), 3, 0)
        stack = StackedTemporal.from_branches([branch])
        for state in (branch.run(noise(1, 5000, 3))[0], stack.run(noise(1, 1, 5000, 3))[0]):
            assert sum(h.untyped_storage().nbytes() for h in state.history) < 10_000

    def test_an_empty_chunk_changes_nothing(self) -> None:
        branch = make_branch(TemporalSpec(widths=(4, 5)), 3, 0)
        state, _ = branch.run(noise(2, 6, 3))
        after, y = branch.run(torch.zeros(2, 0, 3), state)
        assert after is state
        assert y.shape == (2, 0, 5)

    def test_zeros_before_the_beginning_are_not_frames_of_zeros(self) -> None:
        """Every convolution's own input is padded, not only the first one's."""
        branch = make_branch(TemporalSpec(widths=(4, 5)), 3, 0)
        with torch.no_grad():
            padded = branch(torch.cat([torch.zeros(1, 200, 3), noise(1, 5, 3)], dim=1))[:, 200:]
            assert not torch.allclose(padded, branch(noise(1, 5, 3)), atol=1e-3)


class TestWeights:
    def test_convolutions_start_xavier_uniform_with_gain_sqrt_2(self) -> None:
        torch.manual_seed(0)
        branch = TemporalBranch(TemporalSpec(widths=(64, 64)), 32)
        for conv in branch.convolutions():
            weight = conv.conv.weight.detach()
            bound = math.sqrt(2) * math.sqrt(6 / (weight[0].numel() + weight.shape[0] * weight.shape[2]))
            assert weight.abs().max() <= bound + 1e-6
            assert weight.std() == pytest.approx(bound / math.sqrt(3), rel=0.05)

    def test_the_residual_path_has_weights_only_where_the_width_changes(self) -> None:
        names = TemporalBranch(TemporalSpec(widths=(4, 4, 5)), 3).state_dict().keys()
        assert {n for n in names if "residual" in n} == {
            f"levels.{level}.residual.{part}" for level in (0, 2) for part in ("weight", "bias")
        }

    def test_weights_repeat_under_a_seed(self) -> None:
        spec = TemporalSpec(widths=(4, 5))
        first, second = make_branch(spec, 3, 7).state_dict(), make_branch(spec, 3, 7).state_dict()
        assert all(torch.equal(first[name], second[name]) for name in first)

    def test_dropout_acts_in_training_only(self) -> None:
        branch, x = make_branch(TemporalSpec(widths=(16,), dropout=0.5), 3, 0), noise(1, 10, 3)
        assert torch.equal(branch(x), branch(x))
        branch.train()
        assert not torch.equal(branch(x), branch(x))

    def test_gradients_reach_every_weight(self) -> None:
        branch = make_branch(TemporalSpec(widths=(4, 5)), 3, 0)
        branch(noise(1, 10, 3)).square().sum().backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in branch.parameters())


def test_a_wrong_width_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected embeddings \(B, T, 3\), got \(1, 2, 4\)"):
        TemporalBranch(TemporalSpec(widths=(4,)), 3)(torch.zeros(1, 2, 4))


def test_only_one_shape_is_stacked() -> None:
    spec = TemporalSpec(widths=(4,))
    with pytest.raises(ValueError, match="one specification"):
        StackedTemporal.from_branches([TemporalBranch(spec, 3), TemporalBranch(spec, 2)])
