"""The contract with subscribers: a JSON Schema (draft 2020-12) for each topic that carries JSON.

The files are made of the messages' types (`stream.schemas.forms`) by `python -m stream.schemas`.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator

TOPICS: Final = ("estimate", "settled", "state", "status", "transcript", "marker", "ack")


@cache
def schema(topic: str) -> dict[str, Any]:
    """The schema of `affect/<id>/<topic>`. Raises ValueError for a topic that has none."""
    if topic not in TOPICS:
        raise ValueError(f"no schema for '{topic}': there is one for each of {', '.join(TOPICS)}")
    read: dict[str, Any] = json.loads(files(__name__).joinpath(f"{topic}.json").read_text("utf-8"))
    return read


@cache
def validator(topic: str) -> Draft202012Validator:
    """What checks messages of a topic: `validator("estimate").is_valid(message)`."""
    from jsonschema import (
        Draft202012Validator,
    )  # here, so that those who only build messages need not wait for it

    return Draft202012Validator(schema(topic))


def complaint(topic: str, message: object) -> str | None:
    """What is wrong with a message, in one line, or None."""
    error = next(validator(topic).iter_errors(message), None)
    return None if error is None else f"{error.json_path}: {error.message}"
