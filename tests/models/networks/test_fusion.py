"""Co-attention: across modalities at each time step, and only among those that are there."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from models.networks.fusion import CoAttention, StackedFusion, attend
from models.spec import PAPER, Modality
from tests.models.small_networks import randomise

WIDTHS = {Modality.VISUAL: 5, Modality.AUDIO: 3, Modality.LANGUAGE: 4}
MASKS = st.lists(st.booleans(), min_size=3, max_size=3)


def make_fusion(seed: int = 0) -> CoAttention:
    torch.manual_seed(seed)
    fusion = CoAttention(WIDTHS, Modality.VISUAL, d_k=6)
    randomise(fusion, seed)
    return fusion


def make_encodings(*lead: int, seed: int = 0) -> dict[Modality, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {m: torch.randn(*lead, w, generator=generator) for m, w in WIDTHS.items()}


class TestAttention:
    @settings(deadline=None)
    @given(MASKS, st.integers(0, 1000))
    def test_equation_1_among_the_modalities_that_are_there(self, present: list[bool], seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        query, key, value = (torch.randn(3, 6, generator=generator) for _ in range(3))
        found = attend(query, key, value, torch.tensor(present))
        for i in range(3):
            there = [j for j in range(3) if present[j]]
            exps = {j: math.exp(float(query[i] @ key[j]) / math.sqrt(6)) for j in there}
            expected = value[i].clone() if present[i] else torch.zeros(6)
            for j in there:
                expected += exps[j] / sum(exps.values()) * value[j]
            torch.testing.assert_close(found[i], expected, atol=1e-5, rtol=0)

    @settings(deadline=None)
    @given(MASKS, st.integers(0, 1000))
    def test_a_missing_key_and_value_reach_nothing(self, present: list[bool], seed: int) -> None:
        query, key, value = torch.randn(3, 3, 6, generator=torch.Generator().manual_seed(seed)).unbind()
        available = torch.tensor(present)
        gone = ~available.unsqueeze(1)
        nan = float("nan")
        junk = attend(query, key.masked_fill(gone, nan), value.masked_fill(gone, nan), available)
        assert torch.equal(junk, attend(query, key, value, available))

    def test_no_mask_is_all_present(self) -> None:
        query, key, value = torch.randn(3, 4, 3, 6).unbind()
        everything = torch.ones(4, 3, dtype=torch.bool)
        assert torch.equal(attend(query, key, value, None), attend(query, key, value, everything))


class TestFeature:
    def test_the_papers_feature_is_224_wide_with_the_visual_encoding_in_front(self) -> None:
        widths = {m: PAPER.branch(m).temporal.encoding for m in PAPER.modalities}
        fusion = CoAttention(widths, PAPER.leading, PAPER.d_k)
        encodings = {m: torch.randn(2, 7, w) for m, w in widths.items()}
        feature = fusion(encodings)
        assert fusion.width == 224
        assert feature.shape == (2, 7, 224)
        assert torch.equal(feature[..., :128], encodings[Modality.VISUAL])
        assert fusion.norm.normalized_shape == (3, 32)

    def test_every_time_step_stands_alone(self) -> None:
        fusion, encodings = make_fusion(), make_encodings(2, 9)
        alone = {m: x[:, 4] for m, x in encodings.items()}
        torch.testing.assert_close(fusion(encodings)[:, 4], fusion(alone), atol=1e-6, rtol=0)

    def test_with_everything_missing_the_answer_is_finite_and_fixed(self) -> None:
        fusion, nothing = make_fusion(), torch.zeros(3, dtype=torch.bool)
        first, second = (fusion(make_encodings(seed=s), nothing)[WIDTHS[Modality.VISUAL] :] for s in (1, 2))
        assert bool(first.isfinite().all())
        assert torch.equal(first, second)
        torch.testing.assert_close(first, fusion.norm.bias.flatten())

    def test_gradients_are_finite_with_everything_missing(self) -> None:
        fusion = make_fusion()
        fusion(make_encodings(4), torch.zeros(4, 3, dtype=torch.bool)).sum().backward()
        grads = [p.grad for p in fusion.parameters() if p.grad is not None]
        assert grads
        assert all(bool(g.isfinite().all()) for g in grads)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 4), st.integers(1, 9), st.booleans(), st.integers(0, 1000))
def test_a_stack_equals_its_fusions_and_heads(networks: int, frames: int, masked: bool, seed: int) -> None:
    fusions = [make_fusion(seed + i) for i in range(networks)]
    heads = [nn.Linear(f.width, 2) for f in fusions]
    encodings = [make_encodings(frames, seed=seed + i) for i in range(networks)]
    available = torch.rand(frames, 3) > 0.5 if masked else None
    stacked = {m: torch.stack([e[m] for e in encodings]) for m in WIDTHS}
    with torch.no_grad():
        found = StackedFusion.from_fusions(fusions, heads)(stacked, available)
        for i in range(networks):
            expected = heads[i](fusions[i](encodings[i], available))
            torch.testing.assert_close(found[i], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("leading", list(WIDTHS))
def test_any_branch_may_lead(leading: Modality) -> None:
    fusion, encodings = CoAttention(WIDTHS, leading, 6), make_encodings(2)
    assert fusion.width == WIDTHS[leading] + 18
    assert torch.equal(fusion(encodings)[:, : WIDTHS[leading]], encodings[leading])
