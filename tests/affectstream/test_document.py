"""Every example of `docs/api.md` runs from the wheel, in order, in one process, over a recording and a stand-in."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.affectstream.clips import cut_demo

if TYPE_CHECKING:
    from tests.wheel import Installed

REPOSITORY = Path(__file__).resolve().parent.parent.parent
DOCUMENT = (REPOSITORY / "docs" / "api.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```", DOCUMENT, flags=re.DOTALL | re.MULTILINE)
CAMERA = "lavfi:testsrc2=s=320x240:r=30"
"""What stands for a camera, and has no sound of its own."""


@pytest.mark.slow
def test_every_example_runs(installed: Installed, tmp_path: Path) -> None:
    shutil.copytree(installed.project, tmp_path, dirs_exist_ok=True)
    cut_demo(tmp_path / "talk.mp4", 3.0)
    assert len(EXAMPLES) > 8
    script = "\n".join(EXAMPLES).replace("camera:0", CAMERA).replace(', microphone="default"', "")
    (tmp_path / "examples.py").write_text(script, encoding="utf-8")
    ran = installed.run("python", "examples.py", folder=tmp_path)
    assert "missing.mp4: no such file" in ran.stdout
    assert (tmp_path / "talk.png").is_file()
