"""A report for people: a table on a terminal, a line for each finding elsewhere; and the verdict below it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from stream.view.panel import clean

if TYPE_CHECKING:
    from rich.console import RenderableType

    from stream.doctor.findings import Report

STYLES: Final = {"ok": "green", "warning": "yellow", "failed": "bold red"}


def as_table(report: Report) -> RenderableType:
    """A row for each finding; what is to be done about it in its last column. No text is read as markup."""
    table = Table("", "what", "found", "to mend it", box=None, pad_edge=False)
    for finding in report.findings:
        table.add_row(
            Text(finding.state, style=STYLES[finding.state]),
            Text(clean(finding.subject)),
            Text(clean(finding.says)),
            Text(clean(finding.mend), style="bold"),
        )
    verdict = Text(clean(report.verdict), style="bold green" if report.can_run else "bold red")
    return Group(table, Text(), verdict)


def as_lines(report: Report) -> list[str]:
    """One for each finding, and the verdict; nothing is folded or padded."""
    lines = [
        f"{finding.state:8} {finding.subject}: {finding.says}"
        + (f" -> {finding.mend}" if finding.mend else "")
        for finding in report.findings
    ]
    return [clean(line) for line in [*lines, report.verdict]]


def print_report(report: Report) -> None:
    """On stdout."""
    console = Console(highlight=False)
    if console.is_terminal:
        console.print(as_table(report))
    else:
        print("\n".join(as_lines(report)), flush=True)
