"""The programs in docs/lsl.md, run as they are written there beside a real run."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.commands import command_line
from tests.stream.lsl.recorder import recording, write_xdf
from tests.stream.lsl.test_sink import recorded

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "lsl.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", DOCUMENT.read_text(encoding="utf-8"), flags=re.M | re.S)


@pytest.mark.slow
def test_the_programs_of_the_document_run(pylsl: Any, tmp_path: Path) -> None:
    receive, mark, read = BLOCKS
    arguments = ["--demo", "--accelerator", "eager", "--lsl", "--lsl-markers", "--view", "none"]
    log = ["--log-format", "json", "--log-level", "info"]
    run = subprocess.Popen(
        command_line("stream-run", *arguments, *log), stderr=subprocess.PIPE, cwd=tmp_path, text=True
    )

    def program(text: str) -> str:
        ran = subprocess.run(
            [sys.executable, "-c", text],
            capture_output=True,
            text=True,
            timeout=120,
            cwd=tmp_path,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    try:
        with recording(settled := recorded(pylsl, "affectstream settled", 120)):
            received = program(receive).splitlines()
            program(mark)
            while len(settled.samples) < 10:
                assert run.poll() is None
    finally:
        run.terminate()
        _, said = run.communicate(timeout=60)
    assert len(received) == 30
    assert all(
        re.fullmatch(r"valence [+-]\d\.\d\d  arousal [+-]\d\.\d\d  captured \d+ ms ago", each)
        for each in received
    )
    events = [json.loads(line) for line in said.splitlines()]
    assert any(line["event"] == "marker" and line["origin"] == "lsl" for line in events), events
    write_xdf(tmp_path / "recording.xdf", [settled])
    assert program(read)
