"""Clock, disk and versions of the machine."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from stream.doctor.machine import (
    NEEDED,
    OPTIONAL,
    ClockReading,
    examine_disk,
    installed_versions,
    judge_clock,
    judge_versions,
    newest_file_s,
    used_folders,
)

if TYPE_CHECKING:
    from pathlib import Path


def test_this_machines_clock() -> None:
    now = ClockReading.now()
    assert judge_clock(now, ClockReading.now(), newest_file_s=0.0).state == "ok"
    assert 0 < newest_file_s() <= time.time() + 60


def test_a_clock_that_is_set_meanwhile_or_is_long_behind() -> None:
    begin = ClockReading(1e9, 5.0)
    assert judge_clock(begin, ClockReading(1e9 + 2, 7.0), newest_file_s=0.0).state == "ok"
    moved = judge_clock(begin, ClockReading(1e9 + 3, 7.0), newest_file_s=0.0)
    assert (moved.state, "+1000 ms" in moved.says) == ("warning", True)
    behind = judge_clock(begin, ClockReading(1e9 + 2, 7.0), newest_file_s=2e9)
    assert behind.state == "warning"
    assert "NTP" in behind.mend


def test_room_and_leave_to_write(tmp_path: Path) -> None:
    assert set(used_folders()) == {"parts", "accelerated networks", "outbox"}
    assert examine_disk({"parts": tmp_path / "not" / "yet" / "there"}, least_free_mb=0.001).state == "ok"
    full = examine_disk({"outbox": tmp_path}, least_free_mb=1e12)
    assert full.state == "warning"
    assert "MB free for outbox" in full.says
    (tmp_path / "file").touch()
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_versions_of_what_is_needed() -> None:
    found = judge_versions(installed_versions([*NEEDED, *OPTIONAL]))
    assert found.state == "ok", found
    assert "torch 2." in found.says
    without = judge_versions({name: "1" for name in (*NEEDED, *OPTIONAL) if name != "amqtt"})
    assert (without.state, without.mend) == ("warning", "pip install amqtt")
    lacking = judge_versions(dict.fromkeys(OPTIONAL, "1") | dict.fromkeys(NEEDED[:1]))
    assert lacking.state == "failed"
    assert "torch" in lacking.mend
