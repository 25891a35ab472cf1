"""Praat: a TextGrid with words, presence and values as intervals, and markers as points."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stream.export.spans import Span, duration_s, marker_points, tiers

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from stream.session_folder.read import SessionFolder


DECIMALS: Final = 6


def write_praat(session: SessionFolder, folder: Path, name: str) -> list[Path]:
    """Writes `NAME.TextGrid` in Praat's long text form, UTF-8, and says what was written. Raises OSError."""
    end_s = round(duration_s(session), DECIMALS)
    intervals = tiers(session)
    points = marker_points(session)
    lines = [
        'File type = "ooTextFile"',
        'Object class = "TextGrid"',
        "",
        "xmin = 0",
        f"xmax = {end_s:.{DECIMALS}f}",
    ]
    lines += ["tiers? <exists>", f"size = {len(intervals) + bool(points)}", "item []:"]
    for number, (tier, spans) in enumerate(intervals.items(), 1):
        filled = _filled(spans, end_s)
        lines += _tier_head(number, "IntervalTier", tier, end_s)
        lines.append(f"        intervals: size = {len(filled)}")
        for index, span in enumerate(filled, 1):
            lines += [
                f"        intervals [{index}]:",
                f"            xmin = {span.start_s:.{DECIMALS}f}",
                f"            xmax = {span.end_s:.{DECIMALS}f}",
                f"            text = {_quoted(span.text)}",
            ]
    if points:
        lines += _tier_head(len(intervals) + 1, "TextTier", "markers", end_s)
        lines.append(f"        points: size = {len(points)}")
        for index, (time_s, text) in enumerate(points, 1):
            lines += [
                f"        points [{index}]:",
                f"            number = {min(time_s, end_s):.{DECIMALS}f}",
                f"            mark = {_quoted(text)}",
            ]
    path = folder / f"{name}.TextGrid"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return [path]


def _tier_head(number: int, kind: str, name: str, end_s: float) -> list[str]:
    return [
        f"    item [{number}]:",
        f'        class = "{kind}"',
        f'        name = "{name}"',
        "        xmin = 0",
        f"        xmax = {end_s:.{DECIMALS}f}",
    ]


def _filled(spans: Sequence[Span], end_s: float) -> list[Span]:
    """Intervals from the beginning to the end, as Praat has them: empty ones where there is nothing."""
    filled: list[Span] = []
    at_s = 0.0
    for span in spans:
        # As they will be written: what is shorter than that would be an interval without a length.
        span_start_s, span_end_s = round(span.start_s, DECIMALS), min(round(span.end_s, DECIMALS), end_s)
        if span_start_s >= span_end_s:
            continue
        if span_start_s > at_s:
            filled.append(Span(at_s, span_start_s, ""))
        filled.append(Span(span_start_s, span_end_s, span.text))
        at_s = span_end_s
    if at_s < end_s or not filled:
        filled.append(Span(at_s, end_s, ""))
    return filled


def _quoted(text: str) -> str:
    doubled = text.replace('"', '""')
    return f'"{doubled}"'
