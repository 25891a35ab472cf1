"""The terminal: a view that fits and says what matters, lines where there is no terminal, and no surprises."""

from __future__ import annotations

import asyncio
import io
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from stream.broker.connection import BrokerAddress
from stream.messages import Affect, BundleStatus, InputStatus, Latency, Transcript, TranscriptWord
from stream.sinks.base import attached
from stream.view.labels import Agreement, LabelledTrajectory
from stream.view.panel import HISTORY_FRAMES, Panel, bar, chart, clean
from stream.view.terminal import Screen, TerminalSink, subscribe_hint
from tests.stream.brokers import estimate, status


def panel(**changed: Any) -> Panel:
    made = Panel("me", hint="mosquitto_sub -h 127.0.0.1")
    for frame in range(120):
        made.take("estimate", estimate(frame, valence=math.sin(frame / 20)).to_json())
    made.take("status", status(**changed).to_json())
    made.hear("i am so happy to see you")
    return made


def text(made: Panel, width: int = 80, height: int = 24) -> str:
    return "\n".join(line.plain for line in made.lines(width, height))


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (40, 10), (20, 3), (200, 60)])
def test_the_panel_fits_any_terminal(width: int, height: int) -> None:
    lines = panel().lines(width, height)
    assert 0 < len(lines) <= height
    assert max(line.cell_len for line in lines) <= width


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40)])
def test_the_panel_says_what_matters(width: int, height: int) -> None:
    shown = text(
        panel(
            drops={"mqtt_disconnected": 12, "camera_late": 0},
            inputs={"microphone": InputStatus("lost", "unplugged", "plug it in")},
        ),
        width,
        height,
    )
    for word in (
        *("talk.mp4", "running", "valence", "arousal", "-0.500", "±0.100", "● face", "○ voice", "○ words"),
        *("i am so happy to see you", "119", "3.97 s", "30.0 frames/s", "p50 20 ms, p95 30 ms"),
        *("mqtt_disconnected 12", "lost", "unplugged", "plug it in", "demo", "6 folds", "mosquitto_sub"),
    ):
        assert word in shown, word
    assert "camera_late" not in shown


def test_a_degraded_engine_is_shown() -> None:
    assert "degraded to visual-2" in text(panel(degraded="visual-2"))
    assert "degraded" not in text(panel())


def test_what_cannot_be_had_is_noted_and_said_once_in_a_log() -> None:
    made = panel(notes=("visual: openvino int8 does not serve: openvino is not installed",))
    assert "openvino is not installed" in text(made, 120, 40)
    assert sum("openvino is not installed" in line for line in made.introduction()) == 1
    assert "note" not in text(panel(), 120, 40)


def test_the_summary_tells_the_memory_where_the_system_does() -> None:
    def shown(**counters: float) -> str:
        console = Console(width=120, file=io.StringIO(), record=True)
        console.print(panel(counters=counters).summary())
        return console.export_text()

    told = shown(resident_mib=507.4, resident_mib_bundle=311.0, resident_mib_parts=462.2)
    assert "507 MiB (loaded: bundle 311, all parts 462)" in told
    assert "memory" not in shown()


def test_an_untrained_bundle_is_said_loudly_everywhere() -> None:
    made = panel()
    loud = next(
        line for line in made.lines(80, 24) if "untrained: the numbers mean nothing yet" in line.plain
    )
    assert "yellow" in str(loud.style)
    assert "UNTRAINED" in made.plain()
    assert any("UNTRAINED: THE NUMBERS MEAN NOTHING YET" in line for line in made.introduction())
    assert "untrained: the numbers mean nothing yet" in printed(made)
    trained = panel(bundle=BundleStatus("mine", "paper", 6, True))
    everything = text(trained) + trained.plain() + printed(trained) + "".join(trained.introduction())
    assert "ntrained" not in everything
    assert "UNTRAINED" not in everything


