"""The contract with subscribers: real messages fit their schemas, and say nothing that these do not mention."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from stream import schemas
from stream.messages import (
    Affect,
    CommandOutcome,
    Estimate,
    InputStatus,
    Latency,
    Marker,
    Present,
    Transcript,
    TranscriptWord,
)
from stream.mqtt.commands import Acknowledgement
from stream.mqtt.topics import PUBLISHED
from stream.schemas import TOPICS, complaint, schema
from stream.schemas.__main__ import main as write_schemas
from stream.schemas.generate import generate, outdated
from tests.stream.brokers import estimate, status

MESSAGES: dict[str, Any] = {
    "estimate": estimate(3).to_json(),
    "settled": estimate(3, settled=True).to_json(),
    "state": estimate(3).to_state(),
    "status": status(drops={"mqtt_queue": 2}, counters={"mqtt_published": 4}).to_json(),
    "transcript": Transcript(
        0, (TranscriptWord("hello", 0.51, 0.9, 0.9), TranscriptWord("you", 1, 2)), False
    ).to_json(),
    "marker": Marker("question 2", 1_700_000_000.25, 12.5, "mqtt").to_json(),
    "ack": Acknowledgement("pause", CommandOutcome(True, "paused already"), b"\x00\xff").to_json(),
}


def closed(part: Any) -> Any:
    """The schema with everything that it does not mention forbidden."""
    if isinstance(part, dict):
        inner = {key: closed(value) for key, value in part.items()}
        return {"additionalProperties": False, **inner} if "properties" in part else inner
    return [closed(each) for each in part] if isinstance(part, list) else part


@pytest.mark.parametrize("topic", TOPICS)
def test_each_schema_is_one_and_says_what_it_is(topic: str) -> None:
    Draft202012Validator.check_schema(schema(topic))
    assert schema(topic)["$schema"].endswith("2020-12/schema")
    assert f"affect/<id>/{topic}" in schema(topic)["description"]


@pytest.mark.parametrize("topic", TOPICS)
def test_the_shipped_file_is_what_the_types_of_the_messages_make(topic: str) -> None:
    assert schema(topic) == generate(topic)


def test_the_files_can_be_written_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shipped = Path(schemas.__file__).parent
    assert outdated(shipped) == [], "python -m stream.schemas writes them"
    for topic in TOPICS:
        (tmp_path / f"{topic}.json").write_bytes((shipped / f"{topic}.json").read_bytes())
    (tmp_path / "ack.json").write_text("{}")
    write_schemas(tmp_path)
    assert capsys.readouterr().out == "wrote ack.json\n"
    assert outdated(tmp_path) == []


def test_every_published_topic_that_carries_json_has_a_schema() -> None:
    assert set(TOPICS) == {topic for topic, how in PUBLISHED.items() if "json" in how.content_type}


@pytest.mark.parametrize("topic", TOPICS)
def test_real_messages_fit_and_hold_nothing_undocumented(topic: str) -> None:
    message = json.loads(json.dumps(MESSAGES[topic]))
    assert complaint(topic, message) is None
    assert list(Draft202012Validator(closed(schema(topic))).iter_errors(message)) == []
    assert set(schema(topic)["required"]) == set(message)


@pytest.mark.parametrize("topic", TOPICS)
def test_a_missing_field_does_not_fit(topic: str) -> None:
    for field in MESSAGES[topic]:
        message = {key: value for key, value in MESSAGES[topic].items() if key != field}
        assert complaint(topic, message) is not None


@pytest.mark.parametrize(
    ("topic", "changed"),
    [
        ("estimate", {"valence": 1.01}),
        ("estimate", {"arousal": None}),
        ("estimate", {"settled": True}),
        ("estimate", {"schema": 2}),
        ("estimate", {"frame": -1}),
        ("estimate", {"spread": {"valence": -0.1, "arousal": 0.0}}),
        ("estimate", {"present": {"face": 1, "voice": True, "words": True}}),
        ("settled", {"settled": False}),
        ("settled", {"latency_ms": 3.0}),
        ("status", {"phase": "dancing"}),
        ("status", {"inputs": {"camera": {"health": "fine", "detail": "", "way_out": ""}}}),
        ("status", {"drops": {"queue": 0.5}}),
        ("transcript", {"words": [{"text": "hello"}]}),
        ("marker", {"text": ""}),
        ("marker", {"text": "x" * 201}),
        ("marker", {"origin": "thin air"}),
        ("ack", {"obeyed": "yes"}),
        ("ack", {"correlation": "0f0"}),
    ],
)
def test_wrong_values_do_not_fit(topic: str, changed: dict[str, Any]) -> None:
    assert complaint(topic, {**MESSAGES[topic], **changed}) is not None


def test_a_topic_without_a_schema_is_named() -> None:
    with pytest.raises(ValueError, match="no schema for 'picture'"):
        schema("picture")


unit = st.floats(-1, 1)


@settings(max_examples=30, deadline=None)
@given(
    frame=st.integers(0, 10**9),
    values=st.tuples(unit, unit),
    spread=st.tuples(st.floats(0, 3), st.floats(0, 3)),
    present=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    settled=st.booleans(),
    latency_ms=st.none() | st.floats(0, 1e6),
)
def test_every_estimate_that_can_be_fits(
    frame: int,
    values: tuple[float, float],
    spread: tuple[float, float],
    present: tuple[bool, bool, bool],
    settled: bool,
    latency_ms: float | None,
) -> None:
    made = Estimate(
        frame=frame,
        time_s=frame / 30,
        captured_at=1.7e9,
        value=Affect(*values),
        spread=Affect(*spread),
        folds=(Affect(*values),),
        present=Present(*present),
        settled=settled,
        latency_ms=None if settled else latency_ms,
    )
    topic = "settled" if settled else "estimate"
    assert complaint(topic, json.loads(json.dumps(made.to_json()))) is None
    assert complaint("state", json.loads(json.dumps(made.to_state()))) is None


@settings(max_examples=30, deadline=None)
@given(text=st.text(), rate=st.floats(0, 1e4), latency=st.none() | st.floats(0, 1e5))
def test_every_status_that_can_be_fits(text: str, rate: float, latency: float | None) -> None:
    made = status(
        source=text,
        frame_rate=rate,
        latency_ms=Latency(latency, latency, latency),
        inputs={text: InputStatus("lost", text, text)},
    )
    assert complaint("status", json.loads(json.dumps(made.to_json()))) is None


@settings(max_examples=30, deadline=None)
@given(
    text=st.text(st.characters(codec="utf-8", categories=("L", "N", "P")), min_size=1, max_size=200),
    time_s=st.none() | st.floats(0, 1e6),
    correlation=st.none() | st.binary(),
    reason=st.text(),
)
def test_every_marker_and_acknowledgement_that_can_be_fits(
    text: str, time_s: float | None, correlation: bytes | None, reason: str
) -> None:
    marker = Marker(text, 1.7e9, time_s, "page").to_json()
    assert complaint("marker", json.loads(json.dumps(marker))) is None
    answer = Acknowledgement(text, CommandOutcome(False, reason), correlation).to_json()
    assert complaint("ack", json.loads(json.dumps(answer))) is None
