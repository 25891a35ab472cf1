"""The benchmark of throughput: back-ends beside each other, not one after another."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import throughput
from benchmarks.measuring import Timing
from models.accelerate.select import Preference


class Path:
    """Frames that cost nothing."""

    def __init__(self, bundle: object, runtime: object, chunk: int) -> None:
        self.chunk = chunk

    def run(self) -> None:
        pass


def test_the_routes_of_a_bundle_at_one_chunk_size_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[set[str]] = []

    def in_turns(calls: dict[str, Any], *, rounds: int) -> dict[str, Timing]:
        asked.append(set(calls))
        return {name: Timing((30.0,) * rounds) for name in calls}

    monkeypatch.setattr(
        throughput, "serve", lambda bundle, *, preference, **options: SimpleNamespace(name=preference.backend)
    )
    monkeypatch.setattr(throughput, "FramePath", Path)
    monkeypatch.setattr(throughput, "time_in_turns", in_turns)
    preferences = [Preference("eager"), Preference(), Preference("openvino", "int8")]
    bundle = SimpleNamespace(manifest=SimpleNamespace(name="compact-6"))
    rows = throughput.measure(bundle, preferences, 3, 1, None, 5)  # type: ignore[arg-type]
    assert asked == [{"eager", "auto", "openvino:int8"}]
    assert [rate for rate, _ in rows] == [pytest.approx(100.0)] * 3
    assert rows[1][1] == ["compact-6", "auto", "auto", "3", "10 (10 to 10)", "100", "3"]
