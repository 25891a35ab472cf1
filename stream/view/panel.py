"""One publisher in a terminal: what its messages said, and the lines that show it. No I/O, no clock.

What is shown may come from anybody's broker: control characters are removed, and no text is read as markup.
"""

from __future__ import annotations

import textwrap
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from stream.view.labels import Agreement

HISTORY_FRAMES: Final = 300
UNTRAINED: Final = "untrained: the numbers mean nothing yet"
STYLES: Final = {"valence": "green", "arousal": "magenta"}
HEALTH_STYLES: Final = {"ok": "green", "off": "dim", "waiting": "yellow", "lost": "bold red", "ended": "dim"}
PHASE_STYLES: Final = {"running": "green", "paused": "yellow", "online": "green", "offline": "bold red"}

Message = Mapping[str, Any]


@dataclass
class Tally:
    """Sums over estimates, for the summary."""

    frames: int = 0
    present: dict[str, int] = field(default_factory=lambda: {"face": 0, "voice": 0, "words": 0})
    sums: dict[str, float] = field(default_factory=lambda: {"valence": 0.0, "arousal": 0.0})
    lowest: dict[str, float] = field(default_factory=dict)
    highest: dict[str, float] = field(default_factory=dict)

    def add(self, message: Message) -> None:
        """Take one estimate."""
        self.frames += 1
        for what in self.present:
            self.present[what] += bool(message["present"][what])
        for target in self.sums:
            value = float(message[target])
            self.sums[target] += value
            self.lowest[target] = min(value, self.lowest.get(target, value))
            self.highest[target] = max(value, self.highest.get(target, value))


