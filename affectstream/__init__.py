"""How a person seems to feel, from a script or a notebook: valence and arousal, 30 times a second.

    import affectstream

    for estimate in affectstream.stream("talk.mp4"):
        print(estimate.time_s, estimate.value.valence, estimate.value.arousal)

`stream` and `astream` give estimates as they come, `estimate` a whole recording as arrays, `open_session` takes
frames and sound that a program pushes. `load_bundle` loads what several of them share, `list_parts` says which
pretrained parts are here. What goes wrong is an `AffectError`; what a user can mend, a `UserError`, which is one.

Everything is explained in `docs/api.md`. Importing this costs next to nothing: PyTorch is imported by the first call.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from affectstream.recordings import estimate
    from affectstream.results import Result
    from affectstream.sessions import Session, open_session
    from affectstream.streaming import AsyncStream, Stream, astream, stream
    from models.errors import AffectError, UserError
    from models.parts.overview import PartState, list_parts
    from stream.messages import Affect, Estimate, Present, Status, TranscriptWord
    from stream.options import DEMO_RECORDING
    from stream.shared_bundle import SharedBundle, load_bundle
    from stream.sinks.simple import SimpleSink as Sink

__all__ = [
    "DEMO_RECORDING",
    "Affect",
    "AffectError",
    "AsyncStream",
    "Estimate",
    "PartState",
    "Present",
    "Result",
    "Session",
    "SharedBundle",
    "Sink",
    "Status",
    "Stream",
    "TranscriptWord",
    "UserError",
    "astream",
    "estimate",
    "list_parts",
    "load_bundle",
    "open_session",
    "stream",
]

_PLACES = {
    "AffectError": ("models.errors", "AffectError"),
    "UserError": ("models.errors", "UserError"),
    "Result": ("affectstream.results", "Result"),
    "estimate": ("affectstream.recordings", "estimate"),
    "Session": ("affectstream.sessions", "Session"),
    "open_session": ("affectstream.sessions", "open_session"),
    "Stream": ("affectstream.streaming", "Stream"),
    "AsyncStream": ("affectstream.streaming", "AsyncStream"),
    "stream": ("affectstream.streaming", "stream"),
    "astream": ("affectstream.streaming", "astream"),
    "PartState": ("models.parts.overview", "PartState"),
    "list_parts": ("models.parts.overview", "list_parts"),
    "Affect": ("stream.messages", "Affect"),
    "Estimate": ("stream.messages", "Estimate"),
    "Present": ("stream.messages", "Present"),
    "Status": ("stream.messages", "Status"),
    "TranscriptWord": ("stream.messages", "TranscriptWord"),
    "DEMO_RECORDING": ("stream.options", "DEMO_RECORDING"),
    "SharedBundle": ("stream.shared_bundle", "SharedBundle"),
    "load_bundle": ("stream.shared_bundle", "load_bundle"),
    "Sink": ("stream.sinks.simple", "SimpleSink"),
}


def __getattr__(name: str) -> Any:
    """Imports what a name stands for when it is first used."""
    if name not in _PLACES:
        raise AttributeError(f"module 'affectstream' has no attribute '{name}'")
    module, attribute = _PLACES[name]
    found = globals()[name] = getattr(import_module(module), attribute)
    return found


def __dir__() -> list[str]:
    return sorted(__all__)


def _require_own_packages() -> None:
    """Raises ImportError where `models` or `stream` is somebody else's: those of a script's folder come first."""
    installed = Path(__file__).resolve().parent.parent
    for name in ("models", "stream"):
        spec = find_spec(name)
        found = Path(spec.origin) if spec is not None and spec.origin is not None else None
        if found is not None and found.resolve().parent != installed / name:
            raise ImportError(
                f"affectstream needs its own package `{name}`, but Python finds {found.parent} first: "
                "rename that folder, or run from another one"
            )


_require_own_packages()
