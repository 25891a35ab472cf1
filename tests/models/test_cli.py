"""`models-pull`, `models-list`, `models-info`, as somebody at a terminal meets them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rich.console import Console as RichConsole

from models import cli
from models.bundle.card import CARD
from models.bundle.load import resolve_bundle
from models.bundle.manifest import read_manifest
from models.parts.registry import find_part
from tests.commands import run_in_own_process

if TYPE_CHECKING:
    from tests.commands import RunCommand

Console = Callable[..., tuple[int, str, str]]


@pytest.fixture
def console(monkeypatch: pytest.MonkeyPatch, run_command: RunCommand, tmp_path: Path) -> Console:
    """Runs a command in this process, with a folder of models of the test's own: status, stdout, stderr."""
    monkeypatch.setenv("AFFECT_MODELS", str(tmp_path / "models"))
    return run_command


def line_with(text: str, start: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(start))


class TestPull:
    def test_from_a_file(self, console: Console, fixtures: Path, tmp_path: Path) -> None:
        file = fixtures / "face" / "face_detection_yunet_2023mar.onnx"
        status, out, err = console("models-pull", "yunet", "--from", file)
        assert (status, err) == (0, "")
        assert out.startswith(f"yunet: {tmp_path / 'models' / 'yunet' / file.name} (sha256 8f2383e4dd3c)")
        assert find_part("yunet") is not None

    def test_a_file_that_is_not_the_part(self, console: Console, tmp_path: Path) -> None:
        (tmp_path / "other.onnx").write_bytes(b"other")
        status, _, err = console("models-pull", "yunet", "--from", tmp_path / "other.onnx")
        assert status == 2
        assert err.startswith("models-pull: yunet from ")
        assert "is refused: its hash is" in err
        assert err.count("\n") == 1

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (["yolo"], "there is no part 'yolo': choose from vosk-tiny, "),
            (["vosk-tiny"], "vosk-tiny is shipped with the package"),
            (["yunet", "vggish", "--from", "x"], "--from gives one part"),
            (["yunet", "--from", "/nowhere/at/all"], "/nowhere/at/all does not exist"),
            ([], "Missing argument"),
        ],
    )
    def test_what_cannot_be(self, console: Console, arguments: list[str], expected: str) -> None:
        status, out, err = console("models-pull", *arguments)
        assert (status, out) == (2, "")
        assert err.startswith(f"models-pull: {expected}")
        assert err.count("\n") == 1

    def test_all_that_a_real_person_needs_from_a_folder_with_sizes_and_licences(
        self, console: Console, fixtures: Path, tmp_path: Path
    ) -> None:
        stick = tmp_path / "stick"
        shutil.copytree(fixtures / "vosk-tiny", stick / "vosk-model-small-en-us-0.15")
        shutil.copyfile(fixtures / "face" / "face_detection_yunet_2023mar.onnx", stick / "renamed.bin")
        status, out, err = console("models-pull", "recommended", "--from", stick)
        assert status == 0
        assert [line.partition(":")[0] for line in out.splitlines()] == [
            "yunet",
            "vosk-model-small-en-us-0.15",
        ]
        assert "yunet (face detector, 1 MB, MIT), vosk-model-small-en-us-0.15 (recogniser, 40 MB, " in err
        # What is installed and sound is not asked for again.
        shutil.rmtree(stick)
        stick.mkdir()
        assert console("models-pull", "recommended", "--from", stick)[:2] == (0, out)

    def test_one_missing_part_does_not_keep_the_others_from_being_installed(
        self, console: Console, fixtures: Path, tmp_path: Path
    ) -> None:
        stick = tmp_path / "stick"
        shutil.copytree(fixtures / "face", stick)
        status, out, err = console("models-pull", "recommended", "--from", stick)
        assert status == 2
        assert out.startswith("yunet: ")
        last = err.splitlines()[-1]
        assert "has no vosk-model-small-en-us-0.15: fetch https://alphacephei.com/" in last


class TestList:
    def test_names_what_is_installed_and_how_to_install_the_rest(
        self, console: Console, fixtures: Path, tmp_path: Path
    ) -> None:
        console("models-pull", "yunet", "--from", fixtures / "face")
        status, out, _ = console("models-list")
        assert status == 0
        assert "no: models-pull vggish" in line_with(out, "vggish")
        installed = line_with(out, "yunet")
        for fact in ("face detector", "MIT", "8f2383e4dd3c", str(tmp_path / "models" / "yunet")):
            assert fact in installed
        assert "vosk-tiny" in line_with(out, "vosk-tiny").split("Apache-2.0")[1]
        assert f"Folder for parts: {tmp_path / 'models'}" in out

    def test_shows_a_part_that_is_refused(self, console: Console, fixtures: Path) -> None:
        console("models-pull", "yunet", "--from", fixtures / "face")
        part = find_part("yunet")
        assert part is not None
        part.path.write_bytes(b"altered")
        status, out, _ = console("models-list")
        assert status == 0
        assert "refused, see below" in line_with(out, "yunet ")
        assert "install it again with `models-pull yunet`" in out