class Panel:
    """What one publisher has said so far, in bounded memory, and the lines that show it.

    Feed it with `take` (decoded messages of the topics `estimate`, `settled`, `state`, `status` and
    `transcript`, in the form of their schemas), `availability` and `hear`; draw it with `lines`, `plain` and
    `summary`. With an `agreement`, a recording's labels are shown beside what is estimated.
    """

    def __init__(self, name: str = "", hint: str = "", agreement: Agreement | None = None) -> None:
        self.name = clean(name)
        self.hint = clean(hint)
        self._agreement = agreement
        self.available = ""
        self.words = ""
        self._estimate: Message | None = None
        self._status: Message | None = None
        self._estimated = Tally()
        self._settled = Tally()
        self._transcripts = False
        self._marked = ""
        self._history: dict[str, deque[float]] = {
            target: deque(maxlen=HISTORY_FRAMES) for target in ("valence", "arousal")
        }

    def take(self, topic: str, message: Message) -> None:
        """Take a message that fits its topic's schema; topics without anything to show are ignored."""
        if topic == "estimate":
            self._estimate = message
            self._estimated.add(message)
            for target, history in self._history.items():
                history.append(float(message[target]))
        elif topic == "state":
            self._estimate = self._estimate or message
        elif topic == "settled":
            self._settled.add(message)
        elif topic == "status":
            self._status = message
        elif topic == "transcript":
            self._transcripts = True
            self.words = clean(str(message["text"])) or self.words

    def availability(self, text: str) -> None:
        """Take `online`, `stopped` or `offline`."""
        self.available = clean(text)

    def hear(self, words: str) -> None:
        """Take the words of an estimate, where no transcript tells more."""
        if words and not self._transcripts:
            self.words = clean(words)

    def mark(self, text: str, time_s: float | None) -> None:
        """Take a moment that somebody marked, in media seconds; the last one is shown."""
        self._marked = f"{clean(text)} at {time_s:.2f} s" if time_s is not None else clean(text)

    @property
    def trained(self) -> bool | None:
        """Whether the bundle is trained, or None before anything said so."""
        return None if self._status is None else bool(self._status["bundle"]["trained"])

    def lines(self, width: int, height: int) -> list[Text]:
        """The panel as at most `height` lines of at most `width` cells."""
        chart_rows = 1 if height < 22 else 3 if height < 34 else 6
        shown = [self._title_line(width)]
        if self.trained is False:
            shown.append(Text(UNTRAINED.center(width), style="bold black on yellow"))
        for target in self._history:
            shown.extend(self._target_lines(target, width, chart_rows))
        shown += [self._present_line(), self._words_line(width), self._frame_line(), self._drops_line()]
        details = [
            Text.assemble((" marked  ", "bold"), " ", self._marked) if self._marked else Text(),
            self._bundle_line(),
            *self._about_lines(width),
            *self._note_lines(),
            *self._input_lines(),
            Text(self.hint, style="dim"),
        ]
        shown += [line for line in details if line]
        for line in shown:
            line.truncate(width, overflow="ellipsis")
        return shown[:height]

    def _title_line(self, width: int) -> Text:
        status = self._status
        source = clean(str(status["source"])) if status else "waiting for the first status"
        phase = self.available if self.available not in ("", "online") or not status else status["phase"]
        right = Text(f"● {phase} ", style=PHASE_STYLES.get(phase, "yellow")) if phase else Text()
        left = Text.assemble((f" {self.name or 'affectstream'} ", "bold reverse"), "  ", source)
        left.truncate(max(0, width - right.cell_len - 1), overflow="ellipsis", pad=True)
        return left + Text(" ") + right

    def _target_lines(self, target: str, width: int, chart_rows: int) -> Iterable[Text]:
        style = STYLES[target]
        if self._estimate is None:
            yield Text(f" {target:8}   ...", style="dim")
            yield from (Text() for _ in range(chart_rows))
            return
        value, spread = float(self._estimate[target]), float(self._estimate["spread"][target])
        label = self._label_of_newest_frame(target)
        bar_width = max(11, min(width - 32, 61))
        yield Text.assemble(
            (f" {target:8}", "bold"),
            (f" {value:+.3f} ", f"bold {style}"),
            bar(value, bar_width, style),
            (
                f" ±{spread:.3f} folds" if label is None else f" label {label:+.3f}",
                "dim" if label is None else "",
            ),
        )
        for row in chart(list(self._history[target]), width - 10, chart_rows):
            yield Text.assemble(" " * 9, (row, style))

    def _label_of_newest_frame(self, target: str) -> float | None:
        if self._agreement is None or self._estimate is None:
            return None
        label = self._agreement.labels.at(int(self._estimate["frame"]))
        return None if label is None else float(getattr(label, target))

    def _present_line(self) -> Text:
        line = Text(" present", style="bold")
        for what in ("face", "voice", "words"):
            is_present = self._estimate is not None and bool(self._estimate["present"][what])
            line.append("  ● " if is_present else "  ○ ", style="green" if is_present else "dim")
            line.append(what, style="" if is_present else "dim")
        return line

    def _words_line(self, width: int) -> Text:
        words = self.words if len(self.words) <= width - 12 else "…" + self.words[-(width - 13) :]
        return Text.assemble((" words   ", "bold"), " ", (words or "-", "italic" if words else "dim"))

    def _frame_line(self) -> Text:
        line = Text(" frame   ", style="bold")
        if self._estimate is not None:
            line.append(f" {self._estimate['frame']}  at {float(self._estimate['time_s']):.2f} s")
        if self._status is not None:
            latency = self._status["latency_ms"]
            line.append(f"   {float(self._status['frame_rate']):.1f} frames/s   {latency_text(latency)}")
        return line

    def _drops_line(self) -> Text:
        text = drops_text(self._status)
        line = Text.assemble((" dropped ", "bold"), " ", (text or "nothing", "yellow" if text else "dim"))
        degraded = (self._status or {}).get("degraded")
        if degraded:
            line.append(f"   degraded to {clean(str(degraded))}", style="yellow")
        return line

    def _bundle_line(self) -> Text:
        if self._status is None:
            return Text()
        bundle = self._status["bundle"]
        folds = f"{bundle['folds']} fold{'s' if bundle['folds'] != 1 else ''}"
        parts = (
            bundle["name"],
            bundle["preset"],
            folds,
            self._status["accelerator"],
            self._status["detector"],
        )
        return Text.assemble(
            (" bundle  ", "bold"), " ", (clean(", ".join(str(part) for part in parts if part)), "dim")
        )

    @property
    def _about_bundle(self) -> str:
        """What the bundle says that it is good for; nothing where the banner of untrained ones says it."""
        note = "" if self._status is None else clean(str(self._status["bundle"]["note"]))
        return "" if note == UNTRAINED else note

    def _about_lines(self, width: int) -> Iterable[Text]:
        indent = " " * 10
        for number, line in enumerate(
            textwrap.wrap(self._about_bundle, max(20, width - len(indent)), max_lines=2, placeholder=" …")
        ):
            yield Text(" about    " if number == 0 else indent, style="bold").append(
                line, style="not bold dim"
            )

    def _input_lines(self) -> Iterable[Text]:
        for name, status in (self._status or {"inputs": {}})["inputs"].items():
            health = status["health"]
            line = Text.assemble((f" {clean(name)[:12]:12} ", "bold"), (health, HEALTH_STYLES[health]))
            if status["detail"]:
                line.append(f"  {clean(status['detail'])}", style="dim")
            if status["way_out"]:
                line.append(f"  → {clean(status['way_out'])}", style="yellow")
            yield line

    def _note_lines(self) -> Iterable[Text]:
        for note in (self._status or {"notes": ()})["notes"]:
            yield Text(f" note     {clean(note)}", style="dim")

    def plain(self) -> str:
        """The panel in one line without colours or special characters, for logs and pipes."""
        parts = [self.name] if self.name else []
        if self.available not in ("", "online"):
            parts.append(self.available)
        if self._estimate is not None:
            message = self._estimate
            parts.append(f"frame {message['frame']} at {float(message['time_s']):.2f} s")
            for target in self._history:
                parts.append(f"{target} {message[target]:+.3f} +-{message['spread'][target]:.3f}")
                if (label := self._label_of_newest_frame(target)) is not None:
                    parts.append(f"(label {label:+.3f})")
            present = [what for what, is_present in message["present"].items() if is_present]
            parts.append("+".join(present) or "nobody")
        if self._status is not None:
            parts.append(f"{float(self._status['frame_rate']):.1f} frames/s")
            parts.append(latency_text(self._status["latency_ms"]))
            if dropped := drops_text(self._status):
                parts.append(f"dropped {dropped}")
        if self.trained is False:
            parts.append("UNTRAINED")
        if self._marked:
            parts.append(f"marked {self._marked}")
        if self.words:
            parts.append(f'"{self.words[-60:]}"')
        return "  ".join(part for part in parts if part)

    def introduction(self) -> list[str]:
        """What a log should say once: source, bundle, inputs that need something, how to subscribe."""
        if self._status is None:
            return []
        lines = [f"source {clean(str(self._status['source']))}"]
        if self.trained is False:
            lines.append(UNTRAINED.upper())
        lines.append(self._bundle_line().plain)
        lines += [f"about {self._about_bundle}"] if self._about_bundle else []
        lines += [line.plain for line in (*self._note_lines(), *self._input_lines())]
        lines += [self.hint] if self.hint else []
        prefix = f"{self.name}: " if self.name else ""
        return [prefix + " ".join(line.split()) for line in lines]

    def summary(self) -> Table:
        """All of it in a table, for the end."""
        table = Table(title=f"{self.name} summary".strip(), title_justify="left", show_header=False)
        table.add_column(style="bold")
        table.add_column()
        if self.trained is False:
            table.add_row("bundle", Text(UNTRAINED, style="bold black on yellow"))
        if self._status is not None:
            if self._about_bundle:
                name = clean(str(self._status["bundle"]["name"]))
                table.add_row("bundle", Text(f"{name}: {self._about_bundle}"))
            table.add_row("source", Text(clean(str(self._status["source"]))))
            table.add_row("frames", f"{self._status['frames']} estimated, {self._status['settled']} settled")
            table.add_row("latency", latency_text(self._status["latency_ms"]) or "-")
            table.add_row("dropped", Text(drops_text(self._status) or "nothing"))
            if memory := memory_text(self._status["counters"]):
                table.add_row("memory", memory)
        tally = self._settled if self._settled.frames else self._estimated
        if tally.frames:
            for target, total in tally.sums.items():
                table.add_row(
                    target,
                    f"mean {total / tally.frames:+.3f}, from {tally.lowest[target]:+.3f}"
                    f" to {tally.highest[target]:+.3f}",
                )
            shares = (f"{what} {count / tally.frames:.0%}" for what, count in tally.present.items())
            table.add_row("present", ", ".join(shares))
        if self.words:
            table.add_row("last words", Text(self.words))
        if self._agreement is not None and (found := self._agreement.ccc()) is not None:
            reached = ", ".join(f"{target} {value:+.3f}" for target, value in found.items())
            table.add_row("CCC", f"{reached} against the labels")
        return table


