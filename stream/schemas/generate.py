"""JSON Schemas (draft 2020-12) made of the messages' types, in the form in which they are shipped."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from stream.schemas import TOPICS, forms

if TYPE_CHECKING:
    from pathlib import Path

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

_FORMS: Final[dict[str, tuple[str, type]]] = {
    "estimate": ("Provisional estimate", forms.EstimateForm),
    "settled": ("Settled estimate", forms.SettledForm),
    "state": ("State", forms.StateForm),
    "status": ("Status", forms.StatusForm),
    "transcript": ("Transcript", forms.TranscriptForm),
    "marker": ("Marker", forms.MarkerForm),
    "ack": ("Acknowledgement", forms.AckForm),
}


def generate(topic: str) -> dict[str, Any]:
    """The schema of `affect/<id>/<topic>`, from the type of its messages. Raises KeyError for another topic."""
    title, form = _FORMS[topic]
    made = TypeAdapter(form).json_schema(schema_generator=_Plain)
    shapes = made.pop("$defs", {})
    body = _inlined(made, shapes)
    purpose = " ".join(body.pop("description").split())
    return {
        "$schema": DIALECT,
        "$id": f"urn:affectstream:{topic}:{forms.SCHEMA}",
        "title": title,
        "description": f"{purpose} Topic affect/<id>/{topic}.",
        **body,
    }


def written(topic: str) -> str:
    """The text of a topic's file."""
    return json.dumps(generate(topic), indent=2) + "\n"


def outdated(folder: Path) -> list[Path]:
    """The topics' files in `folder` that are not as they would be written now."""
    paths = {topic: folder / f"{topic}.json" for topic in TOPICS}
    return [
        path
        for topic, path in paths.items()
        if not path.is_file() or path.read_text("utf-8") != written(topic)
    ]


class _Plain(GenerateJsonSchema):
    """Fields without titles; what may be null as a list of types."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def nullable_schema(self, schema: Any) -> dict[str, Any]:
        inner = self.generate_inner(schema["schema"])
        if not isinstance(inner.get("type"), str):
            return super().nullable_schema(schema)
        return {**inner, "type": [inner["type"], "null"]}


def _inlined(part: Any, shapes: dict[str, Any]) -> Any:
    """The part of a schema with each reference replaced by what it refers to; what is said beside it goes first."""
    if isinstance(part, list):
        return [_inlined(each, shapes) for each in part]
    if not isinstance(part, dict):
        return part
    if "$ref" in part:
        shape = shapes[part["$ref"].rpartition("/")[2]]
        inner = {key: value for key, value in shape.items() if key not in ("title", "description")}
        part = {**{key: value for key, value in part.items() if key != "$ref"}, **inner}
    kept = {key: value for key, value in part.items() if key != "title" or not isinstance(value, str)}
    return {key: _inlined(value, shapes) for key, value in kept.items()}
