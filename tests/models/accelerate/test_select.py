"""Serving a bundle: chosen by measurement, compared with eager on the probe, eager again where anything is wrong."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn

from models.accelerate import select as select_module
from models.accelerate import steps as steps_module
from models.accelerate.backend import EAGER, Backend, Runner, Unavailable
from models.accelerate.cache import ArtifactCache
from models.accelerate.export import TextGraph
from models.accelerate.parity import LIMITS
from models.accelerate.runtime import STEPS, PartReport, Runtime, TextPart
from models.accelerate.select import Preference, serve
from models.bundle.load import Bundle, load_bundle
from models.bundle.untrained import make_untrained_bundle
from models.errors import UserError
from models.text.loading import open_text_model
from tests.models.accelerate.serving import FakeBackends, assert_serves_as_eager, backends_of, needs_openvino

if TYPE_CHECKING:
    from pathlib import Path


class TestPreference:
    @pytest.mark.parametrize(
        "text", ["auto", "eager", "openvino", "openvino:int8", "tensorrt:float16", "cuda", "auto:float32"]
    )
    def test_it_is_read_as_it_is_written(self, text: str) -> None:
        assert str(Preference.parse(text)) == text

    @pytest.mark.parametrize("text", ["", "gpu", "openvino:", "openvino:float64", "eager:int8", "a:b:c"])
    def test_what_there_is_not_is_refused_in_one_line(self, text: str) -> None:
        if text == "openvino:":
            assert Preference.parse(text) == Preference("openvino")
            return
        with pytest.raises(UserError, match="there is no accelerator"):
            Preference.parse(text)


class TestEager:
    def test_it_is_the_bundle_itself(self, bundle: Bundle) -> None:
        runtime = serve(bundle, preference=Preference("eager"))
        assert backends_of(runtime) == {"visual": EAGER, "audio": EAGER}
        assert runtime.name == "eager"
        assert runtime.is_eager("visual")
        assert [r.ms for r in runtime.reports] == [None, None], "there was nothing to measure"
        assert_serves_as_eager(runtime, bundle, atol=1e-6)

    def test_batch_sizes_must_be_sizes(self, bundle: Bundle) -> None:
        for batches in ((), (0,), (1, -2)):
            with pytest.raises(ValueError, match="batch sizes"):
                serve(bundle, batches=batches)

    def test_a_part_that_is_not_there_is_refused(self, bundle: Bundle) -> None:
        bare = dataclasses.replace(bundle, audio_encoder=None)
        runtime = serve(bare, preference=Preference("eager"))
        with pytest.raises(ValueError, match="no audio encoder"):
            runtime.embed_audio(bundle.probe["patches"])
        with pytest.raises(ValueError, match="no text encoder"):
            runtime.encode_text(torch.zeros(1, 3, dtype=torch.long), torch.ones(1, 3, dtype=torch.long))


class TestCompiled:
    def test_it_serves_on_after_eager_weights_were_given_up(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Dynamo's own eager back-end: guards and recompilation are real, and no C++ is compiled.
        monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
        monkeypatch.setattr("models.accelerate.backends.compiled.has_cuda", lambda: False)
        own = load_bundle(folder)
        expected = own.ensemble.embed_visual(own.probe["crops"])
        runtime = serve(own, preference=Preference("compile", "float32"), keep_eager=False)
        assert not runtime.is_eager("visual")
        found = runtime.embed_visual(own.probe["crops"])
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
        runtime.embed_audio(own.probe["patches"])


@needs_openvino
class TestOpenvino:
    def test_it_serves_sight_sound_and_words(self, bundle: Bundle, cache: ArtifactCache) -> None:
        assert bundle.text_encoder_folder is not None
        model, _ = open_text_model(bundle.text_encoder_folder, "encoder")
        runtime = serve(
            bundle,
            preference=Preference("openvino", "float32"),
            text_model=model,
            cache=cache,
            batches=(1, 3),
        )
        assert runtime.notes == ()
        assert set(backends_of(runtime).values()) == {Backend("openvino")}
        assert_serves_as_eager(runtime, bundle, atol=1e-4)
        eager = TextPart({}, lambda *x: (TextGraph(model)(*x),))
        for length in (3, 16, 40, 90):
            ids = torch.randint(5, 60, (1, length))
            with torch.no_grad():
                expected = eager(ids, torch.ones_like(ids))
            found = runtime.encode_text(ids, torch.ones_like(ids))
            torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)

    def test_eager_weights_can_be_given_up(self, folder: Path) -> None:
        own = load_bundle(folder)
        expected = own.ensemble.embed_visual(own.probe["crops"])
        runtime = serve(own, preference=Preference("openvino", "float32"), keep_eager=False)
        assert not runtime.is_eager("visual")
        assert all(p.is_meta for p in own.ensemble.trunks.buffers())
        assert own.audio_encoder is not None
        assert all(p.is_meta for p in own.audio_encoder.parameters())
        found = runtime.embed_visual(own.probe["crops"])
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)

    def test_what_cannot_be_bound_serves_eagerly_and_the_line_says_so(
        self, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from models.accelerate.backends import openvino as openvino_module

        def dynamic(*given: object) -> None:
            raise RuntimeError("to_shape was called on a dynamic shape")

        monkeypatch.setattr(openvino_module, "_bind_tensor", dynamic)
        runtime = serve(bundle, preference=Preference("openvino", "float32"))
        assert runtime.name == "eager"
        assert all("dynamic shape" in note for note in runtime.notes)

    def test_without_it_eager_serves_and_the_line_says_so(
        self, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from models.accelerate.backends import openvino as openvino_module

        openvino_module._engine.cache_clear()
        monkeypatch.setattr(openvino_module, "has_package", lambda name: False)
        runtime = serve(bundle, preference=Preference("openvino", "float32"))
        openvino_module._engine.cache_clear()
        assert runtime.name == "eager"
        assert runtime.notes[0].startswith(
            "visual: openvino float32 does not serve: openvino is not installed"
        )
        assert_serves_as_eager(runtime, bundle, atol=1e-6)


class TestSteps:
    """Temporal branches, fusion and heads: by what sight goes by, held to eager like the rest."""

    def report(self, runtime: Runtime) -> PartReport:
        (found,) = (r for r in runtime.reports if r.part == STEPS)
        return found

    def test_they_follow_sight_in_float32(self, bundle: Bundle, fake: FakeBackends) -> None:
        runtime = serve(bundle, preference=Preference("openvino", "int8"))
        found = self.report(runtime)
        assert found.backend == Backend("openvino")
        assert not runtime.steps.eager
        assert found.agreement is not None
        assert found.agreement.limits == LIMITS["float32"]
        assert found.ms is not None
        assert "steps" not in runtime.name

    def test_where_sight_and_sound_are_eager_they_are(self, bundle: Bundle, fake: FakeBackends) -> None:
        fake.ms["eager"] = 1.0
        runtime = serve(bundle)
        assert runtime.steps.eager
        assert all(r.part != STEPS for r in runtime.reports)

    @pytest.mark.parametrize(
        ("error", "says"),
        [
            (Unavailable("too small"), "does not serve: too small"),
            (RuntimeError("odd"), "fails on the probe"),
        ],
    )
    def test_where_they_fail_eager_serves_and_the_line_says_so(
        self, error: Exception, says: str, bundle: Bundle, fake: FakeBackends, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fails(*inputs: Tensor) -> tuple[Tensor, ...]:
            raise error

        def builds(*given: object) -> Runner:
            return fails

        monkeypatch.setattr(steps_module, "accelerate", fails if isinstance(error, Unavailable) else builds)
        runtime = serve(bundle, preference=Preference("openvino", "float32"))
        assert runtime.steps.eager
        (note,) = runtime.notes
        assert note.startswith("steps: openvino float32 does not serve")
        assert says in note
        assert runtime.name == "openvino float32"

    @pytest.mark.parametrize("wrong", ["the first output", "a state"])
    def test_where_they_disagree_eager_serves_and_the_line_says_so(
        self, wrong: str, bundle: Bundle, fake: FakeBackends, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        place = 0 if wrong == "the first output" else -1

        def off(module: nn.Module, *given: object) -> Runner:
            def run(*inputs: Tensor) -> tuple[Tensor, ...]:
                found = list(module(*inputs))
                found[place] = found[place] + 0.1
                return tuple(found)

            return run

        monkeypatch.setattr(steps_module, "accelerate", off)
        runtime = serve(bundle, preference=Preference("openvino", "float32"))
        assert runtime.steps.eager
        (note,) = runtime.notes
        assert "disagreed with eager on the probe" in note


class TestAuto:
    """Two parts, 20 ms together at 30 frames a second."""

    def test_the_most_exact_precision_that_is_quick_enough(self, bundle: Bundle, fake: FakeBackends) -> None:
        assert set(backends_of(serve(bundle)).values()) == {Backend("openvino", "bfloat16")}
        assert "int8" not in fake.built

    def test_time_to_spare_keeps_float32(self, bundle: Bundle, fake: FakeBackends) -> None:
        assert set(backends_of(serve(bundle, frame_rate=10.0)).values()) == {Backend("openvino")}
        assert set(fake.built) == {"float32"}

    def test_no_time_takes_the_fastest_that_agreed(self, bundle: Bundle, fake: FakeBackends) -> None:
        assert set(backends_of(serve(bundle, frame_rate=500.0)).values()) == {Backend("openvino", "int8")}
        fake.errors["int8"] = 3.0
        runtime = serve(bundle, frame_rate=500.0)
        assert set(backends_of(runtime).values()) == {Backend("openvino", "bfloat16")}
        assert any("int8 does not serve, it disagreed with eager on the probe" in n for n in runtime.notes)

    def test_a_fast_path_that_is_slower_than_eager_does_not_serve(
        self, bundle: Bundle, fake: FakeBackends
    ) -> None:
        fake.ms["eager"] = 1.0
        assert serve(bundle).name == "eager"

    @pytest.mark.parametrize("error", [3.0, float("nan"), float("inf")])
    def test_eager_serves_where_nothing_agrees(
        self, error: float, bundle: Bundle, fake: FakeBackends
    ) -> None:
        fake.errors = dict.fromkeys(fake.errors, error)
        runtime = serve(bundle)
        assert runtime.name == "eager"
        assert len(runtime.notes) == 6
        assert_serves_as_eager(runtime, bundle, atol=1e-6)

    def test_the_choice_is_kept_and_checked_again(
        self, bundle: Bundle, fake: FakeBackends, cache: ArtifactCache
    ) -> None:
        first = backends_of(serve(bundle, cache=cache))
        fake.built.clear()
        fake.ms = dict.fromkeys(fake.ms, 1.0) | {"eager": 40.0}
        assert backends_of(serve(bundle, cache=cache)) == first
        assert set(fake.built) == {"bfloat16"}
        fake.errors["bfloat16"] = 3.0
        assert set(backends_of(serve(bundle, cache=cache)).values()) == {Backend("openvino")}

    def test_a_kept_choice_serves_however_quick_it_is_today(
        self, bundle: Bundle, fake: FakeBackends, cache: ArtifactCache
    ) -> None:
        first = backends_of(serve(bundle, cache=cache))
        fake.ms["eager"] = 0.1
        assert backends_of(serve(bundle, cache=cache)) == first, "a replay repeats"
        fake.ms["eager"] = 40.0
        again = ArtifactCache(cache.folder.parent / "another")
        fake.ms["bfloat16"] = 50.0
        fake.ms["int8"] = 60.0
        slow = backends_of(serve(bundle, cache=again, frame_rate=500.0))
        assert set(slow.values()) == {Backend("openvino")}
        fake.ms["int8"] = 1.0
        assert backends_of(serve(bundle, cache=again, frame_rate=500.0)) == slow

    def test_eager_that_was_chosen_stays_too(
        self, bundle: Bundle, fake: FakeBackends, cache: ArtifactCache
    ) -> None:
        fake.ms["eager"] = 1.0
        assert serve(bundle, cache=cache).name == "eager"
        fake.ms["eager"] = 400.0
        fake.built.clear()
        assert serve(bundle, cache=cache).name == "eager"
        assert fake.built == []

    def test_a_choice_made_on_a_busy_machine_is_made_again_on_a_calm_one_unless_repeats_are_wanted(
        self, bundle: Bundle, fake: FakeBackends, cache: ArtifactCache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(select_module, "is_calm", lambda: False)
        fake.ms["eager"] = 1.0
        said: list[str] = []
        assert serve(bundle, cache=cache, progress=said.append).name == "eager"
        assert said == [
            "measured while this machine was busy with other work: name an accelerator to be sure"
        ]
        fake.ms["eager"] = 40.0
        assert serve(bundle, cache=cache).name == "eager", "still busy: it knows no better"
        monkeypatch.setattr(select_module, "is_calm", lambda: True)
        assert serve(bundle, cache=cache, repeatable=True).name == "eager"
        assert set(backends_of(serve(bundle, cache=cache)).values()) == {Backend("openvino", "bfloat16")}
        monkeypatch.setattr(select_module, "is_calm", lambda: False)
        fake.ms["eager"] = 1.0
        assert set(backends_of(serve(bundle, cache=cache)).values()) == {Backend("openvino", "bfloat16")}

    def test_a_start_without_words_leaves_the_choice_with_words_alone(
        self, bundle: Bundle, fake: FakeBackends, cache: ArtifactCache
    ) -> None:
        assert bundle.text_encoder_folder is not None
        model, _ = open_text_model(bundle.text_encoder_folder, "encoder")
        fake.ms["eager"] = 20.0
        first = backends_of(serve(bundle, cache=cache, text_model=model))
        fake.ms["eager"] = 1.0
        assert backends_of(serve(bundle, cache=cache)) == {"visual": EAGER, "audio": EAGER}
        assert backends_of(serve(bundle, cache=cache, text_model=model)) == first

    @pytest.mark.parametrize("cuda", [False, True])
    def test_nothing_is_compiled_where_eager_is_quick_enough(
        self, cuda: bool, bundle: Bundle, fake: FakeBackends, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(select_module, "has_package", lambda name: False)
        monkeypatch.setattr(select_module, "has_cuda", lambda: cuda)
        fake.ms["eager"] = 5.0
        assert serve(bundle).name == "eager"
        assert fake.built == []
        fake.ms["eager"] = 40.0
        assert serve(bundle).name.startswith("cuda" if cuda else "compile")

    @pytest.mark.parametrize("other", ["threads", "batches", "frame_rate", "device", "bundle"])
    def test_another_machine_or_question_chooses_anew(
        self,
        other: str,
        bundle: Bundle,
        fake: FakeBackends,
        cache: ArtifactCache,
        monkeypatch: pytest.MonkeyPatch,
        folder: Path,
    ) -> None:
        serve(bundle, cache=cache)
        fake.built.clear()
        if other == "device":
            monkeypatch.setattr(select_module, "device_name", lambda: "another")
            serve(bundle, cache=cache)
        elif other == "bundle":
            make_untrained_bundle(folder.parent / "three", folds=3)
            serve(load_bundle(folder.parent / "three"), cache=cache)
        else:
            values = {"threads": 2, "batches": (2,), "frame_rate": 31.0}
            serve(bundle, cache=cache, **{other: values[other]})  # type: ignore[arg-type]
        assert "float32" in fake.built

    @pytest.mark.parametrize(
        "odd",
        [
            None,
            [],
            {"visual": ["eager", "float32"]},
            {"routes": {"visual": 3}, "calm": True},
            {"routes": {"visual": ["eager", "float32"]}, "calm": True},
            {"routes": {"visual": ["x", "y"], "audio": ["eager", "float32"]}, "calm": True},
        ],
    )
    def test_a_kept_choice_that_makes_no_sense_is_passed_over(
        self,
        odd: object,
        bundle: Bundle,
        fake: FakeBackends,
        cache: ArtifactCache,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(cache, "find_json", lambda facts: odd)
        assert set(backends_of(serve(bundle, cache=cache)).values()) == {Backend("openvino", "bfloat16")}