def clean(text: str) -> str:
    """The text on one line, without characters that a terminal might obey."""
    return "".join(c if c.isprintable() else " " for c in text)


def latency_text(latency: Message) -> str:
    """`latency p50 21 ms, p95 32 ms`, or nothing before the first frame."""
    if latency["p50"] is None:
        return ""
    return f"latency p50 {latency['p50']:.0f} ms, p95 {latency['p95']:.0f} ms"


def memory_text(counters: Message) -> str:
    """`312 MiB (bundle 250, all parts 290)`, or nothing where the system does not tell."""
    if not counters.get("resident_mib"):
        return ""
    stages = {"bundle": "resident_mib_bundle", "all parts": "resident_mib_parts"}
    loaded = ", ".join(f"{stage} {counters[name]:.0f}" for stage, name in stages.items() if name in counters)
    return f"{counters['resident_mib']:.0f} MiB" + (f" (loaded: {loaded})" if loaded else "")


def drops_text(status: Message | None) -> str:
    """What was dropped, by cause, the most first; empty where nothing was."""
    drops = {cause: n for cause, n in (status["drops"] if status else {}).items() if n}
    ordered = sorted(drops.items(), key=lambda item: -item[1])
    return clean(", ".join(f"{cause} {n}" for cause, n in ordered))


