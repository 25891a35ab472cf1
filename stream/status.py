"""How a run stands, in one place: what the engine notes, what the parts count, and the `Status` made of both."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

from stream.messages import BundleStatus, Estimate, InputStatus, Phase, Status
from stream.sinks.base import Outlet
from stream.telemetry import Telemetry, resident_mib

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from stream.pacing import Flow
    from stream.perception.speech import Speech
    from stream.sources.events import InputChange, Source

SOURCE_DROPS: Final = frozenset({"ticks_dropped", "camera_surplus", "microphone_overflow_samples"})
"""The source's counters that say that something captured was not used."""


@dataclass(frozen=True)
class RunFacts:
    """What of a run's status never changes.

    `notes` say, a line each, what should be known of the source, and what was asked for and cannot be had; `measures`
    are further counters, such as the memory that was taken by loading.
    """

    bundle: BundleStatus
    accelerator: str = "eager"
    detector: str = ""
    notes: tuple[str, ...] = ()
    measures: Mapping[str, float] = field(default_factory=dict)


class StatusBoard:
    """Collects what there is to say of a run and makes frozen `Status` snapshots of it.

    The engine owns it and notes phases, inputs and estimates on it; drops and counters are read off the source, the
    flow, the recogniser and the sinks when a snapshot is made. For one event loop, not for threads.
    """

    def __init__(
        self, facts: RunFacts, inputs: Mapping[str, InputStatus], source: Source, flow: Flow, speech: Speech
    ) -> None:
        self.phase: Phase = "starting"
        self.frames = self.settled = self.settled_early = self.frames_paused = 0
        self._facts = facts
        self._inputs = dict(inputs)
        self._source = source
        self._flow = flow
        self._speech = speech
        self._outlet = Outlet(())
        self._telemetry = Telemetry()

    @property
    def inputs(self) -> Mapping[str, InputStatus]:
        """Each input's health right now."""
        return self._inputs

    def publish_to(self, outlet: Outlet) -> None:
        """From now on changes go to these sinks."""
        self._outlet = outlet

    def publish(self) -> None:
        """Offers a snapshot to the sinks."""
        self._outlet.offer_status(self.snapshot())

    def enter(self, phase: Phase) -> None:
        """Notes a new phase, and publishes it."""
        self.phase = phase
        self.publish()

    def update_inputs(self, changes: Iterable[InputChange]) -> None:
        """Notes inputs whose health changed, and publishes it."""
        self._inputs.update((change.name, change.status) for change in changes)
        self.publish()

    def count(self, estimate: Estimate) -> None:
        """Notes an estimate that was made."""
        if estimate.settled:
            self.settled += 1
        else:
            self.frames += 1
            self._telemetry.frame(estimate.latency_ms)

    def snapshot(self) -> Status:
        """How things stand."""
        facts, scheduler = self._facts, self._flow.scheduler
        return Status(
            phase=self.phase,
            source=self._source.info.name,
            inputs=dict(self._inputs),
            frames=self.frames,
            settled=self.settled,
            frame_rate=round(self._telemetry.frame_rate(), 2),
            latency_ms=self._telemetry.latency(),
            drops=self._drops(),
            bundle=facts.bundle,
            accelerator=facts.accelerator,
            detector=facts.detector,
            version=package_version(),
            counters=self._counters(),
            budget=scheduler.budget,
            degraded=scheduler.degraded,
            notes=facts.notes,
        )

    def _drops(self) -> dict[str, int]:
        engine = {"estimate_busy": self._flow.perceived.dropped, "speech_busy": self._speech.dropped_chunks}
        source = {name: n for name, n in self._source.counters.items() if name in SOURCE_DROPS}
        return {name: n for name, n in {**engine, **source, **self._outlet.drops}.items() if n}

    def _counters(self) -> dict[str, float]:
        engine = {
            "settled_early": self.settled_early,
            "load": round(self._flow.scheduler.load, 2),
            "frames_paused": self.frames_paused,
            "speech_late_samples": self._speech.late_samples,
            "resident_mib": resident_mib(),
            "captured_waiting": len(self._flow.captured),
            "perceived_waiting": len(self._flow.perceived),
            "speech_waiting": self._speech.waiting_chunks,
            **self._flow.counters,
            **self._facts.measures,
            **self._source.measures,
        }
        source = {name: n for name, n in self._source.counters.items() if name not in SOURCE_DROPS}
        return {name: n for name, n in {**engine, **source, **self._outlet.counters}.items() if n}


@cache
def package_version() -> str:
    """The installed package's, which is read from its files the first time."""
    return version("affectstream")
