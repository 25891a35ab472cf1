"""A bundle that runs share is loaded once, and computes what a bundle of one's own computes."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from models.errors import UserError
from stream import build
from stream.build import load
from stream.options import InputOptions
from stream.session import default_threads
from stream.shared_bundle import SharedBundle, load_bundle
from stream.sources.pushed import PushedRecording
from tests.stream.recordings import steady, write_recording
from tests.stream.scripted import small_bundle

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> SharedBundle:
    folder = tmp_path_factory.mktemp("bundles") / "small"
    small_bundle(folder, folds=2)
    return load_bundle(folder, accelerator="eager")


def test_it_says_what_it_is(shared: SharedBundle) -> None:
    assert (shared.name, shared.folds, shared.frame_rate, shared.note) == ("small", 2, 30.0, "random")
    assert repr(shared) == "<SharedBundle small: 2 folds, eager>"


def test_runs_share_what_they_load(shared: SharedBundle, tmp_path: Path) -> None:
    recording = write_recording(tmp_path / "short.mkv", steady(5))
    options = InputOptions(str(recording), recogniser="none")
    first, second = (load(options, shared=shared) for _ in range(2))
    live = load(InputOptions("lavfi:testsrc2=s=64x48:r=30", recogniser="none"), shared=shared)
    for parts in (first, second, live):
        parts.source.close()
    assert first.bundle is second.bundle is shared.bundle
    assert first.runtime is second.runtime is not live.runtime
    assert first.detector is not second.detector
    assert shared.kept("runtime") == (first.runtime, live.runtime)


def test_recordings_of_nearly_one_frame_rate_share_a_runtime(shared: SharedBundle) -> None:
    options = InputOptions("pushed", recogniser="none")
    rates = (25.0, 30.106312917489888, 30.15170074437011, 0.2, 0.3)
    parts = [
        load(options, source=PushedRecording(frame_rate=rate, sound=False), shared=shared) for rate in rates
    ]
    assert len({id(p.runtime) for p in parts[1:3]}) == 1
    assert len({id(p.runtime) for p in parts[3:]}) == 1
    assert len({id(p.runtime) for p in parts}) == 3


def test_what_it_says_of_itself_is_not_read_again(
    shared: SharedBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "read_manifest", lambda folder: pytest.fail("it is read"))
    elsewhere = InputOptions("pushed", bundle="no such bundle")
    assert build.trained_frame_rate(elsewhere, shared) == 30.0
    assert default_threads(elsewhere.bundle, shared) >= 1


def test_what_is_asked_for_at_the_same_time_is_loaded_once(shared: SharedBundle) -> None:
    loads: list[int] = []

    def slowly() -> int:
        time.sleep(0.05)
        loads.append(1)
        return len(loads)

    found: list[int] = []
    threads = [
        threading.Thread(target=lambda: found.append(shared.once(("test",), slowly))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [1, 1, 1, 1]


def test_an_unknown_accelerator_is_refused_at_once() -> None:
    with pytest.raises(UserError, match="no accelerator 'abacus'"):
        load_bundle("demo", accelerator="abacus")
