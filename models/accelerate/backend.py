"""Back-ends and their precisions, and what building a runner on one takes and gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, Protocol, get_args

from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from models.accelerate.cache import ArtifactCache

BackendName = Literal["eager", "compile", "openvino", "tensorrt", "cuda"]
Precision = Literal["float32", "bfloat16", "float16", "int8"]

BACKENDS: Final[tuple[BackendName, ...]] = get_args(BackendName)
PRECISIONS: Final[tuple[Precision, ...]] = get_args(Precision)

OFFERED: Final[dict[BackendName, tuple[Precision, ...]]] = {
    "eager": ("float32",),
    "compile": ("float32", "bfloat16"),
    "openvino": ("float32", "bfloat16", "int8"),
    "tensorrt": ("float32", "float16"),
    "cuda": ("float32", "float16"),
}
"""The precisions of each back-end, the most exact first."""


@dataclass(frozen=True)
class Backend:
    """A back-end at a precision. Raises ValueError where the back-end has no such precision."""

    name: BackendName
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        if self.name not in OFFERED:
            raise ValueError(f"unknown accelerator '{self.name}': choose one of {', '.join(BACKENDS)}")
        if self.precision not in OFFERED[self.name]:
            offered = ", ".join(OFFERED[self.name])
            raise ValueError(f"{self.name} offers {offered}, not {self.precision}")

    def __str__(self) -> str:
        return self.name if self.name == "eager" else f"{self.name} {self.precision}"


EAGER: Final = Backend("eager")


class Runner(Protocol):
    """A part ready to run: CPU tensors of the example's shapes in, CPU float32 tensors out."""

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The module's outputs; a lone one as a tuple of one. The tensors are the caller's own."""
        ...


class Unavailable(Exception):
    """This machine, its packages or this module rule the back-end out; the message says why in one line."""


def _say_nothing(message: str) -> None:
    pass


@dataclass(frozen=True, eq=False)
class BuildContext:
    """What building a runner may use.

    `cache` keeps what took long to build, or None to keep nothing; `progress` is called with one line before
    something begins that takes long; `calibration` are inputs like the example, for int8.
    """

    cache: ArtifactCache | None = None
    threads: int = 1
    progress: Callable[[str], None] = _say_nothing
    calibration: Sequence[tuple[Tensor, ...]] = field(default=())


def as_tuple(outputs: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
    """A module's output or outputs as a tuple."""
    return (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)


def first_line(error: BaseException) -> str:
    """What an error says, in one line of bounded length."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."


def check_shapes(inputs: Sequence[Tensor], shapes: Sequence[tuple[int, ...]]) -> None:
    """Raises ValueError where inputs are not of the shapes that a runner was built for."""
    found = [tuple(x.shape) for x in inputs]
    if found != list(shapes):
        raise ValueError(f"this runner was built for inputs {list(shapes)}, not {found}")
