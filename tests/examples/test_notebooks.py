"""The notebooks run from top to bottom with the wheel, as for somebody who opens them, and hold no output."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbclient
import nbformat
import pytest

if TYPE_CHECKING:
    from tests.wheel import Installed

RunNotebook = Callable[[str], list[Any]]
"""Gives the outputs of all cells of the notebook of a name; raises what a cell raises."""

REPOSITORY = Path(__file__).resolve().parent.parent.parent
EXAMPLES = REPOSITORY / "examples"


@pytest.fixture
def run_notebook(installed: Installed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunNotebook:
    """Runs notebooks in a user's project, by a kernel of the Python that has the wheel."""
    kernel = tmp_path / "kernels" / "installed" / "kernel.json"
    kernel.parent.mkdir(parents=True)
    start = [str(installed.python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    kernel.write_text(json.dumps({"argv": start, "display_name": "installed", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    monkeypatch.delenv("PYTHONPATH", raising=False)

    def run(name: str) -> list[Any]:
        notebook = nbformat.read(EXAMPLES / f"{name}.ipynb", as_version=4)
        nbclient.NotebookClient(
            notebook,
            timeout=600,
            kernel_name="installed",
            resources={"metadata": {"path": str(installed.project)}},
        ).execute()
        return [output for cell in notebook.cells for output in cell.get("outputs", [])]

    return run


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
def test_a_recording_goes_from_file_to_plot(run_notebook: RunNotebook) -> None:
    outputs = run_notebook("recording")
    text = text_of(outputs)
    assert "<Result demo.mp4: 960 frames, 32.0 s, 63 words>" in text
    assert pictures_of(outputs) == 1
    assert "camera: ok" in text


@pytest.mark.slow
def test_a_live_source_is_watched_and_a_session_fed(run_notebook: RunNotebook) -> None:
    outputs = run_notebook("live")
    text = text_of(outputs)
    assert "face False" in text
    assert pictures_of(outputs) == 1
    assert "Latency(p50=" in text
