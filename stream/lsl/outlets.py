"""What the two outlets say of themselves: channels, units, ranges, the bundle. Recorders keep all of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from stream.messages import BundleStatus, Estimate

STREAM_TYPE: Final = "Affect"
BUFFERED_S: Final = 360
"""How long a recorder may be away before what it did not take is gone."""


@dataclass(frozen=True)
class Channel:
    """One channel: its label, kind and unit, and the range that its values are in."""

    label: str
    kind: str
    unit: str
    lowest: float
    highest: float


CHANNELS: Final = (
    Channel("valence", "Affect", "normalized", -1.0, 1.0),
    Channel("arousal", "Affect", "normalized", -1.0, 1.0),
    Channel("valence_spread", "Spread", "normalized", 0.0, 2.0),
    Channel("arousal_spread", "Spread", "normalized", 0.0, 2.0),
    Channel("face", "Presence", "boolean", 0.0, 1.0),
    Channel("voice", "Presence", "boolean", 0.0, 1.0),
    Channel("words", "Presence", "boolean", 0.0, 1.0),
)


@dataclass(frozen=True)
class StreamDescription:
    """What a run publishes: under which name, of what, computed by what.

    `publisher` stays the same when the program is started again; `frame_rate` is in frames a second; `live` says that
    frames may be dropped.
    """

    name: str
    publisher: str
    source: str
    frame_rate: float
    live: bool
    bundle: BundleStatus
    detector: str
    accelerator: str
    version: str

    def source_id(self, kind: str) -> str:
        """By which recorders find a stream again after a restart."""
        return f"affectstream-{self.publisher}-{self.name}-{kind}"


def sample(estimate: Estimate) -> list[float]:
    """An estimate's values, in the order of `CHANNELS`."""
    value, spread, present = estimate.value, estimate.spread, estimate.present
    return [
        value.valence,
        value.arousal,
        spread.valence,
        spread.arousal,
        float(present.face),
        float(present.voice),
        float(present.words),
    ]


def make_outlet(pylsl: Any, description: StreamDescription, *, settled: bool) -> Any:
    """An outlet for provisional estimates, at the frame rate, or for settled ones, which come as they settle.

    Opens sockets and starts threads: blocking.
    """
    kind = "settled" if settled else "provisional"
    info = pylsl.StreamInfo(
        f"{description.name} settled" if settled else description.name,
        STREAM_TYPE,
        len(CHANNELS),
        pylsl.IRREGULAR_RATE if settled else description.frame_rate,
        pylsl.cf_float32,
        description.source_id(kind),
    )
    _describe(info, description, kind)
    # An irregular stream's buffer is counted in hundreds of samples.
    buffered = round(BUFFERED_S * description.frame_rate / 100) + 1 if settled else BUFFERED_S
    return pylsl.StreamOutlet(info, max_buffered=buffered)


def _describe(info: Any, description: StreamDescription, kind: str) -> None:
    """Metadata as the XDF specifications name it, and below `affectstream` what they have no name for."""
    desc = info.desc()
    channels = desc.append_child("channels")
    for channel in CHANNELS:
        node = channels.append_child("channel")
        node.append_child_value("label", channel.label)
        node.append_child_value("type", channel.kind)
        node.append_child_value("unit", channel.unit)
        limits = node.append_child("range")
        limits.append_child_value("minimum", f"{channel.lowest:g}")
        limits.append_child_value("maximum", f"{channel.highest:g}")
    bundle = description.bundle
    acquisition = desc.append_child("acquisition")
    acquisition.append_child_value("manufacturer", "affectstream")
    acquisition.append_child_value("model", bundle.name)
    acquisition.append_child_value("software_version", description.version)
    synchronization = desc.append_child("synchronization")
    synchronization.append_child_value("can_drop_samples", str(description.live).lower())
    ours = desc.append_child("affectstream")
    for name, text in {
        "estimates": kind,
        "time_stamps": "capture of the frame",
        "source": description.source,
        "detector": description.detector,
        "accelerator": description.accelerator,
    }.items():
        ours.append_child_value(name, text)
    node = ours.append_child("bundle")
    for name, text in {
        "name": bundle.name,
        "preset": bundle.preset,
        "folds": str(bundle.folds),
        "trained": str(bundle.trained).lower(),
        "note": bundle.note,
    }.items():
        node.append_child_value(name, text)
