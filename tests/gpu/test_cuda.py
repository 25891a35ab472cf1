"""On an NVIDIA GPU: CUDA graphs, and TensorRT where it is installed, held to eager on the CPU."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

from models.accelerate.backend import Backend
from models.accelerate.build import accelerate
from models.accelerate.cache import ArtifactCache
from models.accelerate.export import VisualGraph
from models.accelerate.hardware import has_cuda, has_package
from models.accelerate.runtime import STEPS
from models.accelerate.select import Preference, serve
from models.accelerate.steps import Steps, random_states, run_sequence
from models.bundle.load import Bundle, load_bundle
from models.bundle.untrained import make_untrained_bundle
from models.networks.ensemble import Ensemble
from models.networks.fold import EmotionNetwork
from models.spec import COMPACT, PAPER, Modality, NetworkSpec

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not has_cuda(), reason="there is no NVIDIA GPU that PyTorch can use"),
]
needs_tensorrt = pytest.mark.skipif(
    not has_package("torch_tensorrt"), reason="torch-tensorrt is not installed"
)

BACKENDS = ["cuda", pytest.param("tensorrt", marks=needs_tensorrt)]


def ensemble_of(spec: NetworkSpec) -> Ensemble:
    torch.manual_seed(0)
    return Ensemble.from_folds([EmotionNetwork(spec).eval() for _ in range(2)])


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("bundle") / "two"
    make_untrained_bundle(folder, folds=2)
    return load_bundle(folder)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("precision", "atol"), [("float32", 5e-3), ("float16", 3e-2)])
@pytest.mark.parametrize(
    "spec", [COMPACT, pytest.param(PAPER, marks=pytest.mark.slow)], ids=["compact", "paper"]
)
def test_sight_agrees_with_eager(backend: str, precision: str, atol: float, spec: NetworkSpec) -> None:
    ensemble = ensemble_of(spec)
    crops = torch.randn(4, 3, 40, 40)
    chosen = Backend(backend, precision)  # type: ignore[arg-type]
    (found,) = accelerate(VisualGraph(ensemble), (crops,), chosen)(crops)
    torch.testing.assert_close(found, ensemble.embed_visual(crops), atol=atol, rtol=0)


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_bundle_serves_and_its_choice_holds(
    backend: str, precision: str, bundle: Bundle, tmp_path: Path
) -> None:
    preference = Preference(backend, precision)  # type: ignore[arg-type]
    cache = ArtifactCache(tmp_path)
    for _ in range(2):
        runtime = serve(bundle, preference=preference, cache=cache, batches=(1, 4))
        assert runtime.notes == ()
        assert {r.backend.name for r in runtime.reports if r.part != STEPS} == {backend}


def test_sight_and_sound_run_side_by_side_as_alone(bundle: Bundle) -> None:
    runtime = serve(bundle, preference=Preference("cuda", "float32"))
    crops, patches = bundle.probe["crops"][:1], bundle.probe["patches"][:1]
    begun = runtime.start_audio(patches)
    visual = runtime.embed_visual(crops)
    torch.testing.assert_close(begun(), runtime.embed_audio(patches))
    torch.testing.assert_close(visual, runtime.embed_visual(crops))


def test_a_graph_replays_in_another_thread_than_it_was_captured_in(bundle: Bundle) -> None:
    runtime = serve(bundle, preference=Preference("cuda", "float32"))
    crops = bundle.probe["crops"][:1]
    expected = runtime.embed_visual(crops)
    found: list[Tensor] = []
    thread = threading.Thread(target=lambda: found.append(runtime.embed_visual(crops)))
    thread.start()
    thread.join()
    torch.testing.assert_close(found[0], expected)


def test_results_stay_what_they_were_when_the_graph_runs_again(bundle: Bundle) -> None:
    runtime = serve(bundle, preference=Preference("cuda", "float32"))
    crops = bundle.probe["crops"]
    first = runtime.embed_visual(crops[:1])
    kept = first.clone()
    runtime.embed_visual(crops[1:2])
    assert torch.equal(first, kept)


@pytest.mark.parametrize("frames", [1, 3])
def test_temporal_branches_fusion_and_head_are_two_graphs_that_agree_with_eager(
    bundle: Bundle, frames: int
) -> None:
    runtime = serve(bundle, preference=Preference("cuda", "float32"), batches=(frames,))
    (report,) = (r for r in runtime.reports if r.part == STEPS)
    assert report.backend == Backend("cuda")
    assert not runtime.steps.eager
    ensemble = bundle.ensemble
    rows = {m: ensemble.networks if m is Modality.VISUAL else 1 for m in Modality}
    embeddings = {m: torch.randn(rows[m], 6, ensemble.embedding(m)) for m in Modality}
    available = torch.rand(6, len(Modality)) < 0.7
    states = random_states(ensemble, torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected, found = (
            run_sequence(steps, ensemble, states, embeddings, available, frames)
            for steps in (Steps(ensemble), runtime.steps)
        )
    for ours, theirs in zip(found.tensors, expected.tensors, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-3)
