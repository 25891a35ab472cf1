"""`session.json`: everything about a session that is not in its tables."""

from __future__ import annotations

import json
import os
import platform
import time
from dataclasses import asdict, fields
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Final

from models.credentials import HIDDEN, hide_credentials, is_secret
from models.errors import UserError
from stream.session_folder.layout import (
    EVENT_COLUMNS,
    EVENTS,
    FACTS,
    KIND,
    SCHEMA,
    WORD_COLUMNS,
    WORDS,
    estimate_columns,
)

if TYPE_CHECKING:
    from pathlib import Path

    from models.bundle.load import Bundle
    from stream.options import InputOptions, OutputOptions
    from stream.sources.events import Source

Facts = dict[str, Any]

PACKAGES: Final = ("affectstream", "torch", "numpy", "av", "opencv-python-headless", "vosk", "pyarrow")


def describe(
    input_options: InputOptions,
    output_options: OutputOptions,
    *,
    bundle: Bundle,
    source: Source,
    detector: str,
    recogniser: str | None,
    accelerator: str,
) -> Facts:
    """The facts that are known when a session begins, and at which moment on which clock that was."""
    manifest, info = bundle.manifest, source.info
    now, monotonic_s = time.time(), time.monotonic()
    folds = bundle.ensemble.folds
    return {
        "schema": SCHEMA,
        "kind": KIND,
        "state": "recording",
        "participant": output_options.participant,
        "notes": without_secrets(output_options.notes),
        "began": moment(now, monotonic_s),
        "ended": None,
        "clocks": {
            "captured_at": "seconds since the Unix epoch, this machine's wall clock",
            "captured_monotonic_s": "seconds on this machine's monotonic clock, which no one sets; on Linux "
            "CLOCK_MONOTONIC, which is also the clock of Lab Streaming Layer",
            "time_s": "media seconds from the source's first frame",
            "unix_minus_monotonic_s": round(now - monotonic_s, 6),
            "frame_rate": info.frame_rate,
        },
        "source": {
            "asked": without_secrets(input_options.source),
            "given": {name: without_secrets(value) for name, value in asdict(info).items()},
            "live": source.live,
        },
        "bundle": {
            "name": manifest.name,
            "sha256": bundle.content_hash,
            "preset": manifest.preset,
            "folds": folds,
            "trained": manifest.trained,
            "note": manifest.note,
        },
        "parts": {"detector": detector, "recogniser": recogniser, "accelerator": accelerator},
        "options": {"input": options_shown(input_options), "output": options_shown(output_options)},
        "versions": versions(),
        "tables": {
            "estimates": {column.name: column.meaning for column in estimate_columns(folds)},
            WORDS: {column.name: column.meaning for column in WORD_COLUMNS},
            EVENTS: {column.name: column.meaning for column in EVENT_COLUMNS},
        },
        "media": None,
        "totals": {},
    }


def options_shown(options: InputOptions | OutputOptions) -> Facts:
    """All options by name, with what is secret in them left out."""
    return {
        field.name: HIDDEN
        if is_secret(field.name) and getattr(options, field.name)
        else without_secrets(getattr(options, field.name))
        for field in fields(options)
    }


def without_secrets(value: object) -> Any:
    """A value as JSON can hold it; of addresses without users, passwords and what follows a question mark."""
    if isinstance(value, str):
        # Names of files need not be UTF-8.
        return hide_credentials(value.encode(errors="backslashreplace").decode())
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, list | tuple):
        return [without_secrets(each) for each in value]
    if isinstance(value, dict):
        return {str(name): without_secrets(each) for name, each in value.items()}
    return without_secrets(str(value))


def versions() -> dict[str, str]:
    """Of Python, the system and the packages that compute."""
    found = {"python": platform.python_version(), "system": platform.platform()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def moment(at: float, monotonic_s: float | None = None) -> Facts:
    """A moment on each clock, and as people write it."""
    return {
        "at": round(at, 6),
        "monotonic_s": None if monotonic_s is None else round(monotonic_s, 6),
        "utc": datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds"),
        "local": datetime.fromtimestamp(at).astimezone().isoformat(timespec="milliseconds"),
    }


def write_facts(folder: Path, facts: Facts) -> None:
    """Puts `session.json` in place whole, or leaves the earlier one. Raises OSError."""
    path = folder / FACTS
    beside = path.with_name(f".{FACTS}.part")
    text = json.dumps(facts, indent=2, ensure_ascii=False) + "\n"
    try:
        with beside.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise


def read_facts(folder: Path) -> Facts:
    """What `session.json` says. Raises UserError where the folder holds no session, or one of a newer form."""
    facts = _facts_of_any_form(folder)
    if facts is None:
        raise UserError(f"{folder} holds no session: give a folder that stream-run --session wrote")
    if facts.get("schema") != SCHEMA:
        raise UserError(
            f"the session {folder} is of form {facts.get('schema')}, this version reads {SCHEMA}: "
            "upgrade affectstream"
        )
    return facts


def is_session(folder: Path) -> bool:
    """Whether a folder holds a session, of whatever form."""
    return _facts_of_any_form(folder) is not None


def _facts_of_any_form(folder: Path) -> Facts | None:
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return facts if isinstance(facts, dict) and facts.get("kind") == KIND else None