def bar(value: float, width: int, style: str) -> Text:
    """A bar of `width` cells from -1 to 1 that grows from its middle."""
    half = (width - 1) // 2
    filled = round(min(1.0, abs(value)) * half)
    left, right = (filled, 0) if value < 0 else (0, filled)
    return Text.assemble(
        ("─" * (half - left), "dim"),
        ("█" * left, style),
        "┼",
        ("█" * right, style),
        ("─" * (half - right), "dim"),
    )


# Braille dots of one cell: two columns of four, from the top; the code point is a sum of these bits.
_DOTS: Final = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))


def chart(values: Sequence[float], columns: int, rows: int) -> list[str]:
    """The newest values in [-1, 1] as a line of Braille dots, 2 x 4 to a cell, the newest at the right.

    The chart always spans `HISTORY_FRAMES`; each dot column is the mean of the frames that it stands for.
    """
    dots, levels = 2 * columns, 4 * rows
    cells = [[0] * columns for _ in range(rows)]
    for dot in range(dots):
        # Counted back from the newest value, so that old parts of the line keep their shape as it moves.
        stop = len(values) - (dots - 1 - dot) * HISTORY_FRAMES // dots
        start = max(0, min(stop - 1, len(values) - (dots - dot) * HISTORY_FRAMES // dots))
        if stop <= 0:
            continue
        mean = sum(values[start:stop]) / (stop - start)
        level = min(levels - 1, max(0, int((1 - mean) / 2 * levels)))
        cells[level // 4][dot // 2] |= _DOTS[dot % 2][level % 4]
    return ["".join(chr(0x2800 + bits) for bits in row) for row in cells]
