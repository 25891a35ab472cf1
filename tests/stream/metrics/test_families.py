"""A status as metrics: every number of it is there, under a name that Prometheus accepts."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from stream.flow.ladder import RUNGS
from stream.messages import InputStatus, Status
from stream.metrics.sink import NewestStatus
from tests.stream.brokers import status


def scraped(newest: Status | None) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample of a scrape, as Prometheus' own parser reads it."""
    registry, collector = CollectorRegistry(), NewestStatus()
    collector.status = newest
    registry.register(collector)
    text = generate_latest(registry).decode()
    assert not text or text.endswith("\n")
    samples = {}
    names = set()
    for family in text_string_to_metric_families(text):
        assert family.name not in names
        assert family.documentation
        names.add(family.name)
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in samples
            samples[key] = sample.value
    return samples


def test_metrics_are_well_formed_and_complete() -> None:
    samples = scraped(
        status(
            source='a "quoted"\\name\nof two lines',
            drops={"mqtt_disconnected": 12},
            counters={
                "mqtt_published": 3.0,
                "mqtt_connections": 2,
                "mqtt_failed_attempts": 5,
                "mqtt_outbox_frames": 40,
                "camera_losses": 1,
                "resident_mib": 512.5,
                "captured_waiting": 3,
                "lsl_markers_waiting": 7,
                "behind_s": 0.25,
                "load": 0.5,
            },
            inputs={"camera": InputStatus("ok"), "microphone": InputStatus("lost", "unplugged")},
            degraded="visual-3",
        )
    )

    def of(metric: str, **labels: str) -> float:
        return samples[metric, frozenset(labels.items())]

    assert of("affect_frames_total") == 30
    assert of("affect_settled_total") == 20
    assert of("affect_running") == 1
    assert of("affect_drops_total", cause="mqtt_disconnected") == 12
    assert of("affect_input_ok", input="microphone", health="lost") == 0
    assert of("affect_input_ok", input="camera", health="ok") == 1
    assert of("affect_input_losses_total", input="camera") == 1
    assert of("affect_input_losses_total", input="microphone") == 0
    assert of("affect_broker_connections_total") == 2
    assert of("affect_broker_failed_attempts_total") == 5
    assert of("affect_outbox_frames") == 40
    assert of("affect_resident_memory_bytes") == 512.5 * 2**20
    assert of("affect_queue_depth", queue="captured") == 3
    assert of("affect_queue_depth", queue="perceived") == 0
    assert of("affect_queue_depth", queue="lsl_markers") == 7
    assert of("affect_behind_seconds") == 0.25
    assert of("affect_load") == 0.5
    assert of("affect_frame_rate") == 29.97
    assert of("affect_ladder_rung") == 2
    assert of("affect_measure", name="mqtt_published") == 3
    assert not any(name == "affect_measure" and ("name", "load") in labels for name, labels in samples)
    ((_, info),) = [key for key in samples if key[0] == "affect_info"]
    assert dict(info) == {
        "version": "0.1.0",
        "source": 'a "quoted"\\name\nof two lines',
        "accelerator": "eager",
        "detector": "haar",
        "bundle": "demo",
        "preset": "compact",
        "folds": "6",
        "trained": "false",
    }


def test_before_the_first_status_there_is_nothing_to_say() -> None:
    assert scraped(None) == {}


@pytest.mark.parametrize("step", range(len(RUNGS)))
def test_each_rung_has_its_number(step: int) -> None:
    degraded = RUNGS[step].name if step else None
    assert scraped(status(degraded=degraded))["affect_ladder_rung", frozenset()] == step
