"""On which back-end each part of a bundle runs: by hardware, by agreement with eager, and by a short measurement.

`auto` takes the most exact precision at which the parts together fit the time that a frame may take, and at that
precision the fastest back-end of each part; where none fits, the fastest that agreed with eager. The choice is kept
in the cache, so that a replay computes as the first run did. A choice that was measured while the machine was busy
with other work is made again at the next start on an idle machine, unless the caller asks for repeatable runs.
Agreement with eager is checked at every start.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from torch import Tensor, nn

from models.accelerate.backend import (
    BACKENDS,
    EAGER,
    OFFERED,
    PRECISIONS,
    Backend,
    BackendName,
    BuildContext,
    Precision,
    Runner,
    Unavailable,
)
from models.accelerate.backends import openvino
from models.accelerate.candidates import Attempt, Candidate, CandidateBuilder, eager_candidate, unmeasured
from models.accelerate.hardware import device_name, has_cpu_bfloat16, has_cuda, has_package, versions
from models.accelerate.parity import LIMITS, compare, make_reference
from models.accelerate.parts import ModelPart, eager_runner, frame_dim, parts_of
from models.accelerate.runtime import AUDIO, STEPS, TEXT, VISUAL, BatchedPart, PartReport, Runtime, TextPart
from models.accelerate.steps import Steps
from models.errors import UserError
from models.machine import is_calm

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from models.accelerate.cache import ArtifactCache, Facts
    from models.bundle.load import Bundle
    from models.spec import Modality

FRAME_SHARE: Final = 0.6
"""How much of a frame's time the picture and sound encoders may take together; face detection, words and sending need
the rest.
"""

SLOW_TO_BUILD: Final[frozenset[BackendName]] = frozenset({"compile", "cuda", "tensorrt"})
"""Back-ends that `auto` does not try where eager is quick enough: they may take half a minute to start."""

READS_EAGER_WEIGHTS: Final[frozenset[BackendName]] = frozenset({"compile"})
"""Back-ends without weights of their own: they compute with the module's, and compile again where those change."""

STEP_BACKENDS: Final[Mapping[BackendName, Backend]] = {
    "openvino": Backend("openvino"),
    "cuda": Backend("cuda"),
    "tensorrt": Backend("cuda"),
}
"""The back-end of temporal branches, fusion and heads, by that of the picture or sound encoder; eager with any other.

To compile them for the CPU would take half a minute at every start, and TensorRT gains nothing on matrix products so
small.
"""


@dataclass(frozen=True)
class Preference:
    """What the user asked for."""

    backend: BackendName | Literal["auto"] = "auto"
    precision: Precision | Literal["auto"] = "auto"

    def __post_init__(self) -> None:
        if self.backend != "auto" and self.precision != "auto":
            Backend(self.backend, self.precision)

    @classmethod
    def parse(cls, text: str) -> Preference:
        """`auto`, a back-end, or a back-end and a precision: `openvino:int8`. Raises UserError."""
        backend, _, precision = text.partition(":")
        wrong = UserError(
            f"there is no accelerator '{text}': give auto, or one of {', '.join(BACKENDS)}, "
            "and with it a precision if you like, as in openvino:int8"
        )
        if backend not in ("auto", *BACKENDS) or precision not in ("", "auto", *PRECISIONS):
            raise wrong
        try:
            return cls(backend, precision or "auto")  # type: ignore[arg-type]
        except ValueError as e:
            raise UserError(f"there is no accelerator '{text}': {e}") from e

    def __str__(self) -> str:
        return self.backend if self.precision == "auto" else f"{self.backend}:{self.precision}"


