"""What viewers of the page are sent: the last minute at once, then what is new. No I/O, no clock.

Each publisher's estimates, words, markers and states are kept in bounded memory, and each viewer has bounded queues
of its own: a viewer that is slow misses the oldest of what waits for it, counted, and delays nobody.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections import deque
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

HISTORY_S: Final = 60.0
"""How much of the past somebody who comes late is shown, in media seconds."""

MOST_HISTORY_FRAMES: Final = 3600
"""Of each kind of estimate: a minute of a quick source."""

MOST_WAITING_FRAMES: Final = 900
"""Of each kind and publisher, for one viewer: half a minute that it may be behind."""

MOST_UTTERANCES: Final = 8
MOST_MARKERS: Final = 64
MOST_WORDS_CHARACTERS: Final = 600

MOST_TIME_S: Final = 1e9
"""Thirty years: what says more, on anybody's broker, is no time that could be drawn."""

MOST_SPREAD: Final = 2.0
"""From one end of the scale to the other: more cannot be drawn."""

KINDS: Final = ("provisional", "settled")


@dataclass(frozen=True)
class Row:
    """An estimate as the page takes it.

    `text` is the JSON array [frame, time_s, valence, arousal, spread of valence, spread of arousal, flags]; flags are
    1 for a face, 2 for a voice, 4 for words, 8 for degraded.
    """

    frame: int
    time_s: float
    text: str


def row_of(message: Mapping[str, Any]) -> Row | None:
    """The row of an estimate in its MQTT form; None where something in it is no number that can be drawn."""
    present, spreads = message["present"], message["spread"]
    spread = (min(spreads["valence"], MOST_SPREAD), min(spreads["arousal"], MOST_SPREAD))
    values = (message["valence"], message["arousal"], *spread)
    time_s = message["time_s"]
    if not all(map(math.isfinite, values)) or not 0 <= time_s < MOST_TIME_S:
        return None
    flags = (
        bool(present["face"])
        + 2 * bool(present["voice"])
        + 4 * bool(present["words"])
        + 8 * (message["degraded"] is not None)
    )
    numbers = ",".join(f"{value:.4f}" for value in values)
    return Row(message["frame"], time_s, f"[{message['frame']},{time_s:.3f},{numbers},{flags}]")


@dataclass
class Pending:
    """What of one publisher a viewer has not been sent yet. A frame, a word, a state: the newest wins."""

    begins_anew: bool = False
    most_rows: int = MOST_WAITING_FRAMES
    rows: dict[str, deque[str]] = field(default_factory=lambda: {kind: deque() for kind in KINDS})
    states: dict[str, str] = field(default_factory=dict)
    words: dict[int, str] = field(default_factory=dict)
    markers: deque[str] = field(default_factory=lambda: deque(maxlen=MOST_MARKERS))

    def to_json(self) -> str:
        """As the page takes it."""
        parts = ['"anew":true'] if self.begins_anew else []
        parts += [f'"{kind}":[{",".join(rows)}]' for kind, rows in self.rows.items() if rows]
        parts += [f'"{name}":{state}' for name, state in self.states.items()]
        parts += [f'"words":[{",".join(self.words.values())}]'] if self.words else []
        parts += [f'"markers":[{",".join(self.markers)}]'] if self.markers else []
        return f"{{{','.join(parts)}}}"


class Viewer:
    """One viewer's queues."""

    def __init__(self) -> None:
        self.dropped = 0
        self._ended = asyncio.Event()
        self._pending: dict[str, Pending] = {}
        self._is_new = asyncio.Event()

    def of(self, publisher: str) -> Pending:
        """What waits of a publisher; what is put there is to be followed by `wake`."""
        return self._pending.setdefault(publisher, Pending())

    def put_row(self, publisher: str, kind: str, text: str) -> None:
        """A frame; the oldest that waits makes room."""
        pending = self.of(publisher)
        rows = pending.rows[kind]
        if len(rows) >= pending.most_rows:
            rows.popleft()
            self.dropped += 1
        rows.append(text)
        self.wake()

    def wake(self) -> None:
        """There is something to send."""
        self._is_new.set()

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self._ended.is_set()

    def end(self) -> None:
        """Nothing more will come: what waits is sent, then the connection ends."""
        self._ended.set()
        self.wake()

    async def wait_end(self) -> None:
        """Until nothing more will come."""
        await self._ended.wait()

    async def wait(self) -> None:
        """Until there is something to send."""
        await self._is_new.wait()

    def take(self) -> str | None:
        """All that waits, as one JSON object; None where there is nothing."""
        self._is_new.clear()
        pending, self._pending = self._pending, {}
        if not pending:
            return None
        publishers = ",".join(f"{json.dumps(name)}:{waits.to_json()}" for name, waits in pending.items())
        return f'{{"publishers":{{{publishers}}}}}'


class _History:
    """One publisher's last minute."""

    def __init__(self) -> None:
        self.rows: dict[str, deque[Row]] = {kind: deque(maxlen=MOST_HISTORY_FRAMES) for kind in KINDS}
        self.states: dict[str, str] = {}
        self.words: dict[int, str] = {}
        self.markers: deque[str] = deque(maxlen=MOST_MARKERS)

    def forget(self) -> None:
        """It begins anew: another run under the same name."""
        for rows in self.rows.values():
            rows.clear()
        self.words.clear()
        self.markers.clear()

    def newest(self, kind: str) -> int:
        rows = self.rows[kind]
        return rows[-1].frame if rows else -1

    def keep(self, kind: str, row: Row) -> None:
        rows = self.rows[kind]
        rows.append(row)
        while rows[0].time_s < row.time_s - HISTORY_S:
            rows.popleft()

    def copy_to(self, pending: Pending) -> None:
        """All of it for a viewer that has nothing."""
        pending.begins_anew = True
        pending.most_rows = MOST_HISTORY_FRAMES + MOST_WAITING_FRAMES  # the past takes no room of what is new
        for kind, rows in self.rows.items():
            pending.rows[kind].extend(row.text for row in rows)
        pending.states.update(self.states)
        pending.words.update(self.words)
        pending.markers.extend(self.markers)


