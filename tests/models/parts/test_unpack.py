"""Zip files that must not be unpacked."""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING

import pytest

from models.errors import UserError
from models.parts.install import pull
from tests.models.parts.site import Site, zipped

if TYPE_CHECKING:
    from pathlib import Path

    from models.parts.registry import (
        PretrainedPart,
    )


class TestZips:
    @pytest.mark.parametrize(
        "name", ["../escaped", "/escaped", "a/../../escaped", "C:/escaped", "a/..\\..\\escaped"]
    )
    def test_entries_outside_are_refused(
        self, recogniser: PretrainedPart, site: Site, name: str, tmp_path: Path
    ) -> None:
        site.files["r.zip"] = zipped({"m/am/final.mdl": b"x", name: b"evil"})
        with pytest.raises(UserError, match="refused: its entry"):
            pull(recogniser)
        assert not list(tmp_path.rglob("*escaped*"))

    def test_links_are_refused(self, recogniser: PretrainedPart, site: Site) -> None:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            link = zipfile.ZipInfo("m/link")
            link.external_attr = 0o120777 << 16
            archive.writestr(link, "/etc/passwd")
        site.files["r.zip"] = buffer.getvalue()
        with pytest.raises(UserError, match="is a link"):
            pull(recogniser)

    def test_content_out_of_all_proportion_is_refused(self, recogniser: PretrainedPart, site: Site) -> None:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("m/zeros", bytes(105_000_000))
        site.files["r.zip"] = buffer.getvalue()
        with pytest.raises(UserError, match="unpacks to more than 104 MB"):
            pull(recogniser)

    def test_a_truncated_zip_is_refused(self, recogniser: PretrainedPart, site: Site) -> None:
        site.files["r.zip"] = site.files["r.zip"][:-30]
        with pytest.raises(UserError, match="not a sound zip"):
            pull(recogniser)

    def test_a_model_without_its_files_is_refused(self, recogniser: PretrainedPart, site: Site) -> None:
        site.files["r.zip"] = zipped({"m/am/final.mdl": b"x"})
        with pytest.raises(UserError, match=r"is not recogniser: it has no conf/model\.conf"):
            pull(recogniser)
