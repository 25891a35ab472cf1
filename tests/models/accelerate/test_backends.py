"""Routes: what each back-end makes of a module, and what it says where it cannot."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path

import pytest
import torch
import torch._dynamo
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch.nn import functional

from models.accelerate import hardware as machine_room
from models.accelerate.backend import Backend, BuildContext, Unavailable
from models.accelerate.backends import compiled as compiled_room
from models.accelerate.backends import openvino as openvino_room
from models.accelerate.backends.openvino import MODEL
from models.accelerate.build import accelerate
from models.accelerate.cache import ABANDONED_S, ENTRY, ArtifactCache, module_hash

needs_openvino = pytest.mark.skipif(
    not machine_room.has_package("openvino"), reason="openvino is not installed"
)


class Small(nn.Module):
    """A convolution, a PReLU and a normalised linear layer: one of each kind that the parts are made of."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.conv = nn.Conv2d(3, 8, 3, padding=1)
            self.linear = nn.Linear(8 * 16, 6)
        self.slope = nn.Parameter(torch.full((8,), 0.2))

    def forward(self, x: Tensor) -> Tensor:
        y = functional.prelu(self.conv(x), self.slope)
        return functional.normalize(self.linear(y.flatten(1)), dim=1)


class Watchful(Small):
    """Counts the calls that are not compiled."""

    eager_calls = 0

    def forward(self, x: Tensor) -> Tensor:
        if not torch.compiler.is_compiling():
            self.eager_calls += 1
        return super().forward(x)


@pytest.fixture
def module() -> Small:
    return Small().eval()


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(1))


