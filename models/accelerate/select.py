"""Which route each part takes: by hardware, by agreement with eager, and by a short measurement.

`auto` takes the most exact precision whose parts together fit the time a frame may take, and at that
precision the fastest back-end of each part; where none fits, the fastest that agreed. The choice is kept in the
cache, so that a replay takes the route that the first one took; one that was made while the machine was busy with
other work is made again at a calm start, unless the caller wants repeats. Agreement is checked at every start.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

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
from models.accelerate.cache import ArtifactCache, Facts
from models.accelerate.hardware import device_name, has_cpu_bfloat16, has_cuda, has_package, is_calm, versions
from models.accelerate.measure import (
    Attempt,
    Candidate,
    Judge,
    ModelPart,
    eager_candidate,
    eager_runner,
    frame_dim,
    parts_of,
    unmeasured,
)
from models.accelerate.parity import LIMITS, compare, make_reference
from models.accelerate.runtime import AUDIO, STEPS, TEXT, VISUAL, BatchedPart, PartReport, Runtime, TextPart
from models.accelerate.steps import Steps
from models.bundle.load import Bundle
from models.errors import UserError
from models.spec import Modality

FRAME_SHARE: Final = 0.6
"""How much of a frame's time sight and sound may take together: faces, words and sending want the rest."""

SLOW_TO_BUILD: Final[frozenset[BackendName]] = frozenset({"compile", "cuda", "tensorrt"})
"""What `auto` leaves alone where eager is quick enough: it may take half a minute to start."""

