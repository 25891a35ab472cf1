"""A report on sessions, which `stream-run --session` kept: what they were, and their course drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.spec import TARGETS
from offline.reporting.page import Rows, escape, figure, page_of, table
from offline.reporting.report import Report
from offline.reporting.session_figures import draw_course, draw_plane
from stream.export.spans import values

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stream.session_folder.read import SessionFolder


def make_session_report(sessions: Sequence[SessionFolder], names: Sequence[str]) -> Report:
    """Draws and lays out sessions, each under a name that no other has."""
    figures: dict[str, bytes] = {}
    body: list[str] = []
    for session, name in zip(sessions, names, strict=True):
        body += _section(session, name, figures)
    return Report(page_of(f"Report: {', '.join(names)}", body), figures)


def _section(session: SessionFolder, name: str, figures: dict[str, bytes]) -> list[str]:
    body = [f"<h1>Session {escape(name)}</h1>"]
    body += [f"<p class=note>{escape(note)}</p>" for note in session.notes]
    note = session.facts["bundle"]["note"]
    if note:
        body.append(f"<p class=note>{escape(session.facts['bundle']['name'])}: {escape(note)}</p>")
    body.append(table(["", ""], _fact_rows(session)))
    if not len(session.estimates["frame"]):
        return [*body, "<p>It has no frames.</p>"]
    said = f"{name}: valence and arousal over time, with spread, presence, words and markers"
    body += ["<h2>Over time</h2>", figure(f"{name}-course.png", draw_course(session, name), figures, said)]
    body.append(
        "<p>Solid: settled, when no word could change it any more. Thin: provisional, as it was given at once. Band: "
        "the spread. Lines end where no frame was estimated.</p>"
    )
    said = f"{name}: the plane of valence and arousal, coloured by time"
    body += ["<h2>The plane</h2>", figure(f"{name}-plane.png", draw_plane(session, name), figures, said)]
    body += ["<h2>In numbers</h2>", table(*_number_table(session))]
    if session.markers:
        rows = [["" if m.time_s is None else f"{m.time_s:.2f}", m.value, m.name] for m in session.markers]
        body += ["<h2>Markers</h2>", table(["at, s", "marker", "came by"], rows)]
    losses = [event for event in session.events if event.kind == "drop" or event.value in ("lost", "paused")]
    if losses:
        rows = [
            ["" if e.time_s is None else f"{e.time_s:.2f}", e.kind, e.name, e.value, e.detail] for e in losses
        ]
        body += ["<h2>Pauses and losses</h2>", table(["at, s", "what", "of", "", "detail"], rows)]
    return body


def _fact_rows(session: SessionFolder) -> Rows:
    facts = session.facts
    bundle, parts = facts["bundle"], facts["parts"]
    ended = facts["ended"] or {}
    media = f"kept in {session.media.name}" if session.media is not None else "not kept"
    return [
        ["participant", facts["participant"] or "not said"],
        ["notes", facts["notes"] or ""],
        ["source", f"{facts['source']['given']['name']}{' (live)' if facts['source']['live'] else ''}"],
        ["began", facts["began"]["local"]],
        ["ended", f"{ended.get('local', '')} (by {ended.get('by') or 'closing'})"],
        ["bundle", f"{bundle['name']}, {bundle['folds']} folds, sha256 {bundle['sha256'][:16]}"],
        ["parts", ", ".join(f"{what}: {name or 'none'}" for what, name in parts.items())],
        ["picture and sound", media],
        ["affectstream", facts["versions"].get("affectstream", "")],
    ]


def _number_table(session: SessionFolder) -> tuple[list[str], Rows]:
    estimates = session.estimates
    rows: Rows = []
    for target in TARGETS:
        found, spread = values(session, target), values(session, target, "_spread")
        cells = [np.nanmean(found), np.nanstd(found), np.nanmin(found), np.nanmax(found), np.nanmean(spread)]
        rows.append([target, *(f"{cell:+.3f}" for cell in cells)])
    frames = len(estimates["frame"])
    unsettled = int(np.isnan(estimates["settled_valence"].astype(np.float64)).sum())
    rows.append(["frames", f"{frames}, of them {unsettled} not settled", "", "", "", ""])
    for what in ("face", "voice", "words"):
        rows.append([what, f"{estimates[what].astype(bool).mean():.0%} of frames", "", "", "", ""])
    return ["", "mean", "standard deviation", "least", "most", "mean spread"], rows