def serve(
    bundle: Bundle,
    *,
    preference: Preference | None = None,
    text_model: nn.Module | None = None,
    cache: ArtifactCache | None = None,
    threads: int = 1,
    batches: Sequence[int] = (1,),
    frame_rate: float | None = None,
    progress: Callable[[str], None] = lambda message: None,
    keep_eager: bool = True,
    repeatable: bool = False,
) -> Runtime:
    """The bundle's parts, each on the best back-end that agreed with eager; the notes say why others did not serve.

    `batches` are the numbers of frames that one call takes (other numbers are put together from them, and padded);
    `auto` measures the smallest. `frame_rate` (default: the bundle's) gives the time that a frame may take.
    `text_model` is the text encoder (`models.text.embedder`), accelerated too where it is given. `cache` None keeps
    nothing on disk. With `keep_eager` false the eager weights of an accelerated picture or sound encoder are freed,
    and `Ensemble.embed_visual` and `Bundle.audio_encoder` can no longer be called. `repeatable` takes a kept choice
    even if the machine was busy when it was made. Raises ValueError for no batch sizes; a back-end that is missing
    or fails is never an error, since eager takes its place.
    """
    if not batches or any(n < 1 for n in batches):
        raise ValueError(f"batch sizes must be at least 1, not {list(batches)}")
    preference = preference or Preference()
    parts = parts_of(bundle, tuple(sorted(set(batches))), text_model)
    if preference.backend == "eager":
        attempts = [Attempt(part, unmeasured(part)) for part in parts]
        return _assemble(bundle, attempts, Steps(bundle.ensemble), keep_eager=True)
    calm = is_calm()
    budget_ms = 1000 * FRAME_SHARE / (frame_rate or bundle.manifest.recipe.frame_rate)
    insist = preference.backend != "auto"
    attempts = [Attempt(part, eager_candidate(part), insist) for part in parts]
    builder = CandidateBuilder(
        bundle, make_reference(bundle), BuildContext(cache=cache, threads=threads, progress=progress)
    )

    facts = _choice_facts(bundle, parts, preference, threads, tuple(batches), budget_ms)
    kept = None if cache is None else KeptChoice.read(cache.find_json(facts))
    if (
        kept is None
        or not (kept.calm or repeatable or not calm)
        or not _rebuild_kept(kept, attempts, builder)
    ):
        _choose(preference, attempts, builder, budget_ms)
        if not calm and "auto" in (preference.backend, preference.precision):
            progress("measured while this machine was busy with other work: name an accelerator to be sure")
        if cache is not None:
            cache.keep_json(
                facts, KeptChoice({t.part.name: t.best().backend for t in attempts}, calm).to_json()
            )
    _check_together(attempts, builder)
    steps, reports = _select_steps(attempts, builder, min(batches))
    return _assemble(bundle, attempts, steps, keep_eager, *reports)


@dataclass(frozen=True)
class KeptChoice:
    """The back-end that an earlier start chose for each part, and whether the machine had no other work then."""

    backends: Mapping[str, Backend]
    calm: bool

    @classmethod
    def read(cls, value: Any) -> KeptChoice | None:
        """From its JSON form; None for anything else."""
        try:
            backends = {str(part): Backend(*chosen) for part, chosen in value["routes"].items()}
            return cls(backends, bool(value["calm"]))
        except (TypeError, ValueError, KeyError, AttributeError):
            return None

    def to_json(self) -> dict[str, Any]:
        """Its JSON form."""
        return {"routes": {n: [b.name, b.precision] for n, b in self.backends.items()}, "calm": self.calm}


def _choose(
    preference: Preference, attempts: Sequence[Attempt], builder: CandidateBuilder, budget_ms: float
) -> None:
    """Try one precision after another until the parts together are quick enough."""

    def quick_enough() -> bool:
        return sum(t.best().ms or 0.0 for t in attempts if t.part.per_frame) <= budget_ms

    for backends in _backends_by_precision(preference):
        if preference.backend == "auto" and quick_enough() and all(b.name in SLOW_TO_BUILD for b in backends):
            return
        for attempt in attempts:
            for backend in backends:
                builder.try_backend(attempt, backend)
        if quick_enough():
            return


def _backends_by_precision(preference: Preference) -> list[list[Backend]]:
    """The back-ends to try at each precision, the most exact precision first."""
    if preference.backend != "auto":
        own = OFFERED[preference.backend] if preference.precision == "auto" else (preference.precision,)
        return [[Backend(preference.backend, precision)] for precision in own]
    names: list[BackendName]
    if has_cuda():
        names = ["tensorrt", "cuda"] if has_package("torch_tensorrt") else ["cuda"]
    elif has_package("openvino"):
        names = ["openvino"]
    else:
        names = ["compile"]
    wanted = PRECISIONS if preference.precision == "auto" else (preference.precision,)
    levels = [[Backend(n, p) for n in names if p in OFFERED[n] and _is_native(n, p)] for p in wanted]
    return [level for level in levels if level] or [[]]


def _is_native(name: BackendName, precision: Precision) -> bool:
    """Whether a precision is worth trying: bfloat16 on a processor without it is emulated, and slow."""
    if name == "openvino":
        return precision != "bfloat16" or openvino.has_bfloat16()
    if name == "compile" and precision == "bfloat16":
        return has_cpu_bfloat16()
    return True


def _choice_facts(
    bundle: Bundle,
    parts: Sequence[ModelPart],
    preference: Preference,
    threads: int,
    batches: tuple[int, ...],
    budget_ms: float,
) -> Facts:
    return {
        "kind": "choice",
        "bundle": bundle.content_hash,
        "parts": [part.name for part in parts],
        "missing": list(bundle.missing),
        "preference": str(preference),
        "threads": threads,
        "batches": list(batches),
        "budget_ms": round(budget_ms, 3),
        "device": device_name(),
        "versions": versions("torch", "openvino", "nncf", "torch-tensorrt", "tensorrt"),
        "int8": openvino.INT8_METHOD,
    }


