"""Downloads that break off, and what is said where there is no network."""

from __future__ import annotations

import socket
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from models.cli import _pull_one
from models.errors import UserError
from models.parts.install import pull
from models.parts.registry import (
    Download,
    PretrainedPart,
    find_part,
)
from tests.models.parts.site import ONNX, VOSK, Site, zipped

if TYPE_CHECKING:
    from pathlib import Path


class TestInterruptedDownloads:
    def test_go_on_where_the_connection_broke(self, detector: PretrainedPart, site: Site) -> None:
        site.break_after = [100_000, 50_000]
        assert pull(detector).path.read_bytes() == ONNX
        assert [wanted for _, wanted in site.asked] == [None, "bytes=100000-", "bytes=150000-"]

    def test_that_keep_breaking_are_gone_on_with_at_the_next_pull(
        self, detector: PretrainedPart, site: Site
    ) -> None:
        site.break_after = [1_000, 1_000, 1_000]
        with pytest.raises(
            UserError, match=r"detector cannot be downloaded.*3000 of 512000 bytes.*--from FILE"
        ):
            pull(detector)
        assert find_part(detector) is None
        assert pull(detector).path.read_bytes() == ONNX
        assert site.asked[-1][1] == "bytes=3000-"

    def test_start_over_where_the_server_has_another_file_meanwhile(
        self, recogniser: PretrainedPart, site: Site
    ) -> None:
        site.break_after = [100, 0, 0]
        with pytest.raises(UserError, match="cannot be downloaded"):
            pull(recogniser)
        site.tag = '"two"'
        site.files["r.zip"] = zipped({f"other/{name}": content + b"2" for name, content in VOSK.items()})
        assert (pull(recogniser).path / "am/final.mdl").read_bytes() == b"acoustic2"

    @pytest.mark.parametrize("tag", [None, 'W/"weak"'])
    def test_start_over_where_the_server_cannot_prove_it_is_the_same_file(
        self, detector: PretrainedPart, site: Site, tag: str | None
    ) -> None:
        site.tag, site.break_after = tag, [100]
        assert pull(detector).path.read_bytes() == ONNX
        assert [wanted for _, wanted in site.asked] == [None, None]

    def test_a_partial_file_longer_than_the_whole_is_thrown_away(
        self, detector: PretrainedPart, site: Site, folder: Path
    ) -> None:
        leftovers = folder / ".downloads" / "detector"
        leftovers.mkdir(parents=True)
        (leftovers / "d.onnx.part").write_bytes(ONNX * 2)
        (leftovers / "d.onnx.validator").write_text('"one"')
        assert pull(detector).path.read_bytes() == ONNX

    def test_without_a_network_one_line_names_the_part_and_the_way_out(
        self, detector: PretrainedPart
    ) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{unused.getsockname()[1]}/d.onnx"
            part = replace(detector, downloads=(Download(url, "d.onnx"),))
            with pytest.raises(
                UserError, match=r"^detector cannot be downloaded: .*refused.*models-pull detector --from"
            ):
                pull(part)

    def test_what_the_server_does_not_have_is_said(self, detector: PretrainedPart, site: Site) -> None:
        site.files.clear()
        with pytest.raises(UserError, match="detector cannot be downloaded: the server answers 404"):
            pull(detector)


def test_off_a_terminal_a_download_is_told_in_a_line_with_its_size(
    detector: PretrainedPart, capsys: pytest.CaptureFixture[str]
) -> None:
    _pull_one(detector, None, keep_installed=False)
    said = capsys.readouterr()
    assert said.out.startswith("detector: ")
    assert said.err.endswith(": detector: downloading d.onnx, 0.5 MB\n")
    # Installed and sound, it is not fetched again.
    _pull_one(detector, None, keep_installed=True)
    assert capsys.readouterr().err == ""
