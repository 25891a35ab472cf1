"""An ELAN document, read back by pympi; and what its time series viewer is told."""

from __future__ import annotations

import csv
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import pympi

from stream.export.elan import write_elan

if TYPE_CHECKING:
    from pathlib import Path

    from stream.session_folder.read import SessionFolder


def test_pympi_reads_every_tier_back(session: SessionFolder, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    written = write_elan(session, out, "P07")
    assert [path.name for path in written] == ["P07.eaf", "P07_tsconf.xml", "P07_values.csv"]
    document = pympi.Elan.Eaf(str(written[0]))
    assert list(document.get_tier_names()) == ["words", "face", "voice", "valence", "arousal", "markers"]
    assert document.get_annotation_data_for_tier("words") == [
        (200, 500, "hello"),
        (500, 800, 'quite "nice", really'),
    ]
    assert document.get_annotation_data_for_tier("face") == [(0, 3000, "face")]
    assert document.get_annotation_data_for_tier("voice") == [(0, 1000, "voice")]
    assert document.get_annotation_data_for_tier("markers") == [
        (1000, 1500, "a question"),
        (2500, 3000, 'said "stop", left'),
    ]
    assert [text for _, _, text in document.get_annotation_data_for_tier("valence")] == [
        *("-0.26", "+0.05", "+0.31")
    ]
    assert document.get_parameters_for_tier("words")["PARTICIPANT"] == "P-07"
    assert [link["RELATIVE_LINK_URL"] for link in document.linked_file_descriptors] == [
        "./P07_tsconf.xml",
        "./P07_values.csv",
    ]
    # An editor may go on with it: every annotation and time slot has an identifier of its own.
    document.add_annotation("words", 900, 950, "added")
    document.to_file(str(out / "again.eaf"))
    assert len(pympi.Elan.Eaf(str(out / "again.eaf")).get_annotation_data_for_tier("words")) == 3


def test_the_curves_are_those_of_the_linked_table(session: SessionFolder, tmp_path: Path) -> None:
    _, curves, table = write_elan(session, tmp_path, "P07")
    tracks = {
        track.attrib["name"]: track.find("sample-position/pos")
        for track in ET.parse(curves).getroot().iter("track")  # noqa: S314  (written by the line above)
    }
    with table.open(newline="") as file:
        head, *rows = csv.reader(file)
    assert {name: head[int(pos.attrib["col"])] for name, pos in tracks.items() if pos is not None} == {
        "valence": "valence",
        "arousal": "arousal",
    }
    assert len(rows) == 90
    assert [float(cell) for cell in rows[30]] == [1.0, -0.1, 0.2]


def test_kept_media_are_linked(session: SessionFolder, tmp_path: Path) -> None:
    (session.path / "media.mkv").write_bytes(b"")
    (session.path / "elan").mkdir()
    document = pympi.Elan.Eaf(str(write_elan(session, session.path / "elan", "P07")[0]))
    assert [link["RELATIVE_MEDIA_URL"] for link in document.media_descriptors] == ["../media.mkv"]