class TestInfo:
    def test_says_what_the_demo_bundle_is(self, console: Console) -> None:
        status, out, err = console("models-info", "demo")
        assert (status, err) == (0, "")
        assert line_with(out, "preset").split()[1:] == ["compact,", "for", "valence", "and", "arousal"]
        assert line_with(out, "sees").split()[1:3] == ["121", "frames,"]
        assert "in the bundle" in line_with(out, "vosk-tiny") or "yes: " in line_with(out, "vosk-tiny")

    def test_an_untrained_bundle_says_so(self, console: Console, tmp_path: Path) -> None:
        from models.bundle.untrained import NOTE, make_untrained_bundle

        make_untrained_bundle(tmp_path / "two", folds=2)
        _, out, _ = console("models-info", tmp_path / "two")
        assert line_with(out, "trained").split() == ["trained", "no"]
        assert NOTE in line_with(out, "note")
        assert [line.split()[0] for line in out.splitlines() if "none" in line] == ["0", "1"]

    def test_names_missing_parts_and_the_command(self, console: Console, tmp_path: Path) -> None:
        from models.bundle.load import FeatureRecipe, PartUse, save_bundle
        from models.networks.fold import EmotionNetwork
        from models.spec import COMPACT

        spec = COMPACT.model_copy(update={"visual": None, "language": None})
        recipe = FeatureRecipe(audio_encoder=PartUse(name="vggish"))
        save_bundle(
            tmp_path / "sound",
            name="sound",
            folds=[EmotionNetwork(spec)],
            recipe=recipe,
            trained=True,
            validation_ccc=[{"valence": 0.4567, "arousal": 0.5}],
        )
        status, out, _ = console("models-info", tmp_path / "sound")
        assert status == 0
        assert "no: models-pull vggish" in line_with(out, "vggish")
        assert line_with(out, "0").split()[-2:] == ["0.457", "0.500"]
        assert line_with(out, "trained").split() == ["trained", "yes"]

    def test_a_card_is_mentioned_and_printed_as_it_is(self, console: Console, tmp_path: Path) -> None:
        copy = Path(shutil.copytree(resolve_bundle("demo"), tmp_path / "copy"))
        (copy / CARD).unlink(missing_ok=True)
        _, out, _ = console("models-info", copy)
        assert "--card" not in out
        text = f"---\nlicense: apache-2.0\n---\n\n# [bold]A card[/] {'of long lines ' * 30}\n\n| a | b |\n|---|---|\n"
        (copy / CARD).write_text(text)
        _, out, _ = console("models-info", copy)
        assert line_with(out, "card").split() == ["card", "models-info", str(copy), "--card"]
        assert console("models-info", copy, "--card") == (0, text, "")

    def test_a_card_is_laid_out_on_a_terminal(
        self, console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(cli, "_console", lambda: RichConsole(force_terminal=True, width=60))
        copy = Path(shutil.copytree(resolve_bundle("demo"), tmp_path / "copy"))
        (copy / CARD).write_text("---\nlicense: apache-2.0\n---\n\n## For what\n\n- one\n- two\n")
        status, out, err = console("models-info", copy, "--card")
        assert (status, err) == (0, "")
        assert "For what" in out
        assert "•" in out
        assert "license" not in out
        assert "##" not in out

    def test_a_card_of_an_earlier_bundle_is_said_to_be_one(self, console: Console, tmp_path: Path) -> None:
        copy = Path(shutil.copytree(resolve_bundle("demo"), tmp_path / "copy"))
        for content, said in ((read_manifest(copy).content_hash, 0), ("0" * 64, 1)):
            (copy / CARD).write_text(f"---\nbundle_sha256: {content}\n---\nA card.\n")
            status, out, err = console("models-info", copy, "--card")
            assert status == 0
            assert out.endswith("A card.\n")
            assert err.count("written for other content") == err.count("\n") == said

    def test_a_wrong_name_is_told_before_the_networks_are_loaded(self) -> None:
        ran = run_in_own_process("models-info", "nosuch", without="torch")
        assert ran.returncode == 2
        assert ran.stderr.startswith("models-info: there is no bundle 'nosuch': give a folder, or ")
        assert ran.stderr.count("\n") == 1

    def test_without_a_card_there_is_one_line(self, console: Console, tmp_path: Path) -> None:
        copy = Path(shutil.copytree(resolve_bundle("demo"), tmp_path / "copy"))
        (copy / CARD).unlink(missing_ok=True)
        status, out, err = console("models-info", copy, "--card")
        assert (status, out) == (2, "")
        assert err == f"models-info: the bundle in {copy} has no model card: offline-card writes one\n"

    def test_a_damaged_bundle_is_one_line(self, console: Console, tmp_path: Path) -> None:
        copy = Path(shutil.copytree(resolve_bundle("demo"), tmp_path / "copy"))
        (copy / "trunk.safetensors").write_bytes(b"damaged")
        status, out, err = console("models-info", copy)
        assert (status, out) == (2, "")
        assert err.startswith(f"models-info: {copy / 'trunk.safetensors'} is damaged or altered")
        assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "example"),
    [
        ("models-pull", "models-pull yunet"),
        ("models-list", "Example: models-list"),
        ("models-info", "models-info demo"),
    ],
)
def test_help_has_an_example(console: Console, name: str, example: str) -> None:
    status, out, _ = console(name, "--help")
    assert status == 0
    assert example in out