def test_what_the_bundle_is_good_for_is_said_wherever_it_is_named() -> None:
    note = "learned from pictures, voices and words of real people: good for trying out, and not for judging anybody"
    made = panel(bundle=BundleStatus("people", "practical", 6, True, note), notes=("a drawn person",))
    for width, height in ((80, 24), (120, 40)):
        lines = text(made, width, height).splitlines()
        place = next(n for n, line in enumerate(lines) if "people, practical, 6 folds" in line)
        assert " ".join(" ".join(lines[place + 1 :]).split()).startswith(f"about {note} note a drawn person")
    introduced = made.introduction()
    place = next(n for n, line in enumerate(introduced) if line.startswith("me: bundle people"))
    assert introduced[place + 1 : place + 3] == [f"me: about {note}", "me: note a drawn person"]
    assert f"people: {note}" in " ".join(printed(made).replace("│", " ").split())
    long = panel(bundle=BundleStatus("people", "practical", 6, True, "long " * 100))
    assert sum("long long" in line for line in text(long).splitlines()) == 2, "two lines of a small terminal"


def test_labels_are_shown_beside_the_estimate_and_compared_in_the_end() -> None:
    labels = LabelledTrajectory(tuple(Affect(math.sin(frame / 20), -0.25) for frame in range(120)))
    agreement = Agreement(labels)
    made = Panel(agreement=agreement)
    for frame in range(120):
        settled = estimate(frame, settled=True, valence=math.sin(frame / 20))
        agreement.take(settled)
        made.take("settled", settled.to_json())
    assert "label" not in text(made), "no estimate yet"
    made.take("estimate", estimate(40).to_json())
    assert f"label {math.sin(2):+.3f}" in text(made)
    assert "label -0.250" in text(made)
    assert "(label -0.250)" in made.plain()
    assert "valence +1.000, arousal +0.000 against the labels" in printed(made)
    assert "label" not in text(panel())


def printed(made: Panel) -> str:
    console = Console(file=io.StringIO(), width=100)
    console.print(made.summary())
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_panel_that_knows_nothing_yet_can_be_shown() -> None:
    made = Panel()
    assert "waiting" in text(made)
    assert made.plain() == ""
    assert made.introduction() == []
    printed(made)


def test_text_from_strangers_cannot_command_the_terminal() -> None:
    evil = "\x1b[2J\x07[bold red]x[/]\r\n\u202e\ud800"
    made = Panel(evil, hint=evil)
    made.take("status", status(source=evil, inputs={evil: InputStatus("lost", evil, evil)}).to_json())
    made.take("transcript", Transcript(0, (TranscriptWord(evil, 0, 1),), True).to_json())
    made.availability(evil)
    everything = "".join([text(made), made.plain(), *made.introduction(), printed(made)])
    for character in "\x1b\x07\r\u202e\ud800":
        assert character not in everything
    assert "[bold red]x[/]" in everything


@settings(deadline=None)
@given(st.text())
def test_cleaned_text_is_one_printable_line(given_text: str) -> None:
    assert clean(given_text).isprintable()
    assert len(clean(given_text)) == len(given_text)


@settings(deadline=None)
@given(value=st.floats(-1, 1), width=st.integers(3, 100))
def test_a_bar_grows_from_its_middle(value: float, width: int) -> None:
    plain = bar(value, width, "").plain
    assert cell_len(plain) in (width, width - 1)
    left, _, right = plain.partition("┼")
    assert len(left) == len(right)
    assert ("█" in right) <= (value > 0)
    assert ("█" in left) <= (value < 0)
    assert abs(plain.count("█") - abs(value) * len(left)) <= 0.5


@settings(deadline=None)
@given(st.lists(st.floats(-1, 1), max_size=HISTORY_FRAMES), st.integers(1, 200), st.integers(1, 8))
def test_a_chart_always_has_its_size(values: list[float], columns: int, rows: int) -> None:
    drawn = chart(values, columns, rows)
    assert [len(row) for row in drawn] == [columns] * rows
    assert all(0x2800 <= ord(cell) <= 0x28FF for row in drawn for cell in row)
    assert any(cell != "\u2800" for row in drawn for cell in row) == bool(values)


def test_a_chart_shows_high_at_the_top_and_the_newest_at_the_right() -> None:
    top, bottom = chart([-1.0] * 150 + [1.0] * 150, 10, 2)
    assert top == "\u2800" * 5 + "⠉" * 5
    assert bottom == "⣀" * 5 + "\u2800" * 5


