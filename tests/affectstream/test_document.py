"""Every example of `docs/api.md` runs, in order, in one process, over a recording and what stands for a camera."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.affectstream.clips import cut_demo

REPOSITORY = Path(__file__).resolve().parent.parent.parent
DOCUMENT = (REPOSITORY / "docs" / "api.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```", DOCUMENT, flags=re.DOTALL | re.MULTILINE)
CAMERA = "lavfi:testsrc2=s=320x240:r=30"
"""What stands for a camera, and has no sound of its own."""


@pytest.mark.slow
def test_every_example_runs(tmp_path: Path) -> None:
    cut_demo(tmp_path / "talk.mp4", 3.0)
    assert len(EXAMPLES) > 8
    script = "\n".join(EXAMPLES).replace("camera:0", CAMERA).replace(', microphone="default"', "")
    (tmp_path / "examples.py").write_text(script, encoding="utf-8")
    ran = subprocess.run(
        [sys.executable, "-c", "import runpy; runpy.run_path('examples.py', run_name='__main__')"],
        cwd=tmp_path,
        env={**os.environ, "MPLBACKEND": "agg", "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "missing.mp4: no such file" in ran.stdout
    assert (tmp_path / "talk.png").is_file()
