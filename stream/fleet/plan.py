"""Which sources one process runs, each with an id and options of its own. No devices are opened here."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from models.errors import UserError
from stream.mqtt.topics import check_publisher_id
from stream.options import LSL_NAME
from stream.sources.open import is_live

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stream.options import InputOptions, OutputOptions

MOST_SOURCES: Final = 64


@dataclass(frozen=True)
class SourcePlan:
    """One source of several: what it is called, and what it is run with."""

    name: str
    input_options: InputOptions
    output_options: OutputOptions


class FleetEntry(BaseModel):
    """A `[[source]]` of a fleet's file: a source or a camera, and what differs from the command line's options."""

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    id: str | None = None
    source: str | None = None
    camera: str | None = None
    microphone: str | None = None
    size: Annotated[str | None, Field(pattern=r"^[1-9]\d{0,4}x[1-9]\d{0,4}$")] = None
    fps: Annotated[float | None, Field(ge=1)] = None
    bundle: str | None = None
    detector: Literal["auto", "haar", "yunet"] | None = None
    recogniser: str | None = None
    budget: str | None = None

    @property
    def target(self) -> str:
        """The source as `stream.sources.open` takes it. Raises UserError where there is none, or two."""
        given = [*([self.source] if self.source else []), *([f"camera:{self.camera}"] if self.camera else [])]
        if len(given) != 1:
            raise UserError("each [[source]] has one `source` (a file or an address) or one `camera`")
        return given[0]


class _Fleet(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Annotated[tuple[FleetEntry, ...], Field(min_length=1, max_length=MOST_SOURCES)]


def read_fleet(path: Path) -> tuple[FleetEntry, ...]:
    """The sources of a fleet's file. Raises UserError that names the place, for what cannot be meant."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UserError(f"cannot read the fleet's file {path} ({reason}): mend it, or name another") from None
    try:
        return _Fleet.model_validate(document).source
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{place} in {path} cannot be used: {first['msg']}") from None


def plan_sources(
    entries: Sequence[FleetEntry], input_options: InputOptions, output_options: OutputOptions
) -> list[SourcePlan]:
    """A plan for each source: the options of all, what an entry says otherwise, and outputs of its own.

    A record is a file for each in the folder that `output_options.record` names, a session a folder in that of
    `output_options.session`; the id of each is its own, after the `publisher_id` of all where there is one, and so is
    its name over LSL; the terminal and the page are of all together. A camera listens only where its entry names a
    microphone: one cannot tell whose the default one is. Raises UserError for ids that cannot be, or are the same,
    and for what cannot be had of several.
    """
    names = name_sources(entries)
    if output_options.labels is not None:
        raise UserError("labels belong to one recording: give them with that one alone")
    if output_options.metrics is not None:
        raise UserError(
            "--metrics is of one source: leave it out, or run each source in a process of its own"
        )
    plans = []
    for name, entry in zip(names, entries, strict=True):
        size = entry.size.split("x") if entry.size else None
        asked = {
            "bundle": entry.bundle,
            "detector": entry.detector,
            "recogniser": entry.recogniser,
            "budget": entry.budget,
            "frame_rate": entry.fps,
            "size": (int(size[0]), int(size[1])) if size else None,
        }
        own = replace(
            input_options,
            source=entry.target,
            microphone=entry.microphone or ("none" if entry.target.startswith("camera:") else None),
            **{key: value for key, value in asked.items() if value is not None},  # type: ignore[arg-type]
        )
        prefix = output_options.publisher_id
        plans.append(
            SourcePlan(
                name,
                own,
                replace(
                    output_options,
                    publisher_id=check_publisher_id(f"{prefix}-{name}" if prefix else name),
                    record=None if output_options.record is None else output_options.record / f"{name}.jsonl",
                    session=None if output_options.session is None else output_options.session / name,
                    view="none",
                    lsl_name=f"{output_options.lsl_name or LSL_NAME} {name}" if output_options.lsl else None,
                    page=False,
                    preview=False,
                ),
            )
        )
    return plans


def name_sources(entries: Sequence[FleetEntry]) -> list[str]:
    """What each is called: its id, or what its source suggests, numbered where that is not its own.

    Raises UserError where two have the same id.
    """
    given = Counter(entry.id for entry in entries if entry.id)
    for name, count in given.items():
        check_publisher_id(name)
        if count > 1:
            raise UserError(f"{count} sources have the id '{name}': give each its own")
    names: list[str] = []
    for entry in entries:
        name = base = entry.id or suggest_name(entry.target)
        number = 1
        while entry.id is None and (name in names or name in given):
            number += 1
            name = f"{base}-{number}"
        names.append(name)
    return names


def suggest_name(target: str) -> str:
    """A name for a source that is given none: a file's, a camera's, a host's; without anything secret."""
    if not is_live(target):
        text = Path(target).stem
    elif "://" in target:
        parts = urlsplit(target)
        text = f"{parts.hostname or 'stream'}{parts.path}"
    else:
        text = target.split("=")[0]
    return re.sub(r"[^a-z0-9_]+", "-", text.lower()).strip("-")[:64] or "source"
