"""A report as a person sees it."""

from __future__ import annotations

from rich.console import Console

from stream.doctor.findings import Finding, Report
from stream.doctor.table import as_lines, as_table

REPORT = Report(
    "stream-run --camera 0",
    (
        Finding("camera 0", "ok", "640x480 [bold]\x1b[31m"),
        Finding("broker", "failed", "away", "start one there"),
    ),
)


def test_a_row_for_each_finding_and_the_verdict_below() -> None:
    console = Console(width=100, record=True, file=None, quiet=False)
    with console.capture() as captured:
        console.print(as_table(REPORT))
    lines = captured.get().splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["what", "ok", "failed"]
    assert "[bold]" in lines[1]
    assert "\x1b[31m" not in captured.get()
    assert "start one there" in lines[2]
    assert lines[-1].startswith("`stream-run --camera 0` cannot run here: first mend broker")


def test_a_line_for_each_finding_in_a_pipe() -> None:
    ok, failed, verdict = as_lines(REPORT)
    assert ok.startswith("ok       camera 0: 640x480 [bold]")
    assert failed == "failed   broker: away -> start one there"
    assert verdict == REPORT.verdict
