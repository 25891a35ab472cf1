"""Where the page is served, told from options: what cannot be is refused in one line."""

from __future__ import annotations

import socket
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from models.errors import UserError
from stream import extras
from stream.options import OutputOptions
from stream.page.options import PageOptions, find_page_options, page_options, parse_address

if TYPE_CHECKING:
    from tests.commands import RunCommand


def test_without_the_page_there_is_none() -> None:
    assert page_options(OutputOptions()) is None
    assert page_options(OutputOptions(page_token="of the environment")) is None


def test_this_machine_alone_unless_told_otherwise() -> None:
    found = page_options(OutputOptions(page=True))
    assert found == PageOptions("127.0.0.1", 8080)
    assert found is not None
    assert found.token is None
    assert found.is_loopback


@pytest.mark.parametrize("address", ["0.0.0.0:80", "[::]:80", "192.168.0.2:8080", "desk.lan:8080"])
def test_beyond_this_machine_a_token_is_made_up_each_time(address: str) -> None:
    first, second = (find_page_options(True, address, None) for _ in range(2))
    assert first is not None
    assert second is not None
    assert first.generated
    assert first.token is not None
    assert len(first.token) > 20
    assert first.token != second.token
    assert first.token not in repr(first)


def test_a_token_that_is_given_is_asked_for_everywhere() -> None:
    for address in ("127.0.0.1:80", "0.0.0.0:80"):
        found = find_page_options(True, address, "correct-horse-battery")
        assert found is not None
        assert (found.token, found.generated) == ("correct-horse-battery", False)


@pytest.mark.parametrize(
    "token", ["", "short", "has a space in it", "x" * 300, "semicolon;semicolon", "é" * 20]
)
def test_a_token_that_cannot_be_used_is_refused_unsaid(token: str) -> None:
    with pytest.raises(UserError) as refused:
        find_page_options(True, None, token)
    assert not token or token not in str(refused.value)


@pytest.mark.parametrize(
    "address",
    ["", "8080", "127.0.0.1", "127.0.0.1:99999", "a b:80", "[127.0.0.1]:80", "[::x]:80", "http://a:1"],
)
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(UserError, match=r"127\.0\.0\.1:8080"):
        parse_address(address)


def test_a_preview_asks_for_the_page_and_an_address_may_wait_for_it_in_a_file() -> None:
    with pytest.raises(UserError, match="add --page"):
        page_options(OutputOptions(preview=True))
    assert page_options(OutputOptions(page_address="127.0.0.1:80")) is None


@pytest.mark.parametrize("absent", ["starlette", "uvicorn", "prometheus_client"])
def test_an_absent_extra_is_one_line(absent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == absent else find_spec(name))
    with pytest.raises(UserError, match=rf"{absent}.*pip install 'affectstream\[page\]'"):
        page_options(OutputOptions(page=True))


def test_nothing_of_the_extra_is_imported_by_options() -> None:
    import subprocess

    code = "import stream.page.options, stream.commands.run, stream.commands.watch, sys; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"starlette", "uvicorn"} & set(ran.stdout.split())


def test_addresses_are_said_so_that_they_can_be_opened() -> None:
    assert PageOptions().url() == "http://127.0.0.1:8080/"
    assert PageOptions("::1", 0).url(81) == "http://[::1]:81/"
    assert "0.0.0.0" not in PageOptions("0.0.0.0").url()


def test_the_command_line_refuses_before_anything_is_loaded(run_command: RunCommand) -> None:
    assert "add --page" in run_command("stream-run", "--demo", "--preview").said
    assert "127.0.0.1:8080" in run_command("stream-run", "--demo", "--page", "--page-address", "here").said
    assert "characters" in run_command("stream-watch", "--page", "--page-token", "short").said
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        taken = run_command("stream-run", "--demo", "--page", "--page-address", address).said
    assert f"{address}: something else has this port" in taken


def test_a_token_that_nobody_would_be_told_is_not_made_up(run_command: RunCommand) -> None:
    logged = ("stream-run", "--demo", "--log-format", "json", "--page", "--page-address", "0.0.0.0:0")
    assert "AFFECT_PAGE_TOKEN" in run_command(*logged).said
    # With one that is given, or with lines for people too, the next thing is what is refused.
    for told in (("--page-token", "correct-horse-battery"), ("--log-level", "debug")):
        assert "no address for metrics" in run_command(*logged, *told, "--metrics", "here").said


def test_the_token_may_be_in_the_environment_and_is_not_shown(
    run_command: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AFFECT_PAGE_TOKEN", "correct-horse-battery")
    shown = run_command("stream-run", "--demo", "--page", "--show-config").said
    assert 'page_token = "***"  # AFFECT_PAGE_TOKEN' in shown
    assert "horse" not in shown
