"""A session as stretches of time: without gaps bridged, overlaps or empty ones."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest

from stream.export.spans import (
    Span,
    duration_s,
    marker_points,
    marker_spans,
    presence_spans,
    value_spans,
    values,
    without_overlap,
)

if TYPE_CHECKING:
    from stream.session_folder.read import SessionFolder


def scripted(**parts: Any) -> SessionFolder:
    facts = {"clocks": {"frame_rate": 10.0}}
    return cast("SessionFolder", SimpleNamespace(**{"facts": facts, "words": (), "markers": (), **parts}))


def test_presence_ends_where_frames_are_missing() -> None:
    estimates = {
        "time_s": np.array([0.0, 0.1, 0.2, 0.6, 0.7, 0.8]),
        "face": np.array([True, True, False, True, True, True]),
    }
    spans = presence_spans(scripted(estimates=estimates), "face")
    assert [(round(s.start_s, 3), round(s.end_s, 3)) for s in spans] == [(0.0, 0.2), (0.6, 0.9)]
    estimates["face"] = np.array([True] * 6)
    spans = presence_spans(scripted(estimates=estimates), "face")
    assert [(round(s.start_s, 3), round(s.end_s, 3)) for s in spans] == [(0.0, 0.3), (0.6, 0.9)]


def test_values_are_the_settled_ones_or_else_the_provisional(session: SessionFolder) -> None:
    found = values(session, "valence")
    assert found[:80] == pytest.approx([-0.4 + frame / 100 for frame in range(80)])
    assert found[80:] == pytest.approx([-0.5 + frame / 100 for frame in range(80, 90)])
    assert [(s.start_s, s.end_s, s.text) for s in value_spans(session, "valence")] == [
        (0.0, 1.0, f"{found[:30].mean():+.2f}"),
        (1.0, 2.0, f"{found[30:60].mean():+.2f}"),
        (2.0, 3.0, f"{found[60:].mean():+.2f}"),
    ]
    assert duration_s(session) == pytest.approx(3.0)


def test_stretches_do_not_overlap_and_markers_are_short(session: SessionFolder) -> None:
    spans = without_overlap([Span(1.0, 2.0, "b"), Span(0.0, 1.5, "a"), Span(1.2, 1.4, "gone")])
    assert spans == [Span(0.0, 1.5, "a"), Span(1.5, 2.0, "b")]
    assert [(s.start_s, s.text) for s in marker_spans(session)] == [
        (1.0, "a question"),
        (2.5, 'said "stop", left'),
    ]
    at_once = [SimpleNamespace(time_s=1.0, value=text) for text in ("b", "a")]
    at_once.append(SimpleNamespace(time_s=None, value="before the first frame"))
    marked = scripted(estimates={}, markers=tuple(at_once))
    assert marker_points(marked) == [(1.0, "a"), (1.001, "b")]
    assert marker_spans(marked)[0] == Span(1.0, 1.001, "a")
