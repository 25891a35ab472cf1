"""The runtime: any number of frames by runners of fixed sizes, and the folds that are at work."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

from models.accelerate.runtime import BatchedPart
from models.accelerate.select import Preference, serve
from models.spec import Modality

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.accelerate.backend import Runner
    from models.bundle.load import Bundle


class TestBatchedPart:
    @pytest.mark.parametrize("sizes", [(1,), (2,), (1, 3), (4, 8), (3, 5)])
    @pytest.mark.parametrize("frames", [1, 2, 3, 7, 16])
    def test_any_number_of_frames_in_order(self, sizes: Sequence[int], frames: int) -> None:
        def runner(size: int) -> Runner:
            def run(*inputs: Tensor) -> tuple[Tensor, ...]:
                assert inputs[0].shape[0] == size
                return (torch.stack([inputs[0], -inputs[0]]),)

            return run

        x = torch.arange(frames * 2.0).view(frames, 2)
        found = BatchedPart({n: runner(n) for n in sizes}, frame_dim=1)(x)
        assert torch.equal(found, torch.stack([x, -x]))


class TestRestingFolds:
    """The view of a runtime while folds rest: what the whole one computes, cut to the folds at work."""

    def test_of_the_folds_that_there_are(self, bundle: Bundle) -> None:
        runtime = serve(bundle, preference=Preference("eager"))
        assert runtime.can_rest
        assert runtime.at(2).ensemble is bundle.ensemble
        assert runtime.at(1) is runtime.at(1)
        assert runtime.at(1).ensemble.folds == 1
        with pytest.raises(ValueError, match="3 of them"):
            runtime.at(3)

    @pytest.mark.parametrize("eager", [True, False])
    def test_embeddings_are_those_of_the_networks_at_work(
        self, eager: bool, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        runtime = serve(bundle, preference=Preference("eager"))
        monkeypatch.setattr(runtime, "is_eager", lambda part: eager)
        crops, patches = bundle.probe["crops"], bundle.probe["patches"]
        visual, audio = runtime.at(1).embed(crops, patches)
        assert visual is not None
        assert audio is not None
        torch.testing.assert_close(visual, runtime.embed_visual(crops)[:1], atol=1e-6, rtol=0)
        assert torch.equal(audio, runtime.embed_audio(patches)[None])
        assert runtime.at(1).embed(None, None) == (None, None)

    def test_encodings_of_networks_that_rest_are_zero(self, bundle: Bundle) -> None:
        runtime, ensemble = serve(bundle, preference=Preference("eager")), bundle.ensemble
        x = {Modality.AUDIO: torch.randn(1, 1, 3, ensemble.embedding(Modality.AUDIO))}
        states = {Modality.AUDIO: ensemble.initial_state(Modality.AUDIO, 1)}
        there = {Modality.AUDIO: torch.ones(1, 3, dtype=torch.bool)}
        _, whole = runtime.at(2).sense(x, states, there)
        after, found = runtime.at(1).sense(x, runtime.at(1).resize(states), there)
        torch.testing.assert_close(found[Modality.AUDIO][:1], whole[Modality.AUDIO][:1])
        assert not found[Modality.AUDIO][1:].any()
        assert after[Modality.AUDIO].networks == 1
        widened = runtime.at(2).resize(after)[Modality.AUDIO]
        assert widened.networks == 2
        fresh = ensemble.initial_state(Modality.AUDIO, 1)
        for ours, own, new in zip(widened.stacks, after[Modality.AUDIO].stacks, fresh.stacks, strict=True):
            assert ours is not None
            assert own is not None
            assert new is not None
            for past, before, begun in zip(ours.history, own.history, new.history, strict=True):
                assert torch.equal(past, torch.cat([before, begun[1:]]))
