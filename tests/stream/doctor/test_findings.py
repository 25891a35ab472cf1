"""A report can run or not by its worst finding, and its verdict names what to mend."""

from __future__ import annotations

import json

import pytest

from models.errors import UserError
from stream.doctor.findings import Finding, Report, State, failure


def report(*states: State) -> Report:
    return Report("stream-run --camera 0", tuple(Finding(f"thing {n}", s, "x") for n, s in enumerate(states)))


@pytest.mark.parametrize(
    ("states", "can_run", "named"),
    [
        (("ok", "ok"), True, "nothing needs to be mended"),
        (("ok", "warning", "warning"), True, "do better with thing 1, thing 2 mended"),
        (("warning", "failed"), False, "cannot run here: first mend thing 1"),
    ],
)
def test_the_verdict_names_what_stands_in_the_way(
    states: tuple[State, ...], can_run: bool, named: str
) -> None:
    found = report(*states)
    assert found.can_run is can_run
    assert named in found.verdict
    assert found.verdict.startswith("`stream-run --camera 0` ")


def test_an_error_becomes_a_finding_with_its_way_out() -> None:
    assert failure("broker", UserError("it is away", way_out="start it")).mend == "start it"
    assert failure("broker", UserError("it is away"), mend="look for it").mend == "look for it"
    assert failure("broker", UserError("it is away", way_out="start it")).says == "it is away"


def test_what_a_run_can_do_without_is_no_worse_than_a_warning() -> None:
    assert Finding("a", "failed", "x").no_worse_than("warning").state == "warning"
    assert Finding("a", "ok", "x").no_worse_than("warning").state == "ok"


def test_a_report_is_json() -> None:
    found = Report("job", (Finding("camera", "ok", "seen", measures={"luma": 123.456}),))
    text = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert text["can_run"] is True
    assert text["findings"][0] == {
        "subject": "camera",
        "state": "ok",
        "says": "seen",
        "mend": "",
        "measures": {"luma": 123.5},
    }