async def test_without_a_terminal_there_is_a_line_a_second_and_a_summary(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("stream.view.terminal.PLAIN_EVERY_S", 0.1)
    out = io.StringIO()
    sink = TerminalSink("auto", broker=BrokerAddress("127.0.0.1", 1883), console=Console(file=out, width=80))
    async with attached([sink]) as outlet:
        outlet.offer_status(status())
        for frame in range(40):
            outlet.offer(estimate(frame, words="hello"))
            outlet.offer(estimate(frame, settled=True))
            await asyncio.sleep(0.01)
        outlet.offer_status(status(inputs={"camera": InputStatus("lost", "gone", "plug it in")}))
        await asyncio.sleep(0.25)
    lines = out.getvalue().splitlines()
    assert "source talk.mp4" in lines
    assert "UNTRAINED: THE NUMBERS MEAN NOTHING YET" in lines
    assert "mosquitto_sub -h 127.0.0.1 -p 1883 -v -t 'affect/#'" in lines
    assert "camera lost gone → plug it in" in lines
    moving = [line for line in lines if line.startswith("frame ")]
    assert 3 <= len(moving) <= 8
    assert "valence +0.250" in moving[0]
    assert '"hello"' in moving[0]
    assert "summary" in out.getvalue()
    assert "\x1b" not in out.getvalue()


async def test_on_a_terminal_the_view_is_drawn_in_place_and_gives_way_to_the_summary() -> None:
    out = io.StringIO()
    console = Console(file=out, width=80, height=24, force_terminal=True, color_system="standard")
    sink = TerminalSink("full", console=console)
    async with attached([sink]) as outlet:
        outlet.offer_status(status())
        outlet.offer(estimate(0))
        await asyncio.sleep(0.3)
        outlet.offer_transcript(Transcript(0, (TranscriptWord("hello", 0, 1),), False))
        await asyncio.sleep(0.3)
    drawn = out.getvalue()
    assert "hello" in drawn
    assert "\x1b[2K" in drawn or "\x1b[1A" in drawn
    assert "\x1b[?25h" in drawn
    assert "summary" in drawn.rpartition("\x1b[?25h")[2]


async def test_a_slow_terminal_delays_nobody() -> None:
    class Slow(io.StringIO):
        def write(self, written: str) -> int:
            time.sleep(0.2)
            return super().write(written)

    screen = Screen(lambda: [panel()], view="full", console=Console(file=Slow(), force_terminal=True))
    drawing = asyncio.create_task(screen.run())
    await asyncio.sleep(0.3)
    held_s = []
    for _ in range(50):
        began = time.perf_counter()
        await asyncio.sleep(0.001)
        held_s.append(time.perf_counter() - began)
    # The terminal takes 0.2 s for each write; what a busy host does once or twice is its own.
    assert sorted(held_s)[-3] < 0.1
    drawing.cancel()
    await screen.close()


PIPED = """
import asyncio
from tests.stream.brokers import estimate, status
from stream.broker.connection import run
from stream.sinks.base import attached
from stream.view.terminal import TerminalSink

async def main():
    async with attached([TerminalSink("plain")]) as outlet:
        outlet.offer_status(status())
        for frame in range(30):
            outlet.offer(estimate(frame))
            await asyncio.sleep(0.05)

run(main())
"""


async def test_a_reader_that_goes_away_ends_the_drawing_only() -> None:
    reading, writing = os.pipe()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PIPED),
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])},
        stdout=writing,
        stderr=asyncio.subprocess.PIPE,
    )
    os.close(writing)
    assert os.read(reading, 6) == b"source"
    os.close(reading)
    _, complaints = await process.communicate()
    assert complaints == b""
    assert process.returncode == 0


def test_the_way_to_subscribe_hides_the_password() -> None:
    shown = subscribe_hint(BrokerAddress("host", 8883, "me", "secret", tls=True))
    assert "secret" not in shown
    assert "-u me" in shown
    assert "-p 8883" in shown


def test_latency_is_left_out_before_the_first_frame() -> None:
    assert "latency" not in panel(latency_ms=Latency()).plain()
