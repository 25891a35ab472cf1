"""How fast this machine is, measured over the real demo bundle, and judged by the frame's time."""

from __future__ import annotations

import pytest

from stream.doctor.speed import Speed, examine_speed, judge_speed, load_as_live, measure
from stream.options import InputOptions


def options(accelerator: str = "eager") -> InputOptions:
    return InputOptions("camera", bundle="demo", recogniser="vosk-tiny", accelerator=accelerator, threads=1)


@pytest.mark.slow
def test_the_demo_bundle_is_measured_as_a_live_run_computes_it() -> None:
    parts = load_as_live(options(), 30.0, lambda message: None)
    assert parts.source.live
    assert parts.embedder is not None
    speed = measure(parts, frames=8)
    assert 0 < speed.frame_ms <= speed.slow_frame_ms
    assert speed.perceive_ms > 0
    assert speed.estimate_ms > 0
    found = examine_speed(options(), 30.0, lambda message: None)
    assert found.subject == "accelerator"
    assert found.says.startswith("eager: ")
    assert found.measures["headroom"] == pytest.approx(1000 / 30 / found.measures["frame_ms"])


@pytest.mark.parametrize(
    ("frame_ms", "calm", "state", "mend"),
    [(10.0, True, "ok", ""), (30.0, True, "warning", "openvino"), (60.0, False, "warning", "other work")],
)
def test_headroom_is_judged_at_the_frame_rate(frame_ms: float, calm: bool, state: str, mend: str) -> None:
    speed = Speed(frame_ms, frame_ms, frame_ms / 2, frame_ms / 2)
    found = judge_speed("eager", speed, frame_rate=30.0, calm=calm, notes=("visual: tried",))
    assert found.state == state
    assert mend in found.mend
    assert found.says.count("visual: tried") == 1
    assert speed.headroom(15.0) == 2 * speed.headroom(30.0)
