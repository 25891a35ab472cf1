"""What is logged of a run: a line when something changes that a person acts on, and none otherwise."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from stream.messages import InputStatus, Marker
from stream.sinks.log import QUIET_S, LogSink
from tests.stream.brokers import estimate, status

OK = InputStatus("ok", "640x480 at 30")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, dict[str, Any]]]:
    """Level, event and fields of each line so far; read it again after each step."""
    caplog.set_level(logging.INFO, "stream")

    class Lines(list[tuple[str, str, dict[str, Any]]]):
        def take(self) -> list[tuple[str, str, dict[str, Any]]]:
            lines = [(r.levelname, r.event, r.fields) for r in caplog.records]  # type: ignore[attr-defined]
            caplog.clear()
            return lines

    return Lines()


def test_a_run_begins_pauses_goes_on_and_stops(logged: Any) -> None:
    sink = LogSink(refused=["CUDA: no such device"])
    notes = ("a drawn person", "CUDA: no such device")
    sink.offer_status(status(inputs={"camera": OK}, notes=notes))
    lines = logged.take()
    assert [event for _, event, _ in lines] == ["started", "note", "refused"]
    assert lines[0][2]["bundle"] == "demo"
    for _ in range(3):
        sink.offer_status(status(inputs={"camera": OK}, notes=notes))
        sink.offer(estimate(1))
    assert logged.take() == []
    for phase in ("paused", "running", "stopped"):
        sink.offer_status(status(inputs={"camera": OK}, phase=phase))
    assert logged.take() == [
        ("INFO", "paused", {}),
        ("INFO", "resumed", {}),
        ("INFO", "stopped", {"frames": 30, "settled": 20}),
    ]


def test_a_part_that_is_not_there_is_refused_with_the_way_out(logged: Any) -> None:
    off = InputStatus("off", "not installed", "models-pull words")
    LogSink().offer_status(status(inputs={"camera": OK, "recogniser": off, "microphone": InputStatus("off")}))
    refused = [fields for _, event, fields in logged.take() if event == "refused"]
    assert refused == [{"part": "recogniser", "way_out": "models-pull words"}]


def test_an_input_is_lost_once_and_found_once(logged: Any) -> None:
    clock = Clock()
    sink = LogSink(clock=clock)
    lost = InputStatus("lost", "unplugged", "plug it in")
    waiting = InputStatus("waiting")
    for each in (OK, lost, lost, waiting, OK, OK, waiting, waiting, waiting, OK, InputStatus("ended")):
        clock.now += 1
        sink.offer_status(status(inputs={"camera": each}))
    lines = logged.take()[1:]
    assert [(level, event, fields["what"]) for level, event, fields in lines] == [
        ("WARNING", "lost", "camera"),
        ("WARNING", "recovered", "camera"),
    ] * 2
    assert lines[0][2] == {"what": "camera", "detail": "unplugged", "way_out": "plug it in"}


def test_a_moment_of_silence_is_no_loss(logged: Any) -> None:
    clock = Clock()
    sink = LogSink(clock=clock)
    for each in (OK, InputStatus("waiting"), OK, InputStatus("waiting"), OK):
        clock.now += 1.5
        sink.offer_status(status(inputs={"camera": each}))
    assert [event for _, event, _ in logged.take()] == ["started"]


def test_an_input_that_is_waited_for_from_the_start_is_not_lost_yet(logged: Any) -> None:
    sink = LogSink()
    for each in (InputStatus("waiting"), OK):
        sink.offer_status(status(inputs={"camera": each}))
    assert [event for _, event, _ in logged.take()] == ["started"]


def test_each_step_of_the_ladder_is_a_line_unless_it_was_asked_for(logged: Any) -> None:
    sink = LogSink()
    for degraded in (None, "visual-2", "visual-2", "visual-3", None):
        sink.offer_status(status(degraded=degraded))
    rungs = [fields["rung"] for _, event, fields in logged.take() if event == "ladder"]
    assert rungs == ["visual-2", "visual-3", "full"]
    pinned = LogSink()
    pinned.offer_status(status(budget="one-fold", degraded="one-fold"))
    assert [event for _, event, _ in logged.take() if event == "ladder"] == []


def test_drops_are_said_when_they_begin_and_again_after_a_quiet_while(logged: Any) -> None:
    clock = Clock()
    sink = LogSink(clock=clock)
    said = []
    for clock.now, number in enumerate([0, 3, 8, 8, 20, 20], start=1):
        sink.offer_status(status(drops={"estimate_busy": number, "camera_surplus": 100 * number}))
        said += [fields for _, event, fields in logged.take() if event == "drops"]
    assert said == [{"cause": "estimate_busy", "number": 3}]
    clock.now += QUIET_S
    sink.offer_status(status(drops={"estimate_busy": 21}))
    assert [fields["number"] for _, event, fields in logged.take() if event == "drops"] == [21]


def test_a_run_that_has_a_name_is_named(logged: Any, caplog: pytest.LogCaptureFixture) -> None:
    LogSink("desk").offer_status(status())
    assert caplog.messages[0].startswith("desk: runs talk.mp4")
    assert all(fields["run"] == "desk" for _, _, fields in logged.take())


def test_a_marker_is_logged_without_its_text(logged: Any, caplog: pytest.LogCaptureFixture) -> None:
    LogSink().offer_marker(Marker("a private word", 1_700_000_000.0, 2.5, "page"))
    assert "private" not in caplog.text
    assert logged.take() == [("INFO", "marker", {"origin": "page", "time_s": 2.5})]
