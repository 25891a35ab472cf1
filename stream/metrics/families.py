"""A status as families of metrics: what a run has counted so far, and how it stands.

Metrics are prefixed `affect_`; which there are, and what they mean, is in docs/metrics.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric

from stream.flow.ladder import RUNGS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from stream.messages import Status

QUEUES: Final = ("captured", "perceived", "speech")
"""The engine's own; a sink's are those of its counters that end with `_waiting`."""

WAITING: Final = "_waiting"
MIB: Final = 2**20


def status_families(status: Status) -> Iterator[Metric]:
    """The metrics of one status. Every counter that has no metric of its own is in `affect_measure`, by its name."""
    counters = dict(status.counters)

    def take(name: str) -> float:
        return counters.pop(name, 0.0)

    bundle = status.bundle
    yield InfoMetricFamily(
        "affect",
        "What runs.",
        {
            "version": status.version,
            "source": status.source,
            "accelerator": status.accelerator,
            "detector": status.detector,
            "bundle": bundle.name,
            "preset": bundle.preset,
            "folds": str(bundle.folds),
            "trained": str(bundle.trained).lower(),
        },
    )
    yield GaugeMetricFamily("affect_running", "1 while estimates are made.", status.phase == "running")
    yield CounterMetricFamily("affect_frames", "Frames estimated.", status.frames)
    yield CounterMetricFamily("affect_settled", "Frames settled.", status.settled)
    yield CounterMetricFamily(
        "affect_settled_early", "Frames that settled before their words were known.", take("settled_early")
    )
    yield GaugeMetricFamily("affect_frame_rate", "Estimates a second, over the last 5 s.", status.frame_rate)
    yield GaugeMetricFamily(
        "affect_load", "Share of its time for which the busiest stage works.", take("load")
    )
    yield GaugeMetricFamily(
        "affect_ladder_rung",
        "What is spared: 0 nothing, "
        + ", ".join(f"{step} {rung.name}" for step, rung in enumerate(RUNGS[1:], 1)),
        _rung(status.degraded),
    )
    yield GaugeMetricFamily(
        "affect_behind_seconds", "How late a recording's newest frame was.", take("behind_s")
    )
    yield _labelled(
        GaugeMetricFamily("affect_input_ok", "1 where an input is well.", labels=["input", "health"]),
        {(name, each.health): each.health == "ok" for name, each in status.inputs.items()},
    )
    yield _labelled(
        CounterMetricFamily("affect_drops", "What was dropped, by cause.", labels=["cause"]),
        {(cause,): number for cause, number in status.drops.items()},
    )
    queues = {name: take(name + WAITING) for name in QUEUES}
    queues |= {name.removesuffix(WAITING): take(name) for name in list(counters) if name.endswith(WAITING)}
    yield _labelled(
        GaugeMetricFamily("affect_queue_depth", "What waits between two stages.", labels=["queue"]),
        {(name,): depth for name, depth in queues.items()},
    )
    yield _labelled(
        CounterMetricFamily("affect_input_losses", "How often an input was lost.", labels=["input"]),
        {(name,): take(f"{name}_losses") for name in ("camera", "microphone")},
    )
    yield CounterMetricFamily(
        "affect_broker_connections", "Connections made to the broker.", take("mqtt_connections")
    )
    yield CounterMetricFamily(
        "affect_broker_failed_attempts",
        "Attempts to reach the broker that failed.",
        take("mqtt_failed_attempts"),
    )
    yield GaugeMetricFamily(
        "affect_outbox_frames", "Settled frames that wait on disk for the broker.", take("mqtt_outbox_frames")
    )
    yield GaugeMetricFamily(
        "affect_resident_memory_bytes", "Memory that the process holds.", take("resident_mib") * MIB
    )
    yield _labelled(
        GaugeMetricFamily("affect_measure", "Whatever else is counted, by name.", labels=["name"]),
        {(name,): number for name, number in counters.items()},
    )


def _labelled(
    family: CounterMetricFamily | GaugeMetricFamily, values: Mapping[tuple[str, ...], float]
) -> Metric:
    for labels, value in values.items():
        family.add_metric(labels, value)
    return family


def _rung(degraded: str | None) -> int:
    names = [rung.name for rung in RUNGS]
    return names.index(degraded) if degraded in names else 0