def _rebuild_kept(kept: KeptChoice, attempts: Sequence[Attempt], builder: CandidateBuilder) -> bool:
    """Build what an earlier start chose, however quick it is today; False where that is no longer possible."""
    if kept.backends.keys() != {t.part.name for t in attempts}:
        return False
    found: list[Candidate] = []
    for attempt in attempts:
        backend = kept.backends[attempt.part.name]
        if backend == EAGER:
            if attempt.insist:
                return False
            found.append(attempt.eager)
            continue
        builder.try_backend(attempt, backend)
        # For text, `try_backend` may have built another precision than the one asked for.
        same = [c for c in attempt.accepted if c.backend == backend]
        if not same:
            return False
        found += same
    for attempt, candidate in zip(attempts, found, strict=True):
        attempt.taken = candidate
    return True


def _check_together(attempts: Sequence[Attempt], builder: CandidateBuilder) -> None:
    """The chosen picture and sound encoders together must agree with eager as each does alone; else both run
    eagerly.
    """
    chosen = [(t, t.best()) for t in attempts if t.part.modality is not None and t.best().backend != EAGER]
    if len(chosen) < 2:
        return
    found: dict[Modality, Tensor] = {}
    for attempt, candidate in chosen:
        assert attempt.part.modality is not None
        x = BatchedPart(candidate.runners, frame_dim(attempt.part))(attempt.part.frames[0])
        found[attempt.part.modality] = x if attempt.part.name == VISUAL else x.unsqueeze(0)
    loosest = max((c.backend.precision for _, c in chosen), key=lambda p: LIMITS[p].estimates)
    agreement = compare(builder.bundle.ensemble, builder.reference, found, loosest)
    if not agreement.holds:
        for attempt, _ in chosen:
            attempt.accepted.clear()
            attempt.taken = None
            attempt.notes.append(f"the parts together disagreed with eager on the probe: {agreement}")


def _select_steps(
    attempts: Sequence[Attempt], builder: CandidateBuilder, frames: int
) -> tuple[Steps, tuple[PartReport, ...]]:
    """Temporal branches, fusion and heads, in float32 on the back-end of the picture or sound encoder, where they
    can be built there and agree with eager.

    The measurement is only for the report. A choice by time would have to be kept in the cache, and one call in
    place of hundreds was quicker wherever it was tried.
    """
    eager = Steps(builder.bundle.ensemble)
    names = [t.best().backend.name for t in attempts if t.part.modality is not None]
    backend = next((STEP_BACKENDS[n] for n in names if n in STEP_BACKENDS), EAGER)
    if backend == EAGER:
        return eager, ()
    try:
        steps = builder.build_steps(frames, backend)
        agreement = builder.agreement_of_steps(steps, frames)
    except Unavailable as e:
        return eager, (PartReport(STEPS, EAGER, None, None, notes=(f"{backend} does not serve: {e}",)),)
    if not agreement.holds:
        note = f"{backend} does not serve, it disagreed with eager on the probe: {agreement}"
        return eager, (PartReport(STEPS, EAGER, None, None, notes=(note,)),)
    ms, eager_ms = (builder.measure_steps(s, frames) for s in (steps, eager))
    return steps, (PartReport(STEPS, backend, ms, eager_ms, agreement),)


def _assemble(
    bundle: Bundle, attempts: Sequence[Attempt], steps: Steps, keep_eager: bool, *more: PartReport
) -> Runtime:
    best = {t.part.name: t.best() for t in attempts}
    reports = tuple(
        PartReport(t.part.name, c.backend, c.ms, t.eager.ms, c.agreement, tuple(t.notes))
        for t, c in zip(attempts, best.values(), strict=True)
    )
    text = next((t for t in attempts if t.part.name == TEXT), None)
    if not keep_eager:
        own = {name for name, c in best.items() if c.backend != EAGER}
        own -= {name for name, c in best.items() if c.backend.name in READS_EAGER_WEIGHTS}
        _free_eager_weights(bundle, own)
    return Runtime(
        bundle.ensemble,
        visual=BatchedPart(best[VISUAL].runners, 1) if VISUAL in best else None,
        audio=BatchedPart(best[AUDIO].runners, 0) if AUDIO in best else None,
        text=None if text is None else TextPart(_accelerated_runners(best[TEXT]), eager_runner(text.part)),
        steps=steps,
        reports=(*reports, *more),
    )


def _free_eager_weights(bundle: Bundle, parts: Collection[str]) -> None:
    """Free the weights of parts that are accelerated; text keeps them for utterances longer than its runners take."""
    if VISUAL in parts:
        bundle.ensemble.trunks.to("meta")
        for stack in bundle.ensemble.stacks:
            if isinstance(stack.tail, nn.Module):
                stack.tail.to("meta")
    if AUDIO in parts and bundle.audio_encoder is not None:
        bundle.audio_encoder.to("meta")


def _accelerated_runners(candidate: Candidate) -> Mapping[int, Runner]:
    return {} if candidate.backend == EAGER else candidate.runners
