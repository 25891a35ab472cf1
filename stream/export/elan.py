"""ELAN: an annotation document with tiers, and valence and arousal as curves in a linked table."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from stream.export.spans import Span, marker_spans, tiers, values

if TYPE_CHECKING:
    from stream.session_folder.read import SessionFolder

_TYPE: Final = "default-lt"
_SCHEMA: Final = "http://www.mpi.nl/tools/elan/EAFv3.0.xsd"
_XSI: Final = "http://www.w3.org/2001/XMLSchema-instance"
_COLOURS: Final = {"valence": "31,111,180", "arousal": "217,102,31"}
_MIME_TYPES: Final = {
    ".mkv": "video/x-matroska",
    ".mp4": "video/mp4",
    ".mpg": "video/mpeg",
    ".wav": "audio/x-wav",
}


def write_elan(session: SessionFolder, folder: Path, name: str) -> list[Path]:
    """Writes `NAME.eaf`, and `NAME_tsconf.xml` with `NAME_values.csv`, which ELAN's time series viewer shows.

    Says what was written. Raises OSError.
    """
    table = folder / f"{name}_values.csv"
    curves = folder / f"{name}_tsconf.xml"
    document = folder / f"{name}.eaf"
    _write_table(session, table)
    _write_xml(_curves(table), curves)
    _write_xml(_document(session, folder, [curves, table]), document)
    return [document, curves, table]


def _document(session: SessionFolder, folder: Path, linked: list[Path]) -> ET.Element:
    root = ET.Element(
        "ANNOTATION_DOCUMENT",
        {
            "AUTHOR": "affectstream",
            "DATE": _now(),
            "FORMAT": "3.0",
            "VERSION": "3.0",
            "xmlns:xsi": _XSI,
            "xsi:noNamespaceSchemaLocation": _SCHEMA,
        },
    )
    head = ET.SubElement(root, "HEADER", {"MEDIA_FILE": "", "TIME_UNITS": "milliseconds"})
    media = _media(session)
    if media is not None:
        attributes = _link(media, folder, "MEDIA_URL", "RELATIVE_MEDIA_URL")
        kind = _MIME_TYPES.get(media.suffix.lower(), "unknown")
        ET.SubElement(head, "MEDIA_DESCRIPTOR", {**attributes, "MIME_TYPE": kind})
    for path in linked:
        attributes = _link(path, folder, "LINK_URL", "RELATIVE_LINK_URL")
        kind = "text/xml" if path.suffix == ".xml" else "unknown"
        ET.SubElement(head, "LINKED_FILE_DESCRIPTOR", {**attributes, "MIME_TYPE": kind})
    all_tiers = {**tiers(session), "markers": marker_spans(session)}
    annotations = sum(map(len, all_tiers.values()))
    ET.SubElement(head, "PROPERTY", {"NAME": "lastUsedAnnotationId"}).text = str(annotations)
    slots = ET.SubElement(root, "TIME_ORDER")
    number = 0
    for tier, spans in all_tiers.items():
        participant = session.facts["participant"]
        said = {"PARTICIPANT": participant} if participant else {}
        element = ET.SubElement(root, "TIER", {"LINGUISTIC_TYPE_REF": _TYPE, **said, "TIER_ID": tier})
        for start_ms, end_ms, text in _in_milliseconds(spans):
            number += 1
            references = (f"ts{2 * number - 1}", f"ts{2 * number}")
            for slot, at_ms in zip(references, (start_ms, end_ms), strict=True):
                ET.SubElement(slots, "TIME_SLOT", {"TIME_SLOT_ID": slot, "TIME_VALUE": str(at_ms)})
            within = ET.SubElement(
                ET.SubElement(element, "ANNOTATION"),
                "ALIGNABLE_ANNOTATION",
                {
                    "ANNOTATION_ID": f"a{number}",
                    "TIME_SLOT_REF1": references[0],
                    "TIME_SLOT_REF2": references[1],
                },
            )
            ET.SubElement(within, "ANNOTATION_VALUE").text = text
    ET.SubElement(
        root,
        "LINGUISTIC_TYPE",
        {"GRAPHIC_REFERENCES": "false", "LINGUISTIC_TYPE_ID": _TYPE, "TIME_ALIGNABLE": "true"},
    )
    return root


def _in_milliseconds(spans: list[Span]) -> list[tuple[int, int, str]]:
    """Whole milliseconds, as ELAN counts; no annotation is empty or overlaps the one before."""
    counted: list[tuple[int, int, str]] = []
    for span in spans:
        start_ms = max(round(span.start_s * 1000), counted[-1][1] if counted else 0)
        end_ms = round(span.end_s * 1000)
        if end_ms > start_ms:
            counted.append((start_ms, end_ms, span.text))
    return counted


def _media(session: SessionFolder) -> Path | None:
    """What was kept of picture and sound, or the recording that was estimated, where it still is."""
    if session.media is not None:
        return session.media
    asked = Path(session.facts["source"]["asked"])
    return asked if not session.facts["source"]["live"] and asked.is_file() else None


def _link(path: Path, folder: Path, absolute: str, relative: str) -> dict[str, str]:
    towards = os.path.relpath(path.resolve(), folder.resolve()).replace(os.sep, "/")
    return {
        absolute: path.resolve().as_uri(),
        relative: towards if towards.startswith("..") else f"./{towards}",
    }


def _curves(table: Path) -> ET.Element:
    """How the time series viewer reads the table: times in seconds, a curve a column."""
    root = ET.Element("timeseries", {"date": _now(), "version": "1.0"})
    source = ET.SubElement(
        root,
        "tracksource",
        {"sample-type": "Discontinuous Rate", "source-url": table.resolve().as_uri(), "time-column": "0"},
    )
    provider = "mpi.eudico.client.annotator.timeseries.csv.CSVServiceProvider"
    ET.SubElement(source, "property", {"key": "provider", "value": provider})
    for column, (target, colour) in enumerate(_COLOURS.items(), 1):
        track = ET.SubElement(source, "track", {"derivative": "0", "name": target})
        ET.SubElement(track, "property", {"key": "detect-range", "value": "false"})
        ET.SubElement(ET.SubElement(track, "sample-position"), "pos", {"col": str(column), "row": "0"})
        ET.SubElement(track, "description").text = f"{target} as estimated"
        ET.SubElement(track, "units")
        ET.SubElement(track, "range", {"max": "1.0", "min": "-1.0"})
        ET.SubElement(track, "color").text = colour
    return root


def _write_table(session: SessionFolder, path: Path) -> None:
    """Seconds, valence, arousal; frames without a value are left out."""
    times = session.estimates["time_s"]
    found = np.column_stack([times, values(session, "valence"), values(session, "arousal")])
    rows = [f"{t:.3f},{v:.4f},{a:.4f}" for t, v, a in found if not np.isnan((v, a)).any()]
    path.write_text("\n".join(["time_s,valence,arousal", *rows]) + "\n", encoding="utf-8")


def _write_xml(root: ET.Element, path: Path) -> None:
    ET.indent(root)
    ET.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")
