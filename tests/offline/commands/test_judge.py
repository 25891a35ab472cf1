"""`offline-judge`, as somebody at a terminal meets it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.offline.judging.made import write_faces, write_texts, write_voices

if TYPE_CHECKING:
    from pathlib import Path

    from tests.commands import RunCommand

Console = Callable[..., tuple[int, str, str]]


@pytest.fixture
def console(run_command: RunCommand) -> Console:
    """Runs `offline-judge` in this process: status, stdout, stderr."""
    return partial(run_command, "offline-judge")


@pytest.mark.slow
def test_everything_at_once(console: Console, tmp_path: Path) -> None:
    status, out, err = console(
        "demo",
        *("--faces", write_faces(tmp_path / "faces.npz")),
        *("--voices", write_voices(tmp_path / "voices")),
        *("--texts", write_texts(tmp_path / "texts.csv", {"I am happy": (4, 3), "So sad.": (2, 2)})),
        *("--detector", "haar", "--workers", "1"),
        *("--json", tmp_path / "all.json", "--plots", tmp_path / "plots"),
    )
    assert status == 0, err
    assert "face found: 2 of 3 (66.7%)" in out
    assert "voice heard: 1 of 2 (50.0%)" in out
    assert "words said: 2 of 2 (100.0%)" in out
    assert "folds' mean" in out
    assert "happiness" in out
    assert "…" not in out, "it fits 80 columns"
    written = json.loads((tmp_path / "all.json").read_text())
    assert written["command"].startswith("offline-judge demo --faces ")
    assert written["bundle"]["name"] == "demo"
    assert len(written["bundle"]["content_hash"]) == 64
    assert written["options"]["detector_used"] == "haar"
    assert "torch" in written["versions"]
    faces, voices, texts = written["judgements"]
    assert (faces["kind"], faces["items"], faces["present"], faces["available"]) == ("faces", 3, 2, 3)
    assert {(s["reading"], s["subset"]) for s in faces["scores"]} == {
        (reading, subset) for reading in ("centered", "folds' mean") for subset in ("present", "all")
    }
    for score in [*faces["scores"], *voices["scores"], *texts["scores"]]:
        assert -1 <= score["agreement"]["ccc"] <= 1
        assert np.isfinite(list(score["agreement"].values())).all()
    assert [each["name"] for each in voices["each"]] == ["03a01Fa", "08b02Ta"]
    assert voices["each"][0]["labels"]["played emotion"] == [0.8, 0.45]
    for kind in ("faces", "voices", "texts"):
        assert (tmp_path / "plots" / f"{kind}.png").read_bytes().startswith(b"\x89PNG")
        assert f"written: {tmp_path / 'plots' / kind}.png\n" in out
    assert f"written: {tmp_path / 'all.json'}\n" in out


@pytest.mark.slow
def test_clips_and_talkers(console: Console, tmp_path: Path, fixtures: Path, people: Path) -> None:
    status, out, err = console(
        "demo",
        *("--clips", fixtures / "clips", "--votes", people / "cremad-fixture-votes.csv", "--limit", "1"),
        *("--talking", fixtures / "clips" / "bbaf2n.mpg", "--detector", "haar", "--workers", "1"),
        *("--json", tmp_path / "all.json", "--plots", tmp_path / "plots"),
    )
    assert status == 0, err
    assert "1 clips (evenly spread over 3)" in out
    assert "largest deviation from zero" in out
    assert "…" not in out, "it fits 80 columns"
    clips, talking = json.loads((tmp_path / "all.json").read_text())["judgements"]
    assert {score["against"] for score in clips["scores"]} == {"voice", "face", "both"}
    assert talking["scores"] == []
    assert talking["largest_deviation"]["name"] == "bbaf2n"
    assert (tmp_path / "plots" / "talking.png").exists()


def test_the_map_needs_no_bundle(console: Console) -> None:
    status, out, _ = console("--maps")
    assert status == 0
    assert "surprise" in out
    assert "+0.75" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "name the bundle to judge"),
        (("demo",), "there is nothing to judge by"),
        (("demo", "--faces", "absent.npz"), "absent.npz does not exist"),
        (("demo", "--voices", "absent"), "absent is no folder"),
        (("demo", "--texts", "absent.csv"), "absent.csv does not exist"),
        (("demo", "--texts", "absent.txt"), "neither EmoBank's .csv nor GoEmotions' .tsv"),
        (("demo", "--clips", "."), "--clips and --votes belong together"),
        (("demo", "--votes", "a.csv", "--talking", "."), "--clips and --votes belong together"),
        (("demo", "--talking", "absent"), "absent does not exist"),
        (("demo", "--limit", "0", "--talking", "."), "--limit"),
    ],
)
def test_what_cannot_be_judged_is_one_line(
    console: Console,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    status, out, err = console(*arguments)
    assert (status, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_a_bundle_or_detector_that_is_not_there_is_one_line(
    console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AFFECT_MODELS", str(tmp_path / "none"))
    faces = write_faces(tmp_path / "faces.npz")
    for arguments, message in (
        (("other", "--faces", faces), "there is no bundle 'other'"),
        (("demo", "--faces", faces, "--detector", "yunet"), "models-pull yunet"),
    ):
        status, out, err = console(*arguments)
        assert (status, out) == (2, "")
        assert message in err
        assert err.count("\n") == 1


def test_a_clip_that_cannot_be_read_is_one_line(console: Console, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"nothing of the kind")
    status, out, err = console("demo", "--talking", tmp_path, "--detector", "haar", "--workers", "1")
    assert (status, out) == (2, "")
    assert "a.mp4" in err
    assert err.count("\n") == 1


def test_help_loads_no_torch() -> None:
    code = (
        "import sys; from offline.commands.judge import app; app(['--help'], standalone_mode=False); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
