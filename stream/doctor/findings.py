"""What an examination finds: one line for each thing that a run needs, and the verdict over all. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from models.errors import UserError

State = Literal["ok", "warning", "failed"]
"""`warning`: the run goes on without it, or with less. `failed`: it cannot run so."""


@dataclass(frozen=True)
class Finding:
    """One thing that was examined.

    `says` is what was found, in a line; `mend` the command or the step that mends it, empty where nothing needs to be
    mended. `measures` are the numbers behind it, units in their names.
    """

    subject: str
    state: State
    says: str
    mend: str = ""
    measures: Mapping[str, float] = field(default_factory=dict)

    def no_worse_than(self, state: Literal["ok", "warning"]) -> Finding:
        """The same finding about something that the run can do without."""
        return replace(self, state=state) if _WORSE[self.state] > _WORSE[state] else self

    def to_json(self) -> dict[str, Any]:
        """As `stream-doctor --json` prints it; numbers to four digits."""
        return {
            "subject": self.subject,
            "state": self.state,
            "says": self.says,
            "mend": self.mend,
            "measures": {name: float(f"{value:.4g}") for name, value in self.measures.items()},
        }


_WORSE: dict[State, int] = {"ok": 0, "warning": 1, "failed": 2}


def failure(subject: str, error: UserError, *, mend: str = "") -> Finding:
    """What a `UserError` says, as a finding; `mend` is taken where the error itself names no way out apart."""
    return Finding(subject, "failed", error.problem, error.way_out or mend)


@dataclass(frozen=True)
class Report:
    """All findings about one command, `job`, in the order in which they were made."""

    job: str
    findings: tuple[Finding, ...]

    @property
    def can_run(self) -> bool:
        """Whether the command can do its work here."""
        return not self._subjects("failed")

    @property
    def verdict(self) -> str:
        """Whether it can, in one line, and what stands in its way."""
        failed, warnings = self._subjects("failed"), self._subjects("warning")
        if failed:
            return f"`{self.job}` cannot run here: first mend {_listed(failed)}"
        if warnings:
            return f"`{self.job}` can run here; it would do better with {_listed(warnings)} mended"
        return f"`{self.job}` can run here; nothing needs to be mended"

    def to_json(self) -> dict[str, Any]:
        """As `stream-doctor --json` prints it."""
        return {
            "job": self.job,
            "can_run": self.can_run,
            "verdict": self.verdict,
            "findings": [finding.to_json() for finding in self.findings],
        }

    def _subjects(self, state: State) -> list[str]:
        return [finding.subject for finding in self.findings if finding.state == state]


def _listed(subjects: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(subjects))
