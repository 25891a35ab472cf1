"""Options from the command line, the environment and a file: which one wins, and what is refused in one line."""

from __future__ import annotations

import sys
import tomllib
from typing import TYPE_CHECKING, Annotated, Literal

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from models.configuration import (
    ConfigOption,
    ConfiguredCommand,
    ShowConfigOption,
    find_file,
    hide_secrets,
)
from models.console import make_app, run
from models.credentials import HIDDEN

if TYPE_CHECKING:
    from pathlib import Path


class OneSource(ConfiguredCommand):
    exclusive = frozenset({"source", "camera", "demo"})


app = make_app("A program.")


@app.command(cls=OneSource)
def program(
    source: Annotated[str | None, typer.Argument()] = None,
    camera: Annotated[str | None, typer.Option()] = None,
    demo: Annotated[bool, typer.Option("--demo")] = False,
    publisher_id: Annotated[str, typer.Option("--id")] = "me",
    frame_rate: Annotated[float | None, typer.Option("--frame-rate", min=1.0, max=240.0)] = None,
    broker: Annotated[str, typer.Option()] = "none",
    page_token: Annotated[str | None, typer.Option()] = None,
    as_json: Annotated[bool, typer.Option("--json")] = False,
    view: Annotated[Literal["auto", "none"], typer.Option()] = "auto",
    label: Annotated[list[str] | None, typer.Option()] = None,
    config: ConfigOption = None,
    show_config: ShowConfigOption = False,
) -> None:
    """A program with options of every kind."""
    typer.echo(f"{source} {camera} {demo} {publisher_id} {frame_rate} {broker} {page_token} {as_json} {view}")


class Script:
    """Runs it as the console script `show`, with a file of options."""

    def __init__(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.file = folder / "config.toml"
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *arguments: str, file: str | None = None, **variables: str) -> str:
        if file is not None:
            self.file.write_text(file, encoding="utf-8")
            arguments = (*arguments, "--config", str(self.file))
        with self._monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", ["show", *arguments])
            status = 0
            try:
                run(app)
            except SystemExit as ended:
                status = int(ended.code or 0)
        said, complained = self._capsys.readouterr()
        if not status:
            return said
        assert status == 2
        assert complained.count("\n") == 1, complained
        return complained


@pytest.fixture
def show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Script:
    return Script(tmp_path, monkeypatch, capsys)


def test_without_file_and_variables_defaults_hold(show: Script) -> None:
    assert show() == "None None False me None none None False auto\n"


def test_the_command_line_beats_variables_beat_the_commands_table_beats_what_is_shared(show: Script) -> None:
    shared = '[shared]\nid = "shared"\nbroker = "shared"\nview = "none"\njson = true\n'
    file = shared + '[show]\nid = "table"\nbroker = "t"\n'
    assert show("talk.mp4", file=file) == "talk.mp4 None False table None t None True none\n"
    assert show("talk.mp4", file=file, AFFECT_ID="variable").split()[3] == "variable"
    assert show("talk.mp4", "--id", "line", file=file, AFFECT_ID="variable").split()[3] == "line"


@pytest.mark.parametrize("key", ["frame-rate", "frame_rate"])
def test_options_are_written_with_either_kind_of_dash(show: Script, key: str) -> None:
    assert show(file=f"[show]\n{key} = 25\n").split()[4] == "25.0"
    assert show(AFFECT_FRAME_RATE="12.5").split()[4] == "12.5"


def test_a_camera_by_number_may_be_written_as_one(show: Script) -> None:
    assert show(file="[show]\ncamera = 0\n").split()[1] == "0"


@pytest.mark.parametrize(
    ("file", "variables", "labels"),
    [
        ('label = "Smith, John"', {}, ["Smith, John"]),
        ('label = ["a", "b, c"]', {}, ["a", "b, c"]),
        ("label = 2", {}, ["2"]),
        ("", {"AFFECT_LABEL": "a, b"}, ["a", "b"]),
        ("", {}, []),
    ],
)
def test_only_a_variable_is_parted_at_commas(
    show: Script, file: str, variables: dict[str, str], labels: list[str]
) -> None:
    said = show("--show-config", file=f"[show]\n{file}\n", **variables)
    assert tomllib.loads(said)["show"].get("label", []) == labels


@pytest.mark.parametrize(
    ("arguments", "variables", "source"),
    [
        (["talk.mp4"], {}, "talk.mp4 None False"),
        (["--demo"], {}, "None None True"),
        (["--camera", "2"], {}, "None 2 False"),
        ([], {"AFFECT_DEMO": "1"}, "None None True"),
        ([], {"AFFECT_DEMO": "false"}, "None 0 False"),
        ([], {}, "None 0 False"),
    ],
)
def test_the_first_layer_that_gives_a_source_gives_the_only_one(
    show: Script, arguments: list[str], variables: dict[str, str], source: str
) -> None:
    assert show(*arguments, file="[show]\ncamera = 0\n", **variables).startswith(source)


