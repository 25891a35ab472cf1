"""`offline-card`, as somebody at a terminal meets it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from models.bundle.manifest import read_manifest
from models.cli import info_command
from offline.commands.card import command
from tests.offline.cards.conftest import folder, people
from tests.offline.cards.made import judged, write_judgement

if TYPE_CHECKING:
    from pathlib import Path

    from models.bundle.load import Bundle

__all__ = ["folder", "people"]  # the fixtures, for pytest to find

Console = Callable[..., tuple[int, str, str]]

HELD_BACK = ("--fact", "held_back=Nothing of it was trained on.")


@pytest.fixture
def console(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Console:
    """Runs a command as its console script does: status, stdout, stderr."""

    def run(
        *arguments: str | Path, name: str = "offline-card", main: Callable[[], None] = command
    ) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        status = 0
        try:
            main()
        except SystemExit as e:
            status = int(e.code or 0)
        out, err = capsys.readouterr()
        return status, out, err

    return run


def test_the_card_goes_into_the_bundle_and_models_info_prints_it(
    console: Console, folder: Path, people: Bundle, tmp_path: Path
) -> None:
    judgement = write_judgement(tmp_path / "faces.json", people, judged())
    before = read_manifest(folder).content_hash
    status, out, err = console(folder, judgement, *HELD_BACK)
    assert (status, err) == (0, "")
    assert out == f"written: {folder / 'README.md'}\n"
    assert read_manifest(folder).content_hash == before
    text = (folder / "README.md").read_text()
    assert console(folder, "--card", name="models-info", main=info_command) == (0, text, "")
    status, out, err = console(folder, judgement, *HELD_BACK)
    assert (status, out) == (2, "")
    assert "exists already: give another file with --out, or --overwrite to replace it" in err
    assert console(folder, judgement, *HELD_BACK, "--overwrite")[0] == 0
    assert (folder / "README.md").read_text() == text, "the earlier card counts in no figure"


def test_it_can_be_printed_and_written_elsewhere(console: Console, folder: Path, tmp_path: Path) -> None:
    status, printed, err = console(folder, "--template", "general", "-o", "-")
    assert (status, err) == (0, "")
    assert printed.startswith("---\n")
    assert console(folder, "--template", "general", "-o", tmp_path / "card.md")[0] == 0
    assert (tmp_path / "card.md").read_text() == printed
    assert not (folder / "README.md").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "asks for the fact held_back: give --fact held_back=TEXT"),
        (("--fact", "held_back"), "'held_back' is no fact: give --fact NAME=TEXT"),
        (("--fact", "a=1", "--fact", "a=2"), "the fact a is given twice"),
        ((*HELD_BACK, "--fact", "weather=fair"), "no place for the fact weather"),
        (("absent.json",), "absent.json does not exist"),
        (("--template", "absent.md"), "there is no template 'absent.md'"),
    ],
)
def test_what_cannot_be_is_one_line(
    console: Console,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    status, out, err = console(folder, *arguments)
    assert (status, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert not (folder / "README.md").exists()


def test_a_bundle_that_is_not_there_is_one_line(console: Console) -> None:
    status, out, err = console("nobody")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "there is no bundle 'nobody'" in err


def test_help_loads_no_torch() -> None:
    code = (
        "import sys; from offline.commands.card import app; app(['--help'], standalone_mode=False); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
