"""Serving a bundle: chosen by measurement, held to eager on the probe, eager again where anything is wrong.

TensorRT cannot be installed on every machine: a stand-in with the documented interface takes its place here.
"""

from __future__ import annotations

import dataclasses
import io
import sys
import time
import types
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from models.accelerate import candidates as candidate_room
from models.accelerate import hardware as machine_room
from models.accelerate import select as choice_room
from models.accelerate import steps as steps_room
from models.accelerate.backend import EAGER, Backend, BuildContext, Precision, Runner, Unavailable
from models.accelerate.backends import tensorrt as tensorrt_room
from models.accelerate.backends.eager import run_eager
from models.accelerate.backends.tensorrt import ENGINE
from models.accelerate.cache import ArtifactCache
from models.accelerate.parity import LIMITS, compare, make_reference
from models.accelerate.runtime import STEPS, BatchedPart, PartReport, Runtime, TextPart
from models.accelerate.select import Preference, serve
from models.bundle.load import Bundle, load_bundle
from models.bundle.untrained import make_untrained_bundle
from models.errors import UserError
from models.spec import Modality
from models.text.tokenizer import open_text_model

needs_openvino = pytest.mark.skipif(
    not machine_room.has_package("openvino"), reason="openvino is not installed"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "two"
    make_untrained_bundle(folder, folds=2)
    return folder


@pytest.fixture(scope="module")
def bundle(folder: Path) -> Bundle:
    return load_bundle(folder)


@pytest.fixture
def cache(tmp_path: Path) -> ArtifactCache:
    return ArtifactCache(tmp_path / "cache")


def routes_of(runtime: Runtime) -> dict[str, Backend]:
    """Of the parts that are chosen; steps follow sight."""
    return {r.part: r.backend for r in runtime.reports if r.part != STEPS}


def assert_serves_as_eager(runtime: Runtime, bundle: Bundle, *, atol: float) -> None:
    crops, patches = bundle.probe["crops"], bundle.probe["patches"]
    assert bundle.audio_encoder is not None
    with torch.no_grad():
        sound = bundle.audio_encoder(patches)
    for n in range(1, len(crops) + 1):
        found = runtime.embed_visual(crops[:n])
        torch.testing.assert_close(found, bundle.ensemble.embed_visual(crops[:n]), atol=atol, rtol=0)
        found = runtime.embed_audio(patches[:n])
        torch.testing.assert_close(found, sound[:n], atol=atol * float(sound.abs().max()), rtol=0)
    begun = runtime.start_audio(patches[:1])
    beside = runtime.embed_visual(crops[:1])
    torch.testing.assert_close(beside, bundle.ensemble.embed_visual(crops[:1]), atol=atol, rtol=0)
    torch.testing.assert_close(begun(), sound[:1], atol=atol * float(sound.abs().max()), rtol=0)


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
        assert routes_of(runtime) == {"visual": EAGER, "audio": EAGER}
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
        assert set(routes_of(runtime).values()) == {Backend("openvino")}
        assert_serves_as_eager(runtime, bundle, atol=1e-4)
        eager = TextPart({}, lambda *x: (candidate_room.TextGraph(model)(*x),))
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
        from models.accelerate.backends import openvino as openvino_room

        def dynamic(*given: object) -> None:
            raise RuntimeError("to_shape was called on a dynamic shape")

        monkeypatch.setattr(openvino_room, "_bind", dynamic)
        runtime = serve(bundle, preference=Preference("openvino", "float32"))
        assert runtime.name == "eager"
        assert all("dynamic shape" in note for note in runtime.notes)

    def test_without_it_eager_serves_and_the_line_says_so(
        self, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from models.accelerate.backends import openvino as openvino_room

        openvino_room._engine.cache_clear()
        monkeypatch.setattr(openvino_room, "has_package", lambda name: False)
        runtime = serve(bundle, preference=Preference("openvino", "float32"))
        openvino_room._engine.cache_clear()
        assert runtime.name == "eager"
        assert runtime.notes[0].startswith(
            "visual: openvino float32 does not serve: openvino is not installed"
        )
        assert_serves_as_eager(runtime, bundle, atol=1e-6)


class Fake:
    """Routes made of eager with a given error and cost, to see what `auto` makes of them."""

    def __init__(self, errors: dict[str, float], ms: dict[str, float]) -> None:
        self.errors, self.ms = errors, ms
        self.built: list[str] = []

    def accelerate(
        self, module: nn.Module, example: tuple[Tensor, ...], backend: Backend, context: object = None
    ) -> Runner:
        if backend == EAGER:
            return lambda *x: (module(*x).detach(),)
        self.built.append(backend.precision)
        if backend.precision not in self.errors:
            raise Unavailable("not here")
        error = self.errors[backend.precision]

        def run(*inputs: Tensor) -> tuple[Tensor, ...]:
            y = module(*inputs).detach()
            return (y + error * torch.linspace(-1, 1, y.shape[-1]),)

        run.precision = backend.precision  # type: ignore[attr-defined]
        return run

    def measure(self, part: object, runners: dict[int, Runner]) -> float:
        runner = next(iter(runners.values()))
        return self.ms[getattr(runner, "precision", "eager")]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    fake = Fake(
        errors={"float32": 0.0, "bfloat16": 1e-4, "int8": 1e-3},
        ms={"eager": 40.0, "float32": 20.0, "bfloat16": 8.0, "int8": 4.0},
    )
    monkeypatch.setattr(candidate_room, "accelerate", fake.accelerate)
    monkeypatch.setattr(candidate_room, "measure", fake.measure)
    monkeypatch.setattr(steps_room, "accelerate", lambda module, *given: run_eager(module))
    monkeypatch.setattr(choice_room, "is_calm", lambda: True)
    monkeypatch.setattr(choice_room, "has_cuda", lambda: False)
    monkeypatch.setattr(choice_room, "has_package", lambda name: name == "openvino")
    monkeypatch.setattr(choice_room, "_is_native", lambda backend, precision: True)
    return fake


class TestSteps:
    """Temporal branches, fusion and heads: by what sight goes by, held to eager like the rest."""

    def report(self, runtime: Runtime) -> PartReport:
        (found,) = (r for r in runtime.reports if r.part == STEPS)
        return found

    def test_they_follow_sight_in_float32(self, bundle: Bundle, fake: Fake) -> None:
        runtime = serve(bundle, preference=Preference("openvino", "int8"))
        found = self.report(runtime)
        assert found.backend == Backend("openvino")
        assert not runtime.steps.eager
        assert found.agreement is not None
        assert found.agreement.limits == LIMITS["float32"]
        assert found.ms is not None
        assert "steps" not in runtime.name

    def test_where_sight_and_sound_are_eager_they_are(self, bundle: Bundle, fake: Fake) -> None:
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
        self, error: Exception, says: str, bundle: Bundle, fake: Fake, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fails(*given: object) -> Runner:
            raise error

        def builds(*given: object) -> Runner:
            return fails

        monkeypatch.setattr(steps_room, "accelerate", fails if isinstance(error, Unavailable) else builds)
        runtime = serve(bundle, preference=Preference("openvino", "float32"))
        assert runtime.steps.eager
        (note,) = runtime.notes
        assert note.startswith("steps: openvino float32 does not serve")
        assert says in note
        assert runtime.name == "openvino float32"

    @pytest.mark.parametrize("wrong", ["the first output", "a state"])
    def test_where_they_disagree_eager_serves_and_the_line_says_so(
        self, wrong: str, bundle: Bundle, fake: Fake, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        place = 0 if wrong == "the first output" else -1

        def off(module: nn.Module, *given: object) -> Runner:
            def run(*inputs: Tensor) -> tuple[Tensor, ...]:
                found = list(module(*inputs))
                found[place] = found[place] + 0.1
                return tuple(found)

            return run

        monkeypatch.setattr(steps_room, "accelerate", off)
        runtime = serve(bundle, preference=Preference("openvino", "float32"))
        assert runtime.steps.eager
        (note,) = runtime.notes
        assert "disagreed with eager on the probe" in note


class TestAuto:
    """Two parts, 20 ms together at 30 frames a second."""

    def test_the_most_exact_precision_that_is_quick_enough(self, bundle: Bundle, fake: Fake) -> None:
        assert set(routes_of(serve(bundle)).values()) == {Backend("openvino", "bfloat16")}
        assert "int8" not in fake.built

    def test_time_to_spare_keeps_float32(self, bundle: Bundle, fake: Fake) -> None:
        assert set(routes_of(serve(bundle, frame_rate=10.0)).values()) == {Backend("openvino")}
        assert set(fake.built) == {"float32"}

    def test_no_time_takes_the_fastest_that_agreed(self, bundle: Bundle, fake: Fake) -> None:
        assert set(routes_of(serve(bundle, frame_rate=500.0)).values()) == {Backend("openvino", "int8")}
        fake.errors["int8"] = 3.0
        runtime = serve(bundle, frame_rate=500.0)
        assert set(routes_of(runtime).values()) == {Backend("openvino", "bfloat16")}
        assert any("int8 does not serve, it disagreed with eager on the probe" in n for n in runtime.notes)

    def test_a_fast_path_that_is_slower_than_eager_does_not_serve(self, bundle: Bundle, fake: Fake) -> None:
        fake.ms["eager"] = 1.0
        assert serve(bundle).name == "eager"

    @pytest.mark.parametrize("error", [3.0, float("nan"), float("inf")])
    def test_eager_serves_where_nothing_agrees(self, error: float, bundle: Bundle, fake: Fake) -> None:
        fake.errors = dict.fromkeys(fake.errors, error)
        runtime = serve(bundle)
        assert runtime.name == "eager"
        assert len(runtime.notes) == 6
        assert_serves_as_eager(runtime, bundle, atol=1e-6)

    def test_the_choice_is_kept_and_checked_again(
        self, bundle: Bundle, fake: Fake, cache: ArtifactCache
    ) -> None:
        first = routes_of(serve(bundle, cache=cache))
        fake.built.clear()
        fake.ms = dict.fromkeys(fake.ms, 1.0) | {"eager": 40.0}
        assert routes_of(serve(bundle, cache=cache)) == first
        assert set(fake.built) == {"bfloat16"}
        fake.errors["bfloat16"] = 3.0
        assert set(routes_of(serve(bundle, cache=cache)).values()) == {Backend("openvino")}

    def test_a_kept_choice_serves_however_quick_it_is_today(
        self, bundle: Bundle, fake: Fake, cache: ArtifactCache
    ) -> None:
        first = routes_of(serve(bundle, cache=cache))
        fake.ms["eager"] = 0.1
        assert routes_of(serve(bundle, cache=cache)) == first, "a replay repeats"
        fake.ms["eager"] = 40.0
        again = ArtifactCache(cache.folder.parent / "another")
        fake.ms["bfloat16"] = 50.0
        fake.ms["int8"] = 60.0
        slow = routes_of(serve(bundle, cache=again, frame_rate=500.0))
        assert set(slow.values()) == {Backend("openvino")}
        fake.ms["int8"] = 1.0
        assert routes_of(serve(bundle, cache=again, frame_rate=500.0)) == slow

    def test_eager_that_was_chosen_stays_too(self, bundle: Bundle, fake: Fake, cache: ArtifactCache) -> None:
        fake.ms["eager"] = 1.0
        assert serve(bundle, cache=cache).name == "eager"
        fake.ms["eager"] = 400.0
        fake.built.clear()
        assert serve(bundle, cache=cache).name == "eager"
        assert fake.built == []

    def test_a_choice_made_on_a_busy_machine_is_made_again_on_a_calm_one_unless_repeats_are_wanted(
        self, bundle: Bundle, fake: Fake, cache: ArtifactCache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(choice_room, "is_calm", lambda: False)
        fake.ms["eager"] = 1.0
        said: list[str] = []
        assert serve(bundle, cache=cache, progress=said.append).name == "eager"
        assert said == [
            "measured while this machine was busy with other work: name an accelerator to be sure"
        ]
        fake.ms["eager"] = 40.0
        assert serve(bundle, cache=cache).name == "eager", "still busy: it knows no better"
        monkeypatch.setattr(choice_room, "is_calm", lambda: True)
        assert serve(bundle, cache=cache, repeatable=True).name == "eager"
        assert set(routes_of(serve(bundle, cache=cache)).values()) == {Backend("openvino", "bfloat16")}
        monkeypatch.setattr(choice_room, "is_calm", lambda: False)
        fake.ms["eager"] = 1.0
        assert set(routes_of(serve(bundle, cache=cache)).values()) == {Backend("openvino", "bfloat16")}

    def test_a_start_without_words_leaves_the_choice_with_words_alone(
        self, bundle: Bundle, fake: Fake, cache: ArtifactCache
    ) -> None:
        assert bundle.text_encoder_folder is not None
        model, _ = open_text_model(bundle.text_encoder_folder, "encoder")
        fake.ms["eager"] = 20.0
        first = routes_of(serve(bundle, cache=cache, text_model=model))
        fake.ms["eager"] = 1.0
        assert routes_of(serve(bundle, cache=cache)) == {"visual": EAGER, "audio": EAGER}
        assert routes_of(serve(bundle, cache=cache, text_model=model)) == first

    @pytest.mark.parametrize("cuda", [False, True])
    def test_nothing_is_compiled_where_eager_is_quick_enough(
        self, cuda: bool, bundle: Bundle, fake: Fake, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(choice_room, "has_package", lambda name: False)
        monkeypatch.setattr(choice_room, "has_cuda", lambda: cuda)
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
        fake: Fake,
        cache: ArtifactCache,
        monkeypatch: pytest.MonkeyPatch,
        folder: Path,
    ) -> None:
        serve(bundle, cache=cache)
        fake.built.clear()
        if other == "device":
            monkeypatch.setattr(choice_room, "device_name", lambda: "another")
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
        self, odd: object, bundle: Bundle, fake: Fake, cache: ArtifactCache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(cache, "find_json", lambda facts: odd)
        assert set(routes_of(serve(bundle, cache=cache)).values()) == {Backend("openvino", "bfloat16")}


class TestMeasure:
    @pytest.mark.parametrize(("batches", "judged_by"), [((1, 3), 1), ((1, 4, 16), 1), ((3,), 3)])
    def test_a_live_source_is_judged_by_the_single_frame_and_a_recording_by_its_batch(
        self, batches: tuple[int, ...], judged_by: int, bundle: Bundle
    ) -> None:
        sight = candidate_room.parts_of(bundle, batches, None)[0]
        sizes: list[int] = []

        def runner(frames: Tensor) -> tuple[Tensor, ...]:
            sizes.append(len(frames))
            time.sleep(0.004)
            return (frames,)

        ms = candidate_room.measure(sight, dict.fromkeys(batches, runner))
        assert set(sizes) == {judged_by}
        assert ms >= 4 / judged_by
        sizes.clear()
        candidate_room.measure(sight, {0: runner})
        assert set(sizes) == {judged_by}, "and so is eager, which takes any number"


class TestParity:
    def test_eager_agrees_with_itself(self, bundle: Bundle) -> None:
        reference = make_reference(bundle)
        agreement = compare(bundle.ensemble, reference, reference.embeddings, "float32")
        assert agreement.holds
        assert (agreement.features, agreement.estimates) == (0.0, 0.0)

    @pytest.mark.parametrize("precision", LIMITS)
    def test_another_frames_embeddings_do_not_pass(self, precision: str, bundle: Bundle) -> None:
        reference = make_reference(bundle)
        found = {Modality.AUDIO: -reference.embeddings[Modality.AUDIO]}
        assert not compare(bundle.ensemble, reference, found, precision).holds  # type: ignore[arg-type]

    def test_features_alone_do_not_make_it_pass(self, bundle: Bundle) -> None:
        """Valence and arousal are compared themselves: a small error of a wide lever is found."""
        reference = make_reference(bundle)
        far = dataclasses.replace(reference, estimates=reference.estimates + 0.2)
        agreement = compare(bundle.ensemble, far, reference.embeddings, "int8")
        assert agreement.features == 0.0
        assert not agreement.holds

    def test_another_shape_does_not_pass(self, bundle: Bundle) -> None:
        reference = make_reference(bundle)
        found = {Modality.AUDIO: reference.embeddings[Modality.AUDIO][:, :, :-1]}
        with pytest.raises(ValueError, match="expected audio embeddings"):
            compare(bundle.ensemble, reference, found, "float32")


class TestTextParity:
    """Words are held to eager as they are served: padded to a runner's length, the rest masked."""

    @pytest.fixture
    def words(self, bundle: Bundle) -> candidate_room.ModelPart:
        assert bundle.text_encoder_folder is not None
        model, _ = open_text_model(bundle.text_encoder_folder, "encoder")
        return candidate_room.parts_of(bundle, (1,), model)[-1]

    def agrees(
        self, words: candidate_room.ModelPart, bundle: Bundle, runner: Runner, precision: Precision
    ) -> bool:
        builder = candidate_room.CandidateBuilder(bundle, make_reference(bundle), BuildContext())
        return builder.agreement(words, dict.fromkeys(words.sizes, runner), precision).holds

    def test_a_shorter_utterance_is_tried_at_every_length(self, words: candidate_room.ModelPart) -> None:
        assert words.sizes == (16, 64)
        assert words.text_lengths() == [8, 16, 40, 64]
        assert dataclasses.replace(words, sizes=(1,)).text_lengths() == [1, 1]

    @pytest.mark.parametrize("precision", LIMITS)
    def test_a_route_that_heeds_the_mask_passes(
        self, precision: Precision, words: candidate_room.ModelPart, bundle: Bundle
    ) -> None:
        assert self.agrees(words, bundle, candidate_room.eager_runner(words), precision)

    @pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
    def test_one_that_ignores_it_does_not(
        self, precision: Precision, words: candidate_room.ModelPart, bundle: Bundle
    ) -> None:
        eager = candidate_room.eager_runner(words)
        assert not self.agrees(words, bundle, lambda ids, mask: eager(ids, torch.ones_like(mask)), precision)

    @pytest.mark.parametrize("precision", LIMITS)
    def test_one_that_spoils_everything_where_something_is_masked_does_not(
        self, precision: Precision, words: candidate_room.ModelPart, bundle: Bundle
    ) -> None:
        eager = candidate_room.eager_runner(words)

        def spoilt(ids: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
            return (eager(ids, mask)[0] + (float("nan") if not mask.all() else 0.0),)

        assert not self.agrees(words, bundle, spoilt, precision)


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


class StandInEngine(nn.Module):
    """What `torch_tensorrt.dynamo.runtime.TorchTensorRTModule` is to a caller: named bindings, tensors in and out."""

    def __init__(
        self,
        serialized_engine: bytes,
        input_binding_names: list[str],
        output_binding_names: list[str],
        *,
        name: str = "",
    ) -> None:
        super().__init__()
        program = torch.export.load(io.BytesIO(serialized_engine))
        assert input_binding_names == list(program.graph_signature.user_inputs)
        assert output_binding_names == [
            f"output{i}" for i in range(len(program.graph_signature.user_outputs))
        ]
        self._run = program.module()

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        found = self._run(*inputs)
        return found[0] if len(found) == 1 else found  # type: ignore[no-any-return]


class StandIn:
    """The module `torch_tensorrt`, whose engines are exported programs; it counts what it builds."""

    def __init__(self) -> None:
        self.builds: list[list[tuple[int, ...]]] = []
        self.failure: Exception | None = None
        self.error = 0.0
        module = types.ModuleType("torch_tensorrt")
        module.dynamo = types.SimpleNamespace(  # type: ignore[attr-defined]
            convert_exported_program_to_serialized_trt_engine=self.convert,
            runtime=types.SimpleNamespace(TorchTensorRTModule=self.wrap),
        )
        self.module = module

    def convert(self, program: torch.export.ExportedProgram, arg_inputs: Sequence[Tensor]) -> bytes:
        if self.failure is not None:
            raise self.failure
        self.builds.append([tuple(x.shape) for x in arg_inputs])
        content = io.BytesIO()
        torch.export.save(program, content)
        return content.getvalue()

    def wrap(self, *args: object, **kwargs: object) -> nn.Module:
        engine = StandInEngine(*args, **kwargs)  # type: ignore[arg-type]
        if not self.error:
            return engine
        return _Shifted(engine, self.error)


class _Shifted(nn.Module):
    def __init__(self, inner: nn.Module, error: float) -> None:
        super().__init__()
        self.inner, self.error = inner, error

    def forward(self, *inputs: Tensor) -> Tensor:
        y: Tensor = self.inner(*inputs)
        return y + self.error * torch.linspace(-1, 1, y.shape[-1])


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    stand_in = StandIn()
    monkeypatch.setitem(sys.modules, "torch_tensorrt", stand_in.module)
    monkeypatch.setattr(tensorrt_room, "has_cuda", lambda: True)
    monkeypatch.setattr(tensorrt_room, "device_name", lambda: "NVIDIA stand-in sm_90")
    monkeypatch.setattr(tensorrt_room, "DEVICE", "cpu")
    monkeypatch.setattr(choice_room, "has_cuda", lambda: True)
    monkeypatch.setattr(steps_room, "accelerate", lambda module, *given: run_eager(module))  # CUDA's part
    return stand_in


FLOAT32 = Preference("tensorrt", "float32")


class TestTensorrtStandIn:
    def test_engines_are_built_once_per_part_and_shape_then_cached(
        self, bundle: Bundle, cache: ArtifactCache, stand_in: StandIn
    ) -> None:
        said: list[str] = []
        runtime = serve(bundle, preference=FLOAT32, cache=cache, batches=(1, 2), progress=said.append)
        assert runtime.notes == ()
        assert len(stand_in.builds) == 4
        assert sum("building the TensorRT engine" in line for line in said) == 4
        assert_serves_as_eager(runtime, bundle, atol=1e-4)
        again = serve(bundle, preference=FLOAT32, cache=cache, batches=(1, 2))
        assert len(stand_in.builds) == 4
        assert_serves_as_eager(again, bundle, atol=1e-4)

    def test_float16_runs_at_half_precision_and_within_its_limits(
        self, bundle: Bundle, cache: ArtifactCache, stand_in: StandIn
    ) -> None:
        runtime = serve(bundle, preference=Preference("tensorrt", "float16"), cache=cache)
        assert runtime.name == "tensorrt float16"
        senses = [r for r in runtime.reports if r.part != STEPS]
        assert all(r.agreement is not None and 0 < r.agreement.features < 0.02 for r in senses)

    @pytest.mark.parametrize("what", ["device_name", "versions"])
    def test_another_device_or_version_builds_anew(
        self,
        what: str,
        bundle: Bundle,
        cache: ArtifactCache,
        stand_in: StandIn,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        serve(bundle, preference=FLOAT32, cache=cache)
        monkeypatch.setattr(tensorrt_room, what, lambda *names: "another")
        serve(bundle, preference=FLOAT32, cache=cache)
        assert len(stand_in.builds) == 4

    def test_a_damaged_engine_is_built_anew(
        self, bundle: Bundle, cache: ArtifactCache, stand_in: StandIn
    ) -> None:
        serve(bundle, preference=FLOAT32, cache=cache)
        for engine in cache.folder.rglob(ENGINE):
            engine.write_bytes(engine.read_bytes()[:-1])
        runtime = serve(bundle, preference=FLOAT32, cache=cache)
        assert len(stand_in.builds) == 4
        assert_serves_as_eager(runtime, bundle, atol=1e-4)

    def test_a_wrong_engine_does_not_serve(
        self, bundle: Bundle, cache: ArtifactCache, stand_in: StandIn
    ) -> None:
        stand_in.error = 0.5
        runtime = serve(bundle, preference=FLOAT32, cache=cache)
        assert runtime.name == "eager"
        assert all("disagreed with eager on the probe" in note for note in runtime.notes)
        assert_serves_as_eager(runtime, bundle, atol=1e-6)

    def test_a_failing_build_falls_back_in_one_line(
        self, bundle: Bundle, cache: ArtifactCache, stand_in: StandIn
    ) -> None:
        stand_in.failure = RuntimeError("no kernel for this\nand a long trace")
        runtime = serve(bundle, preference=FLOAT32, cache=cache)
        assert runtime.name == "eager"
        assert runtime.notes[0] == (
            "visual: tensorrt float32 does not serve: tensorrt cannot take it: no kernel for this"
        )

    def test_auto_tries_it_where_there_is_a_gpu(self, bundle: Bundle, stand_in: StandIn) -> None:
        stand_in.failure = RuntimeError("no")
        runtime = serve(bundle, frame_rate=1e6)
        tried = {note.split(": ")[1].removesuffix(" does not serve") for note in runtime.notes}
        assert tried >= {"tensorrt float32", "tensorrt float16", "cuda float32", "cuda float16"}
        assert runtime.name == "eager"