def expected(module: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        y: Tensor = module(x)
    return y


class TestRoute:
    def test_a_precision_that_the_backend_does_not_have_is_refused(self) -> None:
        with pytest.raises(ValueError, match="eager offers float32, not int8"):
            Backend("eager", "int8")

    def test_it_reads_as_people_say_it(self) -> None:
        assert str(Backend("openvino", "int8")) == "openvino int8"
        assert str(Backend("eager")) == "eager"


class TestMachine:
    @pytest.mark.parametrize(
        ("load", "processors", "calm"),
        [(0.0, 1, True), (1.0, 1, False), (1.5, 2, True), (1.6, 2, False), (2.0, 2, False), (6.0, 8, True)],
    )
    def test_it_is_calm_while_a_quarter_of_its_processors_is_free(
        self, load: float, processors: int, calm: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(machine_room, "usable_processors", lambda: processors)
        monkeypatch.setattr(os, "getloadavg", lambda: (load, 9.0, 9.0))
        assert machine_room.is_calm() is calm

    def test_one_that_does_not_tell_its_load_counts_as_calm(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delattr(os, "getloadavg")
        assert machine_room.is_calm()


class TestEager:
    def test_it_is_the_module_whatever_the_shape(self, module: Small, x: Tensor) -> None:
        runner = accelerate(module, (x,), Backend("eager"))
        assert torch.equal(runner(x)[0], expected(module, x))
        assert runner(x[:1])[0].shape == (1, 6)


@needs_openvino
class TestOpenvino:
    def test_float32_agrees_to_rounding(self, module: Small, x: Tensor) -> None:
        (found,) = accelerate(module, (x,), Backend("openvino"))(x)
        torch.testing.assert_close(found, expected(module, x), atol=1e-5, rtol=1e-5)

    def test_bfloat16_agrees_roughly(self, module: Small, x: Tensor) -> None:
        if not openvino_room.has_bfloat16():
            pytest.skip("this processor has no bfloat16")
        (found,) = accelerate(module, (x,), Backend("openvino", "bfloat16"))(x)
        torch.testing.assert_close(found, expected(module, x), atol=0.03, rtol=0)
        assert not torch.equal(found, expected(module, x))

    def test_int8_agrees_on_what_it_was_calibrated_on(self, module: Small, x: Tensor, tmp_path: Path) -> None:
        pytest.importorskip("nncf", reason="nncf is not installed")
        context = BuildContext(cache=ArtifactCache(tmp_path), calibration=[(x,), (0.5 * x,), (-x,)])
        (found,) = accelerate(module, (x,), Backend("openvino", "int8"), context)(x)
        torch.testing.assert_close(found, expected(module, x), atol=0.1, rtol=0)
        # The embedding's length is not left to eight bits.
        torch.testing.assert_close(found.norm(dim=1), torch.ones(2), atol=0.01, rtol=0)

    def test_int8_does_not_cut_off_what_is_rare_among_its_calibration_inputs(
        self, module: Small, x: Tensor
    ) -> None:
        pytest.importorskip("nncf", reason="nncf is not installed")
        context = BuildContext(calibration=[*[(0.1 * x,)] * 30, (x,)])
        (found,) = accelerate(module, (x,), Backend("openvino", "int8"), context)(x)
        torch.testing.assert_close(found, expected(module, x), atol=0.1, rtol=0)

    @pytest.mark.parametrize("change", ["method", "processor"])
    def test_int8_of_another_method_or_processor_is_built_anew(
        self, change: str, module: Small, x: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pytest.importorskip("nncf", reason="nncf is not installed")
        said: list[str] = []
        context = BuildContext(cache=ArtifactCache(tmp_path), progress=said.append, calibration=[(x,), (-x,)])
        accelerate(module, (x,), Backend("openvino", "int8"), context)
        assert "calibrating int8" in said
        said.clear()
        accelerate(module, (x,), Backend("openvino", "int8"), context)
        assert not said
        if change == "method":
            monkeypatch.setattr(openvino_room, "INT8_METHOD", openvino_room.INT8_METHOD + 1)
        else:
            here = openvino_room.has_vnni()
            monkeypatch.setattr(openvino_room, "has_vnni", lambda: not here)
        accelerate(module, (x,), Backend("openvino", "int8"), context)
        assert "calibrating int8" in said

    def test_int8_without_calibration_inputs_is_unavailable(self, module: Small, x: Tensor) -> None:
        pytest.importorskip("nncf", reason="nncf is not installed")
        with pytest.raises(Unavailable, match="calibration inputs"):
            accelerate(module, (x,), Backend("openvino", "int8"))

    def test_results_are_the_callers_own(self, module: Small, x: Tensor) -> None:
        runner = accelerate(module, (x,), Backend("openvino"))
        first = runner(x)[0]
        kept = first.clone()
        runner(-x)
        assert torch.equal(first, kept)

    def test_another_shape_is_refused(self, module: Small, x: Tensor) -> None:
        runner = accelerate(module, (x,), Backend("openvino"))
        with pytest.raises(ValueError, match="built for inputs"):
            runner(x[:1])

    def test_a_converted_model_is_taken_from_the_cache(
        self, module: Small, x: Tensor, tmp_path: Path
    ) -> None:
        said: list[str] = []
        context = BuildContext(cache=ArtifactCache(tmp_path), progress=said.append)
        first = accelerate(module, (x,), Backend("openvino"), context)(x)[0]
        assert said
        said.clear()
        assert torch.equal(accelerate(module, (x,), Backend("openvino"), context)(x)[0], first)
        assert not said

    @pytest.mark.parametrize("what", ["content", "shape", "precision"])
    def test_other_content_shape_or_precision_is_another_entry(
        self, what: str, module: Small, x: Tensor, tmp_path: Path
    ) -> None:
        said: list[str] = []
        context = BuildContext(cache=ArtifactCache(tmp_path), progress=said.append)
        accelerate(module, (x,), Backend("openvino"), context)
        said.clear()
        changed = Small(seed=2).eval() if what == "content" else module
        inputs = x[:1] if what == "shape" else x
        backend = Backend("openvino", "bfloat16") if what == "precision" else Backend("openvino")
        if what == "precision" and not openvino_room.has_bfloat16():
            pytest.skip("this processor has no bfloat16")
        (found,) = accelerate(changed, (inputs,), backend, context)(inputs)
        assert said
        torch.testing.assert_close(found, expected(changed, inputs), atol=0.03, rtol=0)

    def test_a_damaged_entry_is_built_again(self, module: Small, x: Tensor, tmp_path: Path) -> None:
        context = BuildContext(cache=ArtifactCache(tmp_path))
        accelerate(module, (x,), Backend("openvino"), context)
        (model,) = tmp_path.rglob(MODEL)
        weights = model.with_suffix(".bin")
        weights.chmod(0o644)
        weights.write_bytes(b"\0" + weights.read_bytes()[1:])
        (found,) = accelerate(module, (x,), Backend("openvino"), context)(x)
        torch.testing.assert_close(found, expected(module, x), atol=1e-5, rtol=1e-5)

    def test_no_usage_statistics_leave_the_machine(self, module: Small, x: Tensor) -> None:
        accelerate(module, (x,), Backend("openvino"))
        from openvino.tools.ovc import telemetry_utils

        assert telemetry_utils.tm.__name__ == "openvino.tools.ovc.telemetry_stub"
        assert sys.modules["openvino_telemetry"] is None  # type: ignore[comparison-overlap]

    def test_a_module_that_it_cannot_take_is_one_line(self, x: Tensor) -> None:
        class Odd(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                raise RuntimeError("first\nsecond")

        with pytest.raises(Unavailable) as caught:
            accelerate(Odd(), (x,), Backend("openvino"))
        assert "\n" not in str(caught.value)


class TestAbsentPackages:
    @pytest.fixture(autouse=True)
    def _bare_machine(self, monkeypatch: pytest.MonkeyPatch) -> None:
        openvino_room._engine.cache_clear()
        for room in (openvino_room, "models.accelerate.backends.tensorrt"):
            target = room if isinstance(room, str) else room.__name__
            monkeypatch.setattr(f"{target}.has_package", lambda name: False)
        monkeypatch.setattr("models.accelerate.backends.tensorrt.has_cuda", lambda: False)
        monkeypatch.setattr("models.accelerate.backends.compiled.has_cuda", lambda: False)
        yield
        openvino_room._engine.cache_clear()

    @pytest.mark.parametrize(
        ("backend", "says"),
        [
            (Backend("openvino"), "openvino is not installed .pip install 'affectstream.openvino.'"),
            (Backend("openvino", "bfloat16"), "openvino is not installed"),
            (Backend("tensorrt", "float16"), "no NVIDIA GPU"),
            (Backend("cuda", "float16"), "no NVIDIA GPU"),
        ],
        ids=str,
    )
    def test_each_says_what_is_missing(self, module: Small, x: Tensor, backend: Backend, says: str) -> None:
        with pytest.raises(Unavailable, match=says):
            accelerate(module, (x,), backend)

    def test_tensorrt_with_a_gpu_names_the_extra(
        self, module: Small, x: Tensor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("models.accelerate.backends.tensorrt.has_cuda", lambda: True)
        with pytest.raises(Unavailable, match="torch-tensorrt is not installed"):
            accelerate(module, (x,), Backend("tensorrt", "float16"))


class TestCompile:
    """Mostly with a back-end that makes no code: what is traced, and when, is the same."""

    @pytest.fixture(autouse=True)
    def _traced_afresh(self) -> None:
        torch._dynamo.reset()

    @pytest.fixture
    def traced_only(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))

    @pytest.mark.usefixtures("traced_only")
    @pytest.mark.parametrize("serving", [torch.inference_mode, torch.no_grad, nullcontext])
    @pytest.mark.parametrize("other_thread", [False, True])
    def test_what_was_built_is_not_compiled_again_when_it_serves(
        self,
        serving: Callable[[], AbstractContextManager[None]],
        other_thread: bool,
        module: Small,
        x: Tensor,
    ) -> None:
        before = counters["stats"]["unique_graphs"]
        runner = accelerate(module, (x,), Backend("compile"))

        def serve() -> Tensor:
            with serving(), torch._dynamo.config.patch(error_on_recompile=True):
                return runner(x + 1)[0]

        with ThreadPoolExecutor(1) as thread:
            found = thread.submit(serve).result() if other_thread else serve()
        assert counters["stats"]["unique_graphs"] == before + 1
        torch.testing.assert_close(found, expected(module, x + 1))

    @pytest.mark.skipif(
        not compiled_room._OWN_CACHE, reason="this PyTorch gives runners no caches of their own"
    )
    @pytest.mark.usefixtures("traced_only")
    def test_each_of_ten_runners_stays_compiled(self, x: Tensor) -> None:
        module = Watchful().eval()
        runners = {
            n: accelerate(module, (x[:1].repeat(n, 1, 1, 1),), Backend("compile")) for n in range(1, 11)
        }
        for n, runner in runners.items():
            runner(x[:1].repeat(n, 1, 1, 1))
        assert module.eager_calls == 0

    @pytest.mark.usefixtures("traced_only")
    def test_a_runner_that_would_not_be_compiled_is_refused(
        self, x: Tensor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As with a PyTorch that gives runners no caches of their own."""
        monkeypatch.setattr(compiled_room, "_OWN_CACHE", {})
        with torch._dynamo.config.patch(recompile_limit=1):
            accelerate(Watchful().eval(), (x,), Backend("compile"))
            with pytest.raises(Unavailable, match=r"torch.compile cannot take it: .*limit"):
                accelerate(Watchful().eval(), (x[:1],), Backend("compile"))

    @pytest.mark.slow
    def test_it_agrees(self, module: Small, x: Tensor) -> None:
        (found,) = accelerate(module, (x,), Backend("compile"))(x)
        torch.testing.assert_close(found, expected(module, x), atol=1e-5, rtol=1e-5)


class TestCache:
    @pytest.fixture
    def cache(self, tmp_path: Path) -> ArtifactCache:
        return ArtifactCache(tmp_path / "cache")

    def test_what_was_kept_is_found_under_the_same_facts_only(self, cache: ArtifactCache) -> None:
        cache.keep_json({"a": 1}, ["kept"])
        assert cache.find_json({"a": 1}) == ["kept"]
        assert cache.find_json({"a": 2}) is None

    @pytest.mark.parametrize(
        "damage",
        [
            lambda folder: (folder / "value.json").write_text("[]"),
            lambda folder: (folder / "value.json").unlink(),
            lambda folder: (folder / "more").write_text("x"),
            lambda folder: (folder / ENTRY).write_text("{"),
            lambda folder: (folder / ENTRY).write_text("[]"),
        ],
        ids=["altered", "missing", "added", "entry cut", "entry odd"],
    )
    def test_a_damaged_entry_is_absent_and_removed(
        self, cache: ArtifactCache, damage: Callable[[Path], object]
    ) -> None:
        cache.keep_json({"a": 1}, ["kept"])
        (folder,) = cache.folder.iterdir()
        damage(folder)
        assert cache.find({"a": 1}) is None
        assert not folder.exists()

    def test_it_does_not_grow_beyond_its_bound(self, tmp_path: Path) -> None:
        cache = ArtifactCache(tmp_path, most_bytes=3000)
        for i in range(9):
            cache.keep({"i": i}, lambda folder: (folder / "blob").write_bytes(bytes(800)) and None)
        sizes = [f.stat().st_size for f in tmp_path.rglob("*") if f.is_file()]
        assert sum(sizes) <= 3000
        assert cache.find({"i": 8}) is not None
        assert cache.find({"i": 0}) is None

    def test_what_a_killed_process_left_half_made_is_removed_and_what_is_being_made_is_not(
        self, cache: ArtifactCache
    ) -> None:
        left, being_made = cache.folder / ".building-left", cache.folder / ".building-now"
        for folder in (left, being_made):
            (folder / "entry").mkdir(parents=True)
            (folder / "entry" / "blob").write_bytes(bytes(800))
        long_ago = time.time() - 2 * ABANDONED_S
        os.utime(left, (long_ago, long_ago))
        cache.keep_json({"a": 1}, ["kept"])
        assert not left.exists()
        assert (being_made / "entry" / "blob").exists()

    def test_an_entry_that_another_process_removes_meanwhile_does_not_undo_the_new_one(
        self, cache: ArtifactCache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cache.keep_json({"a": 1}, ["kept"])
        (gone,) = cache.folder.iterdir()
        look = Path.stat

        def look_late(path: Path, **options: bool) -> os.stat_result:
            if path.parent == gone:
                raise FileNotFoundError(path)
            return look(path, **options)

        monkeypatch.setattr(Path, "stat", look_late)
        folder = cache.keep({"a": 2}, lambda folder: (folder / "blob").write_bytes(b"x") and None)
        assert folder is not None
        assert (folder / "blob").read_bytes() == b"x"

    def test_a_folder_that_cannot_be_written_keeps_nothing_and_says_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        cache = ArtifactCache(tmp_path / "file" / "cache")
        cache.keep_json({"a": 1}, ["kept"])
        assert cache.find_json({"a": 1}) is None

    def test_a_module_is_hashed_by_all_it_holds(self) -> None:
        one, other = Small(), Small()
        assert module_hash(one) == module_hash(other)
        with torch.no_grad():
            other.slope[3] = 0.3
        assert module_hash(one) != module_hash(other)
        assert module_hash(nn.Conv2d(1, 1, 3, stride=1)) != module_hash(nn.Conv2d(1, 1, 3, stride=2))

    def test_a_lone_value_is_hashed_whatever_its_stride(self) -> None:
        plain, strided = nn.Module(), nn.Module()
        plain.value = nn.Buffer(torch.tensor([2.0]))
        strided.value = nn.Buffer(torch.tensor([2.0, 3.0]).as_strided((1,), (2,)))
        assert module_hash(plain) == module_hash(strided)