@pytest.mark.parametrize(
    ("file", "named"),
    [
        ("camera = 0\n", "'camera' at its top, which is no command's table"),
        ("[sho]\n", "(is 'show' meant?)"),
        ("[show]\nbrokr = 'x'\n", "'brokr', which is no option (is 'broker' meant?)"),
        ("[shared]\nbrokr = 'x'\n", "[shared] in"),
        ("[shared]\nframe-rates = 25\n", "'frame_rates' (is 'frame_rate' meant?)"),
        ("[show]\nframe_rate = 'fast'\n", "frame_rate = 'fast' from"),
        ("[show]\nframe_rate = 0\n", "greater than or equal to 1"),
        ("[show]\nview = 'full'\n", "'auto' or 'none'"),
        ("[show]\nbroker = ['a']\n", "valid string"),
        ("[show\n", "cannot read the configuration file"),
        ("[show]\nconfig = 'other.toml'\n", "'config', which is no option"),
    ],
)
def test_what_a_file_cannot_mean_is_one_line_that_names_it(show: Script, file: str, named: str) -> None:
    said = show(file=file)
    assert named in said
    assert str(show.file) in said


def test_a_variable_that_does_not_fit_is_named(show: Script) -> None:
    assert "from AFFECT_FRAME_RATE cannot be used" in show(AFFECT_FRAME_RATE="0")


def test_empty_variables_do_not_count(show: Script) -> None:
    assert show(AFFECT_ID="").split()[3] == "me"


def test_what_other_commands_are_told_is_passed_over(show: Script) -> None:
    file = "[shared]\nepochs = 3\nid = 'desk'\n[stream-watch]\ncount = 1\n"
    assert show(file=file).split()[3] == "desk"


def test_a_file_that_is_not_there_is_named(show: Script, tmp_path: Path) -> None:
    assert "there is no configuration file nowhere.toml" in show("--config", "nowhere.toml")
    assert "there is no configuration file" in show(AFFECT_CONFIG=str(tmp_path))


def test_the_users_own_file_is_read_unless_none_is_asked_for(
    show: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platformdirs.user_config_dir", lambda *args, **kwargs: str(tmp_path))
    monkeypatch.delenv("AFFECT_CONFIG")
    assert find_file() is None
    show.file.write_text("[show]\nid = 'mine'\n", encoding="utf-8")
    assert find_file() == show.file
    assert show().split()[3] == "mine"
    assert show("--config", "none").split()[3] == "me"


def test_help_is_given_though_the_file_and_a_variable_are_wrong(show: Script) -> None:
    said = show("--help", file="[show]\nbrokr = 'x'\n", AFFECT_FRAME_RATE="fast")
    assert "A program with options of every kind." in said


def test_the_shell_completes_a_line_though_the_file_is_wrong(
    show: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    show.file.write_text("[show]\nbrokr = 'x'\n", encoding="utf-8")
    monkeypatch.setenv("AFFECT_CONFIG", str(show.file))
    line = typer.main.get_command(app).make_context("show", ["--id", "desk"], resilient_parsing=True)
    assert line.params["publisher_id"] == "desk"


class TestShowConfig:
    FILE = '[show]\ncamera = 0\nbroker = "mqtts://me:hunter2@hub"\npage_token = "hunter3"\n'

    def test_it_says_what_is_in_force_and_where_from_as_toml(self, show: Script) -> None:
        said = show("--show-config", "--id", "desk", file=self.FILE, AFFECT_VIEW="none")
        table = tomllib.loads(said)["show"]
        assert table["camera"] == "0"
        assert table["id"] == "desk"
        assert table["view"] == "none"
        assert table["json"] is False
        assert f'camera = "0"  # {show.file} [show]' in said
        assert 'id = "desk"  # command line' in said
        assert 'view = "none"  # AFFECT_VIEW' in said
        assert "# source =  # not set" in said
        assert "json = false  # default" in said

    def test_it_hides_secrets(self, show: Script) -> None:
        said = show("--show-config", file=self.FILE)
        assert "hunter" not in said
        assert 'broker = "mqtts://me:***@hub"' in said
        assert 'page_token = "***"' in said

    def test_what_it_prints_is_a_file_that_means_the_same(self, show: Script) -> None:
        said = show("--show-config", "--frame-rate", "25", file="[show]\ncamera = 0\n")
        assert show(file=said) == show("--frame-rate", "25", file="[show]\ncamera = 0\n")


def test_a_refused_secret_is_not_repeated(show: Script) -> None:
    said = show(file="[show]\npage_token = ['hunter3']\n")
    assert "page_token = *** from" in said


@given(
    user=st.from_regex(r"[a-z]{0,8}", fullmatch=True),
    password=st.from_regex(r"[^/\s:?]{1,12}", fullmatch=True),
)
def test_no_password_in_an_address_is_shown(user: str, password: str) -> None:
    shown = hide_secrets("broker", f"mqtts://{user}:{password}@hub:8883")
    assert shown == f"mqtts://{user}:***@hub:8883"


def test_what_follows_a_question_mark_in_an_address_is_not_shown() -> None:
    assert hide_secrets("source", "rtsp://me:pw@hub/cam?key=hunter2&x=1") == "rtsp://me:***@hub/cam?***"
    assert hide_secrets("source", "what now?.mp4") == "what now?.mp4"


def test_the_name_of_a_file_with_a_secret_is_none() -> None:
    assert hide_secrets("broker_password_file", "/etc/pw") == "/etc/pw"
    assert HIDDEN not in hide_secrets("source", "rtsp://127.0.0.1:8554/cam")
