"""A part on a back-end: measured at the size that it will serve, text compared at every length."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

from models.accelerate.backend import BuildContext, Precision, Runner
from models.accelerate.candidates import CandidateBuilder, measure
from models.accelerate.parity import LIMITS, make_reference
from models.accelerate.parts import ModelPart, eager_runner, parts_of
from models.text.loading import open_text_model

if TYPE_CHECKING:
    from models.bundle.load import Bundle


class TestMeasure:
    @pytest.mark.parametrize(("batches", "judged_by"), [((1, 3), 1), ((1, 4, 16), 1), ((3,), 3)])
    def test_a_live_source_is_judged_by_the_single_frame_and_a_recording_by_its_batch(
        self, batches: tuple[int, ...], judged_by: int, bundle: Bundle
    ) -> None:
        sight = parts_of(bundle, batches, None)[0]
        sizes: list[int] = []

        def runner(*inputs: Tensor) -> tuple[Tensor, ...]:
            (frames,) = inputs
            sizes.append(len(frames))
            time.sleep(0.004)
            return (frames,)

        ms = measure(sight, dict.fromkeys(batches, runner))
        assert set(sizes) == {judged_by}
        assert ms >= 4 / judged_by
        sizes.clear()
        measure(sight, {0: runner})
        assert set(sizes) == {judged_by}, "and so is eager, which takes any number"


class TestTextParity:
    """Words are held to eager as they are served: padded to a runner's length, the rest masked."""

    @pytest.fixture
    def words(self, bundle: Bundle) -> ModelPart:
        assert bundle.text_encoder_folder is not None
        model, _ = open_text_model(bundle.text_encoder_folder, "encoder")
        return parts_of(bundle, (1,), model)[-1]

    def agrees(self, words: ModelPart, bundle: Bundle, runner: Runner, precision: Precision) -> bool:
        builder = CandidateBuilder(bundle, make_reference(bundle), BuildContext())
        return builder.agreement(words, dict.fromkeys(words.sizes, runner), precision).holds

    def test_a_shorter_utterance_is_tried_at_every_length(self, words: ModelPart) -> None:
        assert words.sizes == (16, 64)
        assert words.text_lengths() == [8, 16, 40, 64]
        assert dataclasses.replace(words, sizes=(1,)).text_lengths() == [1, 1]

    @pytest.mark.parametrize("precision", LIMITS)
    def test_a_runner_that_heeds_the_mask_passes(
        self, precision: Precision, words: ModelPart, bundle: Bundle
    ) -> None:
        assert self.agrees(words, bundle, eager_runner(words), precision)

    @pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
    def test_one_that_ignores_it_does_not(
        self, precision: Precision, words: ModelPart, bundle: Bundle
    ) -> None:
        eager = eager_runner(words)
        assert not self.agrees(
            words, bundle, lambda *given: eager(given[0], torch.ones_like(given[1])), precision
        )

    @pytest.mark.parametrize("precision", LIMITS)
    def test_one_that_spoils_everything_where_something_is_masked_does_not(
        self, precision: Precision, words: ModelPart, bundle: Bundle
    ) -> None:
        eager = eager_runner(words)

        def spoilt(*inputs: Tensor) -> tuple[Tensor, ...]:
            ids, mask = inputs
            return (eager(ids, mask)[0] + (float("nan") if not mask.all() else 0.0),)

        assert not self.agrees(words, bundle, spoilt, precision)
