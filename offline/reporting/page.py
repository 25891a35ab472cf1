"""The page of a report: one HTML file that needs no other, with its figures inside."""

from __future__ import annotations

import base64
import html
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

Rows = list[list[str]]


def page_of(title: str, body: Sequence[str]) -> str:
    """The whole page around its sections."""
    return _PAGE.format(title=escape(title), style=_STYLE, body="\n".join(body))


def figure(name: str, content: bytes, figures: dict[str, bytes], alternative: str = "") -> str:
    """A PNG in the page, which joins `figures`; `alternative` says in words what it shows."""
    figures[name] = content
    encoded = base64.b64encode(content).decode("ascii")
    return f'<img src="data:image/png;base64,{encoded}" alt="{escape(alternative or name)}">'


def table(head: list[str], rows: Rows) -> str:
    """A table of texts."""
    cells = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    lines = ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows]
    return f"<table><tr>{cells}</tr>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def escape(text: str) -> str:
    """A text that no browser takes for anything else."""
    return html.escape(text)


_STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70em; margin: 2em auto; padding: 0 1em; color: #222; }
h1 { margin-top: 2em; border-bottom: 1px solid #ccc; }
table { border-collapse: collapse; margin: 1em 0; font-size: 13px; display: block; overflow-x: auto; }
th, td { padding: 0.25em 0.8em; border-bottom: 1px solid #ddd; text-align: left; font-variant-numeric: tabular-nums; }
th { background: #f3f5f8; }
img { max-width: 100%; display: block; margin: 0.5em 0; }
.note { background: #fff7e0; padding: 0.5em 1em; }
"""

_PAGE: Final = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>{title}</title><style>{style}</style></head>
<body>
{body}
</body>
</html>
"""
