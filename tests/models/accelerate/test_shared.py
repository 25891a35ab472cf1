"""One runtime for several threads: the same numbers, one call for what waits together, errors to whom they belong."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
import torch

from models.accelerate.select import Preference, serve
from models.accelerate.shared import SharedRuntime
from models.spec import Modality
from tests.models.accelerate.serving import assert_serves_as_eager
from tests.stream.scripted import small_bundle

if TYPE_CHECKING:
    from pathlib import Path

    from models.bundle.load import Bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder: Path = tmp_path_factory.mktemp("bundles") / "small"
    return small_bundle(folder, folds=2)


def shared_runtime(bundle: Bundle, *, together: bool) -> SharedRuntime:
    return SharedRuntime(serve(bundle, preference=Preference("eager")), together=together)


@torch.inference_mode()
def embed_side_by_side(
    runtime: SharedRuntime, requests: list[tuple[torch.Tensor | None, torch.Tensor | None]]
) -> list[tuple[torch.Tensor | None, torch.Tensor | None]]:
    """All of them asked for while the runtime is busy, each in a thread."""
    found: dict[int, tuple[torch.Tensor | None, torch.Tensor | None]] = {}

    def ask(n: int) -> None:
        found[n] = runtime.at(2).embed(*requests[n])

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(len(requests))]
    with runtime.lock:
        for thread in threads:
            thread.start()
        while runtime.requests < len(requests):
            threading.Event().wait(0.01)
    for thread in threads:
        thread.join()
    return [found[n] for n in range(len(requests))]


def given(bundle: Bundle) -> list[tuple[torch.Tensor | None, torch.Tensor | None]]:
    crops, patches = bundle.probe["crops"], bundle.probe["patches"]
    return [(crops[:2], patches[:1]), (crops[2:3], None), (None, patches[1:4]), (crops[:1], patches[:1])]


@pytest.mark.parametrize(("together", "calls"), [(True, 1), (False, 4)])
def test_what_waits_is_embedded_together_where_that_is_allowed(
    bundle: Bundle, together: bool, calls: int
) -> None:
    runtime = shared_runtime(bundle, together=together)
    requests = given(bundle)
    found = embed_side_by_side(runtime, requests)
    assert (runtime.calls, runtime.requests) == (calls, 4)
    alone = serve(bundle, preference=Preference("eager")).at(2)
    for got, request in zip(found, requests, strict=True):
        with torch.inference_mode():
            expected = alone.embed(*request)
        for a, b in zip(got, expected, strict=True):
            assert (a is None) == (b is None)
            if a is not None and b is not None:
                assert torch.allclose(a, b, atol=1e-5)


def test_it_is_called_as_any_runtime(bundle: Bundle) -> None:
    with torch.inference_mode():
        assert_serves_as_eager(shared_runtime(bundle, together=False), bundle, atol=1e-5)


def test_an_error_is_everybodys_who_was_in_the_call(bundle: Bundle) -> None:
    runtime = shared_runtime(bundle, together=True)
    with pytest.raises(ValueError, match="expected crops"), torch.inference_mode():
        runtime.at(2).embed(torch.zeros(1, 7, 3, 3), None)
    with torch.inference_mode():
        assert runtime.at(2).embed(bundle.probe["crops"][:1], None)[0] is not None


def test_the_steps_are_those_of_the_runtime(bundle: Bundle) -> None:
    own, runtime = serve(bundle, preference=Preference("eager")), shared_runtime(bundle, together=True)
    assert runtime.steps.eager
    assert runtime.name == own.name
    assert runtime.can_rest == own.can_rest
    ensemble = bundle.ensemble
    branches = {m: ensemble.initial_state(m, 1) for m in (Modality.VISUAL, Modality.AUDIO)}
    with torch.inference_mode():
        visual, audio = own.at(2).embed(bundle.probe["crops"][:3], bundle.probe["patches"][:3])
        assert visual is not None
        assert audio is not None
        embeddings = {Modality.VISUAL: visual[:, None], Modality.AUDIO: audio[:, None]}
        there = {m: torch.ones(1, 3, dtype=torch.bool) for m in embeddings}
        _, expected = own.at(2).sense(embeddings, branches, there)
        _, found = runtime.at(2).sense(embeddings, branches, there)
    assert all(torch.equal(found[m], expected[m]) for m in found)
