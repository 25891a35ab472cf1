"""The package as it is met first: light, complete, documented."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import affectstream

REPOSITORY = Path(__file__).resolve().parent.parent.parent
HEAVY = ("torch", "cv2", "av", "numpy", "transformers", "vosk", "pandas", "matplotlib", "aiomqtt")


def test_importing_it_imports_nothing_heavy() -> None:
    probe = f"import sys, affectstream; print([name for name in {HEAVY} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


@pytest.mark.parametrize("name", affectstream.__all__)
def test_every_name_is_there_and_documented_with_an_example(name: str) -> None:
    assert getattr(affectstream, name) is not None
    assert name in dir(affectstream)
    document = (REPOSITORY / "docs" / "api.md").read_text(encoding="utf-8")
    assert name in " ".join(re.findall(r"^```python\n(.*?)^```", document, flags=re.DOTALL | re.MULTILINE))


def test_another_name_is_not_there() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'emotions'"):
        _ = affectstream.emotions


def test_errors_are_one_family() -> None:
    assert issubclass(affectstream.UserError, affectstream.AffectError)


def test_parts_are_listed_with_the_command_that_installs_them() -> None:
    parts = {part.name: part for part in affectstream.list_parts()}
    assert parts["vosk-tiny"].installed
    assert parts["vosk-tiny"].install == ""
    assert parts["yunet"].install == "models-pull yunet"
