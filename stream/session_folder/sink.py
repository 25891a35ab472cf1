"""The sink that keeps a run in a folder: tables that grow line by line, all of it on disk whatever ends the run."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Literal, cast

from filelock import FileLock

from models.errors import UserError
from stream.logs import note
from stream.session_folder.append import LineFile
from stream.session_folder.facts import moment, without_secrets, write_facts
from stream.session_folder.layout import (
    ESTIMATES,
    EVENT_COLUMNS,
    EVENTS,
    FACTS,
    LOCK,
    MEDIA,
    PARQUET,
    REVISION,
    ROOM,
    ROOM_BYTES,
    TEMPORARY,
    UNSETTLED_ESTIMATES,
    UNSETTLED_WORDS,
    WORD_COLUMNS,
    WORDS,
    estimate_columns,
    header,
    line,
)
from stream.session_folder.options import check_free
from stream.session_folder.parquet import make_parquet
from stream.session_folder.rows import MOST_UNSETTLED, EventRows, FrameRows, WordRows

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from stream.messages import Estimate, Marker, Status, Transcript
    from stream.session_folder.facts import Facts
    from stream.session_folder.media import MediaKeeper
    from stream.session_folder.rows import Row

log = logging.getLogger(__name__)

QUEUE_ROWS: Final = 8192
SYNC_EVERY_S: Final = 5.0
"""How much a power cut may cost; a kill costs nothing that was handed to the system."""

MOST_UNSETTLED_ROWS: Final = 20_000
"""Rows of estimates that are not final; beyond that those that have become so since are left out."""

EndedBy = Literal["source", "request", "failure"]


class SessionSink:
    """Writes a session's folder (`stream.session_folder.layout`), and its picture and sound where `media` keeps them.

    Rows are handed to the operating system as they come, by a thread and whole. A frame's row is final once it has
    settled; until then, and for words that may still change, there are files of what is not final yet, which a clean
    end takes into the others and removes, as `open_session_folder` does where the run was cut. The folder has to be
    new. When the disk fails, what is on it stays, the rest is counted, and `close` raises the UserError that says so.

    `facts` are those of `stream.session_folder.facts.describe`. `note_end` is an exit callback that notes how the run
    ended; of one that failed before it had a frame nothing stays.
    """

    name = "session"

    def __init__(self, folder: Path, facts: Facts, media: MediaKeeper | None = None) -> None:
        self._folder = folder
        self._facts = facts
        self._media = media
        folds = int(facts["bundle"]["folds"])
        words = header(WORD_COLUMNS)
        self._headers = {
            ESTIMATES: header(estimate_columns(folds)),
            UNSETTLED_ESTIMATES: header(estimate_columns(folds)),
            WORDS: words,
            UNSETTLED_WORDS: f"{REVISION.name},{words}",
            EVENTS: header(EVENT_COLUMNS),
        }
        self._files: dict[str, LineFile] = {}
        self._lock = FileLock(folder / LOCK, timeout=0, thread_local=False)
        self._frames, self._words, self._events = FrameRows(folds), WordRows(), EventRows()
        self._newest_s: float | None = None
        self._status: Status | None = None
        self._waiting: deque[tuple[str, Row]] = deque()
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._writing: asyncio.Task[None] | None = None
        self._drops: Counter[str] = Counter()
        self._written: Counter[str] = Counter()
        self._newest_unsettled: deque[tuple[int, str]] = deque(maxlen=MOST_UNSETTLED)
        self._unsettled_rows, self._last_settled = 0, -1
        self._synced_s = time.monotonic()
        self._closed = self._told_failure = False
        self._complaint: UserError | None = None

    @property
    def drops(self) -> Mapping[str, int]:
        """`session_queue`: the disk was too slow; `session_failed`: it was full, or broke; and those of the media."""
        return self._drops + Counter(self._media.drops if self._media is not None else {})

    @property
    def counters(self) -> Mapping[str, float]:
        """`session_frames`: rows of estimates written; `session_pictures`, where picture and sound are kept."""
        pictures = {} if self._media is None else {"session_pictures": self._media.frames}
        return {"session_frames": self._written[ESTIMATES], **pictures}

    async def open(self) -> None:
        """Make the folder. Raises UserError where there is something already, or it cannot be made."""
        try:
            await asyncio.to_thread(self._make_folder)
        except OSError as error:
            raise UserError(
                f"cannot keep a session in {self._folder} ({error.strerror or error}): "
                "give a folder where you can write"
            ) from None
        if self._media is not None:
            self._media.start()

    def _make_folder(self) -> None:
        check_free(self._folder)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock.acquire()
        if self._media is not None:
            self._facts["media"] = {
                "file": MEDIA,
                "kept": "picture and sound as the engine used them, on the time axis of time_s",
            }
        write_facts(self._folder, self._facts)
        (self._folder / ROOM).write_bytes(bytes(ROOM_BYTES))
        for name, first_line in self._headers.items():
            self._files[name] = file = LineFile(self._folder / name, first_line)
            if file.failure is not None:
                raise OSError(0, file.failure)

    async def run(self) -> None:
        """Write rows as they come."""
        while True:
            await self._arrived.wait()
            await self._write_waiting()

    async def ready(self) -> None:
        """Wait for the disk where it is half a queue behind."""
        await self._room.wait()

    def offer(self, estimate: Estimate) -> None:
        """Take an estimate: what is not settled yet beside the rest."""
        offset_s = time.time() - time.monotonic()
        if estimate.settled:
            self._put(ESTIMATES, self._frames.settled(estimate, offset_s))
        else:
            self._newest_s = estimate.time_s
            self._put(UNSETTLED_ESTIMATES, self._frames.provisional(estimate, offset_s))

    def offer_status(self, status: Status) -> None:
        """Take what has changed: phases, inputs, rungs, drops."""
        self._status = status
        if self._media is not None:
            self._media.hold(status.phase == "paused")
        now = time.time()
        for row in self._events.changed(status, now, now - time.monotonic(), self._newest_s):
            self._put(EVENTS, row)

    def offer_transcript(self, transcript: Transcript) -> None:
        """Take an utterance's words."""
        final, open_still = self._words.revised(transcript)
        for row in final:
            self._put(WORDS, row)
        for row in open_still:
            self._put(UNSETTLED_WORDS, row)

    def offer_marker(self, marker: Marker) -> None:
        """Take a moment that somebody marked."""
        self._put(EVENTS, self._events.marked(marker, time.time() - time.monotonic()))

    async def close(self) -> None:
        """Write what is left, and make the folder complete. Raises UserError where something was lost."""
        if self._writing is not None:
            await self._writing
        if not self._files:
            await asyncio.to_thread(self._lock.release)
            return
        for row in self._frames.take_unsettled():
            self._put(ESTIMATES, row)
        for row in self._words.take_open():
            self._put(WORDS, row)
        while self._waiting:
            await self._write_waiting()
        await asyncio.to_thread(self._finish)
        lost = sum(self.drops.values())
        reasons = [self._failure(), self._media.failure if self._media is not None else None]
        if lost or any(reasons):
            reason = next(filter(None, reasons), "the disk was too slow")
            self._complaint = UserError(
                f"the session {self._folder} is not complete ({reason}): {self._written[ESTIMATES]} frames are on "
                f"disk, {lost} rows, pictures or pieces of sound are lost; make room there, and record again"
            )
            raise self._complaint

    def note_end(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        """Notes in a folder that is complete whether the source, somebody's request or a failure ended the run."""
        if not self._closed or (self._complaint is not None and error is self._complaint):
            return
        by: EndedBy = "source"
        if kind is not None:
            by = (
                "request"
                if issubclass(kind, asyncio.CancelledError | KeyboardInterrupt | SystemExit)
                else "failure"
            )
        if by == "failure" and not self._written[ESTIMATES]:
            # A run that never began is no session, and would stand in the way of the next attempt.
            self._remove()
            return
        self._facts["ended"] |= {"by": by, "why": without_secrets(str(error)) if by == "failure" else ""}
        with suppress(OSError):
            write_facts(self._folder, self._facts)

    def _remove(self) -> None:
        """Removes what was made, and the folder where nothing else is in it."""
        for name in (*self._headers, PARQUET, FACTS, MEDIA):
            (self._folder / name).unlink(missing_ok=True)
        with suppress(OSError):
            self._folder.rmdir()

    def _put(self, name: str, row: Row) -> None:
        if self._failure() is not None:
            self._drops["session_failed"] += 1
        elif len(self._waiting) >= QUEUE_ROWS:
            self._drops["session_queue"] += 1
        else:
            self._waiting.append((name, row))
            self._arrived.set()
            if len(self._waiting) >= QUEUE_ROWS // 2:
                self._room.clear()

    def _failure(self) -> str | None:
        return next((file.failure for file in self._files.values() if file.failure is not None), None)

    async def _write_waiting(self) -> None:
        batch = list(self._waiting)
        self._waiting.clear()
        self._arrived.clear()
        self._room.set()
        self._writing = asyncio.create_task(self._write_batch(batch))
        # Nothing can stop a thread that writes: a cancelled `run` leaves it to `close` to wait for.
        await asyncio.shield(self._writing)

    async def _write_batch(self, batch: list[tuple[str, Row]]) -> None:
        written = await asyncio.to_thread(self._write_rows, batch)
        self._written += written
        if (lost := len(batch) - written.total()) > 0:
            self._drops["session_failed"] += lost
        if (failure := self._failure()) is not None and not self._told_failure:
            self._told_failure = True
            said = f"the session {self._folder} is no longer written: {failure}"
            note(log, logging.WARNING, "lost", said, what="session")

    def _write_rows(self, batch: list[tuple[str, Row]]) -> Counter[str]:
        """In the thread: append lines, and say how many by file."""
        lines: dict[str, list[str]] = {}
        for name, row in batch:
            text = line(row)
            lines.setdefault(name, []).append(text)
            if name == UNSETTLED_ESTIMATES:
                self._newest_unsettled.append((cast("int", row[0]), text))
                self._unsettled_rows += 1
            elif name == ESTIMATES:
                self._last_settled = cast("int", row[0])
        # What is not final goes first: a kill in between then costs nothing.
        order = sorted(lines, key=lambda name: name not in TEMPORARY)
        written = Counter({name: self._files[name].append(lines[name]) for name in order})
        if self._unsettled_rows > MOST_UNSETTLED_ROWS:
            self._leave_out_settled()
        if time.monotonic() - self._synced_s > SYNC_EVERY_S:
            self._synced_s = time.monotonic()
            for file in self._files.values():
                file.sync()
        return written

    def _leave_out_settled(self) -> None:
        """Keeps the file of what is not final from growing with the run."""
        still = [text for frame, text in self._newest_unsettled if frame > self._last_settled]
        self._files[UNSETTLED_ESTIMATES].rewrite([self._headers[UNSETTLED_ESTIMATES], *still])
        self._unsettled_rows = len(still)

    def _finish(self) -> None:
        """In a thread: everything on the disk, the Parquet file, `session.json`, and nothing temporary left."""
        if self._media is not None:
            self._media.close()
        for file in self._files.values():
            file.close()
        (self._folder / ROOM).unlink(missing_ok=True)
        ended = {**moment(time.time(), time.monotonic()), "by": None, "why": ""}
        self._facts |= {"state": "complete", "ended": ended, "totals": self._totals()}
        if self._media is not None:
            self._facts["media"] |= {
                "pictures": self._media.frames,
                "sound_s": round(self._media.sound_s, 3),
                "failure": self._media.failure,
            }
        try:
            if self._failure() is None:
                make_parquet(self._folder, self._facts)
        except OSError as error:
            self._files[ESTIMATES].failure = error.strerror or str(error)
        # What could not be finished stays beside the rest, for `open_session_folder` to take in.
        if self._failure() is None:
            for name in TEMPORARY:
                (self._folder / name).unlink(missing_ok=True)
        else:
            self._facts["state"] = "incomplete"
        with suppress(OSError):
            write_facts(self._folder, self._facts)
            self._closed = True
        self._lock.release()
        (self._folder / LOCK).unlink(missing_ok=True)

    def _totals(self) -> Facts:
        status = self._status
        return {
            "rows": {name: self._written[name] for name in (ESTIMATES, WORDS, EVENTS)},
            "drops": {**({} if status is None else status.drops), **self.drops},
            "settled": 0 if status is None else status.settled,
            "latency_ms": None if status is None else vars(status.latency_ms),
        }