class Feed:
    """Keeps what was said last, and passes on what is said to every viewer. For one event loop, not for threads.

    Publishers go by their ids; a run of one's own has the empty one. Words are passed on only where `shows_words`.
    """

    def __init__(self, *, shows_words: bool, most_viewers: int = 32, most_publishers: int = 16) -> None:
        self.shows_words = shows_words
        self.not_a_number = self.refused = 0
        self._most_viewers = most_viewers
        self._most_publishers = most_publishers
        self._histories: dict[str, _History] = {}
        self._viewers: list[Viewer] = []
        self._dropped = 0

    @property
    def viewers(self) -> int:
        """How many look at the page now."""
        return len(self._viewers)

    @property
    def is_full(self) -> bool:
        """Whether nobody more can join."""
        return len(self._viewers) >= self._most_viewers

    @property
    def dropped(self) -> int:
        """Frames that were made and not sent, because a viewer was slow."""
        return self._dropped + sum(viewer.dropped for viewer in self._viewers)

    def join(self) -> Viewer | None:
        """Another viewer, to whom the last minute waits to be sent; None where there are too many."""
        if self.is_full:
            self.refused += 1
            return None
        viewer = Viewer()
        for publisher, history in self._histories.items():
            history.copy_to(viewer.of(publisher))
        viewer.wake()
        self._viewers.append(viewer)
        return viewer

    def leave(self, viewer: Viewer) -> None:
        """A viewer is gone."""
        if viewer in self._viewers:
            self._viewers.remove(viewer)
            self._dropped += viewer.dropped

    def end(self) -> None:
        """Nothing more will come."""
        for viewer in self._viewers:
            viewer.end()

    def knows(self, publisher: str) -> bool:
        """Whether it has said anything."""
        return publisher in self._histories

    def take(self, publisher: str, kind: str, message: Mapping[str, Any] | str) -> None:
        """Takes what a publisher said, in its MQTT form (`stream.schemas`), and `available` as text."""
        if publisher not in self._histories and len(self._histories) >= self._most_publishers:
            return
        if isinstance(message, str):
            self._take_state(publisher, "available", message)
        elif kind == "estimate":
            self._take_estimate(publisher, "provisional", message)
        elif kind == "settled":
            self._take_estimate(publisher, "settled", message)
        elif kind == "status":
            self._take_state(publisher, "status", message)
        elif kind == "transcript" and self.shows_words:
            self._take_words(publisher, message)
        elif kind == "marker":
            self._take_marker(publisher, message)

    def link(self, state: str) -> None:
        """How the way to all publishers is: `ok` or `lost`."""
        for publisher in self._histories:
            self._take_state(publisher, "link", state)

    def show(self, publisher: str, preview: Mapping[str, Any]) -> None:
        """Shows a picture of a publisher's, in place of one that waits. It is not kept."""
        text = json.dumps(preview, separators=(",", ":"))
        for viewer in self._viewers:
            viewer.of(publisher).states["preview"] = text
            viewer.wake()

    def _history(self, publisher: str) -> _History:
        return self._histories.setdefault(publisher, _History())

    def _take_estimate(self, publisher: str, kind: str, message: Mapping[str, Any]) -> None:
        row = row_of(message)
        if row is None:
            self.not_a_number += 1
            return
        history = self._history(publisher)
        if row.frame <= history.newest(kind):
            if kind == "settled" and row.frame > 0:
                return  # a broker delivers some of them twice
            self._begin_anew(publisher)
        history.keep(kind, row)
        for viewer in self._viewers:
            viewer.put_row(publisher, kind, row.text)

    def _begin_anew(self, publisher: str) -> None:
        history = self._history(publisher)
        history.forget()
        for viewer in self._viewers:
            pending = viewer.of(publisher)
            pending.begins_anew = True
            pending.words.clear()
            pending.markers.clear()
            for rows in pending.rows.values():
                rows.clear()
            pending.states.update(history.states)

    def _take_state(self, publisher: str, name: str, state: Mapping[str, Any] | str) -> None:
        text = json.dumps(state, separators=(",", ":"))
        self._history(publisher).states[name] = text
        for viewer in self._viewers:
            viewer.of(publisher).states[name] = text
            viewer.wake()

    def _take_words(self, publisher: str, message: Mapping[str, Any]) -> None:
        utterance = int(message["utterance"])
        text = json.dumps(
            [utterance, str(message["text"])[-MOST_WORDS_CHARACTERS:], bool(message["settled"])]
        )
        history = self._history(publisher)
        for words in (history.words, *(viewer.of(publisher).words for viewer in self._viewers)):
            words.pop(utterance, None)
            words[utterance] = text
            for oldest in list(islice(words, max(0, len(words) - MOST_UTTERANCES))):
                del words[oldest]
        self._wake(self._viewers)

    def _take_marker(self, publisher: str, message: Mapping[str, Any]) -> None:
        text = json.dumps([message["time_s"], message["marked_at"], message["text"], message["origin"]])
        self._history(publisher).markers.append(text)
        for viewer in self._viewers:
            viewer.of(publisher).markers.append(text)
        self._wake(self._viewers)

    @staticmethod
    def _wake(viewers: Iterable[Viewer]) -> None:
        for viewer in viewers:
            viewer.wake()
