"""A bounded first-in, first-out store on disk: what must survive an outage waits here."""

from __future__ import annotations

import hashlib
import logging
import re
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import platformdirs

from models.errors import UserError
from stream.logs import note

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stream.broker.connection import BrokerAddress

log = logging.getLogger(__name__)

_MEMORY: Final = ":memory:"
LOOPBACKS: Final = ("localhost", "127.0.0.1", "::1")
"""Names of this machine, whose broker is one by each."""


def outbox_folder() -> Path:
    """Where outboxes live: in this user's state folder."""
    return Path(platformdirs.user_state_dir("affectstream")) / "outbox"


def default_outbox(publisher_id: str, broker: BrokerAddress) -> Path:
    """The file of one publisher's outbox for one broker."""
    publisher = _in_file_names(publisher_id)
    if publisher != publisher_id:  # `a b` and `a_b` are two
        publisher += "_" + hashlib.sha256(publisher_id.encode()).hexdigest()[:8]
    host = "localhost" if broker.host in LOOPBACKS else _in_file_names(broker.host)
    return outbox_folder() / f"{publisher}_{host}-{broker.port}.sqlite"


def _in_file_names(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", text)


class Outbox:
    """Payloads in the order in which they came, at most `capacity` of them; more push the oldest out.

    One process at a time: SQLite's exclusive lock is held while open. Where the folder cannot be written the
    outbox is kept in memory, with a warning, and does not outlive the process. An unreadable file is put
    aside as `*.damaged`. Not for two threads at once; every method may block on the disk.
    """

    def __init__(self, path: Path, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"an outbox must hold at least one payload, not {capacity}")
        self._path = path
        self._capacity = capacity
        self._database: sqlite3.Connection | None = None
        self._on_disk = False
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def open(self) -> None:
        """Open or create the file, with what an earlier run left in it. Raises UserError where it is in use."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._database = self._connect(str(self._path))
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY:
                raise UserError(
                    f"another program holds the outbox {self._path}: "
                    "stop it, or publish under another name with --id"
                ) from None
            if isinstance(error, sqlite3.OperationalError):
                self._database = self._open_in_memory(error)
            else:
                self._put_damaged_file_aside(error)
        except OSError as error:
            self._database = self._open_in_memory(error)
        self._count = self._opened_database().execute("SELECT count(*) FROM outbox").fetchone()[0]

    def _connect(self, where: str) -> sqlite3.Connection:
        self._on_disk = where != _MEMORY
        database = sqlite3.connect(where, timeout=0.2, isolation_level=None, check_same_thread=False)
        try:
            database.execute("PRAGMA locking_mode = EXCLUSIVE")
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
            database.execute("BEGIN EXCLUSIVE")
            database.execute(
                "CREATE TABLE IF NOT EXISTS outbox"
                " (number INTEGER PRIMARY KEY AUTOINCREMENT, payload BLOB NOT NULL)"
            )
            database.execute("COMMIT")
        except sqlite3.Error:
            database.close()
            raise
        return database

    def _open_in_memory(self, error: Exception) -> sqlite3.Connection:
        message = f"cannot keep an outbox at {self._path} ({error}): it is in memory, for this run only"
        note(log, logging.WARNING, "outbox", message)
        return self._connect(_MEMORY)

    def _put_damaged_file_aside(self, error: Exception) -> None:
        damaged = self._path.with_suffix(".damaged")
        message = f"the outbox {self._path} is damaged ({error}): put aside as {damaged.name}"
        note(log, logging.WARNING, "outbox", message)
        try:
            self._path.replace(damaged)
            self._database = self._connect(str(self._path))
        except (OSError, sqlite3.Error) as again:
            self._database = self._open_in_memory(again)

    def _opened_database(self) -> sqlite3.Connection:
        if self._database is None:
            raise RuntimeError("the outbox is not open")
        return self._database

    def append(self, payloads: Sequence[bytes]) -> int:
        """Add at the end, in one transaction; the number of oldest payloads pushed out to make room."""
        if not payloads:
            return 0
        database = self._opened_database()
        pushed_out = max(0, self._count + len(payloads) - self._capacity)
        with _transaction(database):
            database.executemany("INSERT INTO outbox (payload) VALUES (?)", [(p,) for p in payloads])
            if pushed_out:
                database.execute(
                    "DELETE FROM outbox WHERE number IN (SELECT number FROM outbox ORDER BY number LIMIT ?)",
                    (pushed_out,),
                )
        self._count += len(payloads) - pushed_out
        return pushed_out

    def first(self, limit: int) -> list[tuple[int, bytes]]:
        """The oldest payloads, at most `limit`, each with the number by which `remove` knows it."""
        rows = self._opened_database().execute(
            "SELECT number, payload FROM outbox ORDER BY number LIMIT ?", (limit,)
        )
        return [(int(number), bytes(payload)) for number, payload in rows]

    def remove(self, up_to: int) -> None:
        """Forget everything up to and including this number: it was delivered."""
        database = self._opened_database()
        with _transaction(database):
            self._count -= database.execute("DELETE FROM outbox WHERE number <= ?", (up_to,)).rowcount

    def abandon(self) -> None:
        """Give up a file that fails, with what is in it, and go on in memory, empty."""
        if self._database is not None:
            with suppress(sqlite3.Error):
                self._database.close()
        self._database = self._connect(_MEMORY)
        self._count = 0

    def close(self) -> None:
        """Release the file; an empty one is deleted."""
        database, self._database = self._database, None
        if database is None:
            return
        with suppress(sqlite3.Error):
            database.close()
        if self._on_disk and self._count == 0:
            for path in (self._path, *(self._path.with_name(self._path.name + s) for s in ("-wal", "-shm"))):
                with suppress(OSError):
                    path.unlink(missing_ok=True)


class _transaction:
    """Commit at the end, roll back on an error."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def __enter__(self) -> None:
        self._database.execute("BEGIN")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._database.execute("COMMIT" if kind is None else "ROLLBACK")
