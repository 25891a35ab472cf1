"""What scripts may ask of a run, by name, and what a run is made of for it: `stream-run`'s own options."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypedDict

from models.errors import UserError
from stream.options import InputOptions, OutputOptions
from stream.shared_bundle import SharedBundle
from stream.sinks.simple import as_sinks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stream.options import DetectorChoice, Pace
    from stream.sinks.base import Sink
    from stream.sinks.simple import SimpleSink


class RunOptions(TypedDict, total=False):
    """Options of every run; each default is `stream-run`'s.

    `bundle`: the name of a shipped bundle, a bundle's folder, or what `affectstream.load_bundle` gave.
    `recogniser`: auto, none, an installed one's name, or a folder. `detector`: auto, haar or yunet. `accelerator`:
    auto, eager, or what else `stream-run --help` lists. `threads`: for the networks. `budget`: what a live source may
    be spared. `latency_target_ms`: how long a recording's frame may wait for others to be estimated with.
    `record`: a file for the settled estimates, a JSON line each; `overwrite` replaces an earlier one. `broker`: an
    address, embedded or none; `publisher_id`: publish under affect/ID; `publish_transcript`: recognised words too.
    `sinks`: your own, which take every estimate beside you.
    """

    bundle: str | Path | SharedBundle
    recogniser: str
    detector: DetectorChoice
    accelerator: str
    threads: int
    budget: str
    latency_target_ms: float
    record: str | Path
    overwrite: bool
    broker: str
    publisher_id: str
    publish_transcript: bool
    sinks: Sequence[Sink | SimpleSink]


class SourceOptions(RunOptions, total=False):
    """Options of a run over a source that is opened by its name.

    `microphone`: default, none, a number or a name (live sources). `size` (width, height) and `frame_rate`: what is
    asked of a camera.
    """

    microphone: str
    size: tuple[int, int]
    frame_rate: float


@dataclass(frozen=True)
class RunPlan:
    """A run as `stream.session` takes it."""

    input_options: InputOptions
    output_options: OutputOptions
    shared: SharedBundle | None
    sinks: tuple[Sink, ...]


_INPUTS: Final = frozenset(field.name for field in fields(InputOptions)) - {"source", "pace"}
_OUTPUTS: Final = frozenset(
    {"record", "overwrite", "broker", "publisher_id", "publish_transcript"},
)


def plan_run(source: str | Path, pace: Pace, options: Mapping[str, Any]) -> RunPlan:
    """The run that options mean.

    Raises TypeError for an option that there is not, UserError for two that exclude each other.
    """
    unknown = sorted(options.keys() - _INPUTS - _OUTPUTS - {"sinks"})
    if unknown:
        known = ", ".join(sorted(_INPUTS | _OUTPUTS | {"sinks"}))
        raise TypeError(f"there is no option '{unknown[0]}': choose from {known}")
    given = dict(options)
    shared = given.pop("bundle", None)
    if isinstance(shared, SharedBundle):
        if "accelerator" in given:
            raise UserError("the bundle was loaded with an accelerator already: name it in load_bundle")
        given["bundle"] = str(shared.folder)
    elif shared is not None:
        given["bundle"], shared = str(shared), None
    inputs = {"accelerator": "auto"} | {name: given[name] for name in _INPUTS & given.keys()}
    outputs = {name: given[name] for name in _OUTPUTS & given.keys()}
    if "record" in outputs:
        outputs["record"] = Path(outputs["record"])
    return RunPlan(
        InputOptions(str(source), pace=pace, **inputs),
        OutputOptions(view="none", **outputs),
        shared,
        as_sinks(given.get("sinks", ())),
    )