STEP_ROUTES: Final[Mapping[BackendName, Backend]] = {
    "openvino": Backend("openvino"),
    "cuda": Backend("cuda"),
    "tensorrt": Backend("cuda"),
}
"""By what sight or sound takes, what temporal branches, fusion and heads take; with others they stay eager.

To compile them for the CPU would take half a minute at every start, and TensorRT gains nothing on products so small.
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
    """The bundle's parts, each on the best route that agreed with eager; what did not is in the notes.

    `batches` are the numbers of frames that one call takes (others are put together from them, and padded);
    `auto` judges by the smallest. `frame_rate` (default: the bundle's) gives it the time a frame may take;
    `text_model` is the text encoder of `models.language`, served too where it is given. `cache` None keeps
    nothing on disk. With `keep_eager` false the eager weights of accelerated sight and sound are given up, and
    with them `Ensemble.embed_visual` and `Bundle.audio_encoder`. `repeatable` takes a kept choice whatever the
    machine was doing when it was made. Raises ValueError for no batch sizes; never fails for want of a fast path.
    """
    if not batches or any(n < 1 for n in batches):
        raise ValueError(f"batch sizes must be at least 1, not {list(batches)}")
    preference = preference or Preference()
    parts = parts_of(bundle, tuple(sorted(set(batches))), text_model)
    if preference.backend == "eager":
        trials = [Attempt(part, unmeasured(part)) for part in parts]
        return _assemble(bundle, trials, Steps(bundle.ensemble), keep_eager=True)
    calm = is_calm()
    budget_ms = 1000 * FRAME_SHARE / (frame_rate or bundle.manifest.recipe.frame_rate)
    insist = preference.backend != "auto"
    trials = [Attempt(part, eager_candidate(part), insist) for part in parts]
    judge = Judge(
        bundle, make_reference(bundle), BuildContext(cache=cache, threads=threads, progress=progress)
    )

    facts = _choice_facts(bundle, parts, preference, threads, tuple(batches), budget_ms)
    kept = None if cache is None else KeptChoice.read(cache.find_json(facts))
    if kept is None or not (kept.calm or repeatable or not calm) or not _take(kept, trials, judge):
        _choose(preference, trials, judge, budget_ms)
        if not calm and "auto" in (preference.backend, preference.precision):
            progress("measured while this machine was busy with other work: name an accelerator to be sure")
        if cache is not None:
            cache.keep_json(facts, KeptChoice({t.part.name: t.best().route for t in trials}, calm).to_json())
    _check_together(trials, judge)
    steps, reports = _serve_steps(trials, judge, min(batches))
    return _assemble(bundle, trials, steps, keep_eager, *reports)


@dataclass(frozen=True)
class KeptChoice:
    """What an earlier start chose for each part, and whether the machine was calm then."""

    routes: Mapping[str, Backend]
    calm: bool

    @classmethod
    def read(cls, value: Any) -> KeptChoice | None:
        """From its JSON form; None where it makes no sense."""
        try:
            routes = {str(name): Backend(*route) for name, route in value["routes"].items()}
            return cls(routes, bool(value["calm"]))
        except (TypeError, ValueError, KeyError, AttributeError):
            return None

    def to_json(self) -> dict[str, Any]:
        """The form that is kept."""
        return {"routes": {n: [r.backend, r.precision] for n, r in self.routes.items()}, "calm": self.calm}


def _choose(preference: Preference, trials: Sequence[Attempt], judge: Judge, budget_ms: float) -> None:
    """Try one precision after another until the parts together are quick enough."""

    def quick_enough() -> bool:
        return sum(t.best().ms or 0.0 for t in trials if t.part.per_frame) <= budget_ms

    for routes in _levels(preference):
        if (
            preference.backend == "auto"
            and quick_enough()
            and all(r.backend in SLOW_TO_BUILD for r in routes)
        ):
            return
        for trial in trials:
            for route in routes:
                judge.try_route(trial, route)
        if quick_enough():
            return


def _levels(preference: Preference) -> list[list[Backend]]:
    """The routes to try, the most exact precision first; one after another until the parts are quick enough."""
    if preference.backend != "auto":
        own = OFFERED[preference.backend] if preference.precision == "auto" else (preference.precision,)
        return [[Backend(preference.backend, precision)] for precision in own]
    backends: list[BackendName]
    if has_cuda():
        backends = ["tensorrt", "cuda"] if has_package("torch_tensorrt") else ["cuda"]
    elif has_package("openvino"):
        backends = ["openvino"]
    else:
        backends = ["compile"]
    wanted = PRECISIONS if preference.precision == "auto" else (preference.precision,)
    levels = [[Backend(b, p) for b in backends if p in OFFERED[b] and _is_native(b, p)] for p in wanted]
    return [level for level in levels if level] or [[]]


def _is_native(backend: BackendName, precision: Precision) -> bool:
    """Whether a precision is worth trying: bfloat16 on a processor without it is emulated, and slow."""
    if backend == "openvino":
        return precision != "bfloat16" or openvino.has_bfloat16()
    if backend == "compile" and precision == "bfloat16":
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


def _take(kept: KeptChoice, trials: Sequence[Attempt], judge: Judge) -> bool:
    """Build what an earlier start chose, however quick it is today; False where it does not hold any more."""
    if kept.routes.keys() != {t.part.name for t in trials}:
        return False
    found: list[Candidate] = []
    for trial in trials:
        route = kept.routes[trial.part.name]
        if route == EAGER:
            if trial.insist:
                return False
            found.append(trial.eager)
            continue
        judge.try_route(trial, route)
        # Words may have gone by another precision than the one asked for.
        same = [c for c in trial.accepted if c.route == route]
        if not same:
            return False
        found += same
    for trial, candidate in zip(trials, found, strict=True):
        trial.taken = candidate
    return True


def _check_together(trials: Sequence[Attempt], judge: Judge) -> None:
    """The chosen routes of sight and sound at once must agree as well as each alone; else all serve eagerly."""
    chosen = [(t, t.best()) for t in trials if t.part.modality is not None and t.best().route != EAGER]
    if len(chosen) < 2:
        return
    found: dict[Modality, Tensor] = {}
    for trial, candidate in chosen:
        assert trial.part.modality is not None
        x = BatchedPart(candidate.runners, frame_dim(trial.part))(trial.part.frames[0])
        found[trial.part.modality] = x if trial.part.name == VISUAL else x.unsqueeze(0)
    loosest = max((c.route.precision for _, c in chosen), key=lambda p: LIMITS[p].estimates)
    agreement = compare(judge.bundle.ensemble, judge.reference, found, loosest)
    if not agreement.holds:
        for trial, _ in chosen:
            trial.accepted.clear()
            trial.taken = None
            trial.notes.append(f"the parts together disagreed with eager on the probe: {agreement}")


def _serve_steps(
    trials: Sequence[Attempt], judge: Judge, frames: int
) -> tuple[Steps, tuple[PartReport, ...]]:
    """What follows the embeddings, in float32 by the back-end of sight or sound, where that takes it and agrees.

    What is measured is for the report: one call in place of hundreds was quicker wherever it was tried, and a choice
    by time would have to be kept.
    """
    eager = Steps(judge.bundle.ensemble)
    backends = [t.best().route.backend for t in trials if t.part.modality is not None]
    route = next((STEP_ROUTES[b] for b in backends if b in STEP_ROUTES), EAGER)
    if route == EAGER:
        return eager, ()
    try:
        steps = judge.build_steps(frames, route)
        agreement = judge.agreement_of_steps(steps, frames)
    except Unavailable as e:
        return eager, (PartReport(STEPS, EAGER, None, None, notes=(f"{route} does not serve: {e}",)),)
    if not agreement.holds:
        note = f"{route} does not serve, it disagreed with eager on the probe: {agreement}"
        return eager, (PartReport(STEPS, EAGER, None, None, notes=(note,)),)
    ms, eager_ms = (judge.measure_steps(s, frames) for s in (steps, eager))
    return steps, (PartReport(STEPS, route, ms, eager_ms, agreement),)


def _assemble(
    bundle: Bundle, trials: Sequence[Attempt], steps: Steps, keep_eager: bool, *more: PartReport
) -> Runtime:
    best = {t.part.name: t.best() for t in trials}
    reports = tuple(
        PartReport(t.part.name, c.route, c.ms, t.eager.ms, c.agreement, tuple(t.notes))
        for t, c in zip(trials, best.values(), strict=True)
    )
    text = next((t for t in trials if t.part.name == TEXT), None)
    if not keep_eager:
        _give_up_eager(bundle, {name for name, c in best.items() if c.route != EAGER})
    return Runtime(
        visual=BatchedPart(best[VISUAL].runners, 1) if VISUAL in best else None,
        audio=BatchedPart(best[AUDIO].runners, 0) if AUDIO in best else None,
        text=None if text is None else TextPart(_fixed(best[TEXT]), eager_runner(text.part)),
        steps=steps,
        reports=(*reports, *more),
    )


def _give_up_eager(bundle: Bundle, parts: Collection[str]) -> None:
    """Let go of the weights that accelerated parts hold in their own form; text keeps them for long utterances."""
    if VISUAL in parts:
        bundle.ensemble.trunks.to("meta")
        for stack in bundle.ensemble.stacks:
            if isinstance(stack.tail, nn.Module):
                stack.tail.to("meta")
    if AUDIO in parts and bundle.audio_encoder is not None:
        bundle.audio_encoder.to("meta")


def _fixed(candidate: Candidate) -> Mapping[int, Runner]:
    return {} if candidate.route == EAGER else candidate.runners
