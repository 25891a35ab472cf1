"""The notebooks run from top to bottom, as for somebody who opens them, and hold no output of an earlier run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest

REPOSITORY = Path(__file__).resolve().parent.parent.parent
EXAMPLES = REPOSITORY / "examples"


def run_notebook(name: str) -> list[Any]:
    """The outputs of all its cells. Raises what a cell raises."""
    notebook = nbformat.read(EXAMPLES / f"{name}.ipynb", as_version=4)
    nbclient.NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(REPOSITORY)}}
    ).execute()
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def text_of(outputs: list[Any]) -> str:
    return "".join(
        str(output.get("text", "")) + str(output.get("data", {}).get("text/plain", "")) for output in outputs
    )


def pictures_of(outputs: list[Any]) -> int:
    return sum("image/png" in output.get("data", {}) for output in outputs)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.ipynb")), ids=lambda path: path.stem)
def test_it_is_kept_without_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)


@pytest.mark.slow
def test_a_recording_goes_from_file_to_plot() -> None:
    outputs = run_notebook("recording")
    text = text_of(outputs)
    assert "<Result demo.mp4: 960 frames, 32.0 s, 63 words>" in text
    assert pictures_of(outputs) == 1
    assert "camera: ok" in text


@pytest.mark.slow
def test_a_live_source_is_watched_and_a_session_fed() -> None:
    outputs = run_notebook("live")
    text = text_of(outputs)
    assert "face False" in text
    assert pictures_of(outputs) == 1
    assert "Latency(p50=" in text
