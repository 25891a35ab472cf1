"""Which route each part takes: by hardware, by agreement with eager, and by a short measurement.

`auto` takes the most exact precision whose parts together fit the time a frame may take, and at that
precision the fastest back-end of each part; where none fits, the fastest that agreed. The choice is kept in
the cache unless the machine was busy with other work; the agreement is checked again at every start.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Final, Literal

import torch
from torch import Tensor, nn

from models.accelerate import openvino
from models.accelerate.cache import ArtifactCache, Facts
from models.accelerate.graphs import TextGraph, VisualGraph
from models.accelerate.machine import device_name, has_cuda, has_package, is_calm, versions
from models.accelerate.parity import LIMITS, Agreement, Reference, compare, estimate, make_reference
from models.accelerate.route import (
    BACKENDS,
    EAGER,
    OFFERED,
    PRECISIONS,
    Backend,
    Precision,
    Route,
    Runner,
    Unavailable,
    Workshop,
)
from models.accelerate.run import accelerate
from models.accelerate.served import AUDIO, TEXT, VISUAL, BatchedPart, PartReport, Served, TextPart
from models.bundle import Bundle
from models.errors import UserError
from models.spec import Modality

FRAME_SHARE: Final = 0.6
"""How much of a frame's time sight and sound may take together: faces, words and sending want the rest."""

TEXT_LENGTHS: Final = (16, 64)
"""Pieces of an utterance so far: most, and nearly all."""

_MEASURED: Final = 5


@dataclass(frozen=True)
class Preference:
    """What the user asked for."""

    backend: Backend | Literal["auto"] = "auto"
    precision: Precision | Literal["auto"] = "auto"

    def __post_init__(self) -> None:
        if self.backend != "auto" and self.precision != "auto":
            Route(self.backend, self.precision)

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


@dataclass(frozen=True, eq=False)
class _Part:
    """One part to be served: eager's form, the form for exporters, and what to try both on."""

    name: str
    eager: nn.Module
    graph: Callable[[], nn.Module]
    frames: tuple[Tensor, ...]
    calibration: tuple[Tensor, ...]
    sizes: tuple[int, ...]
    modality: Modality | None
    per_frame: bool

    def example(self, size: int) -> tuple[Tensor, ...]:
        """Inputs of one size: a batch of probe frames, or one utterance of that length."""
        if self.per_frame:
            return (_batch(self.frames[0], 0, size),)
        ids, mask = self.frames
        return _resize(ids, size), _resize(mask, size)

    def calibration_inputs(self, size: int) -> list[tuple[Tensor, ...]]:
        """Inputs of one size to calibrate int8 on."""
        samples = torch.cat(self.calibration) if self.calibration else None
        if samples is None:
            return []
        return [(_batch(samples, at, size),) for at in range(0, len(samples), size)]


@dataclass(frozen=True, eq=False)
class _Candidate:
    """A part on a route, built, measured and agreed."""

    route: Route
    runners: Mapping[int, Runner]
    ms: float
    agreement: Agreement | None


@dataclass(eq=False)
class _Trial:
    """The candidates of one part as they come, and why others did not; eager is none where the user insists."""

    part: _Part
    eager: _Candidate
    insist: bool = False
    accepted: list[_Candidate] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def best(self) -> _Candidate:
        found = [*self.accepted] if self.insist and self.accepted else [self.eager, *self.accepted]
        return min(found, key=lambda c: c.ms)


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
) -> Served:
    """The bundle's parts, each on the best route that agreed with eager; what did not is in the notes.

    `batches` are the numbers of frames that one call takes (others are put together from them, and padded);
    `frame_rate` (default: the bundle's) gives `auto` the time a frame may take; `text_model` is the text
    encoder of `models.language`, served too where it is given. `cache` None keeps nothing on disk. With
    `keep_eager` false the eager weights of accelerated sight are given up, and `Ensemble.embed_visual` with
    them. Raises ValueError for no batch sizes; never fails for want of a fast path.
    """
    if not batches or any(n < 1 for n in batches):
        raise ValueError(f"batch sizes must be at least 1, not {list(batches)}")
    calm = is_calm()
    preference = preference or Preference()
    budget_ms = 1000 * FRAME_SHARE / (frame_rate or bundle.manifest.recipe.frame_rate)
    reference = make_reference(bundle)
    parts = _parts(bundle, tuple(sorted(set(batches))), text_model)
    insist = preference.backend != "auto"
    trials = [_Trial(part, _eager_candidate(part), insist) for part in parts]
    workshop = Workshop(cache=cache, threads=threads, progress=progress)
    judge = _Judge(bundle, reference, workshop)

    facts = _choice_facts(bundle, preference, threads, tuple(batches), budget_ms)
    if not _take_known(facts, trials, judge):
        for routes in _levels(preference):
            for trial in trials:
                for route in routes:
                    judge.try_route(trial, route)
            if sum(t.best().ms for t in trials if t.part.per_frame) <= budget_ms:
                break
        chosen = {t.part.name: [t.best().route.backend, t.best().route.precision] for t in trials}
        if cache is not None and calm:
            cache.keep_json(facts, chosen)
    _check_together(trials, judge)
    return _assemble(bundle, trials, keep_eager)


class _Judge:
    """Builds a candidate, holds it to eager, and measures it."""

    def __init__(self, bundle: Bundle, reference: Reference, workshop: Workshop) -> None:
        self.bundle = bundle
        self.reference = reference
        self._workshop = workshop

    def try_route(self, trial: _Trial, route: Route) -> None:
        """Add the candidate to the trial where it can be built and agrees; else a note.

        Words, which cost nothing per frame, go by the back-end's float32 where a lower precision cannot serve.
        """
        part = trial.part
        if route == EAGER or any(c.route == route for c in trial.accepted):
            return
        exact = Route(route.backend)
        if part.name == TEXT and route.precision == "int8":  # nothing here to calibrate words on
            self.try_route(trial, exact)
            return
        try:
            runners = {size: self._build(part, size, route) for size in part.sizes}
            agreement = self.agreement(part, runners, route.precision)
        except Unavailable as e:
            trial.notes.append(f"{route} does not serve: {e}")
            return
        if not agreement.holds:
            trial.notes.append(f"{route} does not serve, it disagreed with eager on the probe: {agreement}")
            if part.name == TEXT and route != exact:
                self.try_route(trial, exact)
            return
        trial.accepted.append(_Candidate(route, runners, _measure(part, runners), agreement))

    def agreement(self, part: _Part, runners: Mapping[int, Runner], precision: Precision) -> Agreement:
        """The part's fast path beside eager on the probe; the worst of its sizes."""
        found = [self._compare(part, size, runner, precision) for size, runner in runners.items()]
        return Agreement(max(a.features for a in found), max(a.estimates for a in found), LIMITS[precision])

    def _build(self, part: _Part, size: int, route: Route) -> Runner:
        calibration = part.calibration_inputs(size) if route.precision == "int8" else []
        workshop = Workshop(
            self._workshop.cache, self._workshop.threads, self._workshop.progress, calibration
        )
        return accelerate(part.graph(), part.example(size), route, workshop)

    def _compare(self, part: _Part, size: int, runner: Runner, precision: Precision) -> Agreement:
        try:
            if part.modality is not None:
                found = BatchedPart({size: runner}, _frame_dim(part))(part.frames[0])
                own = found if part.name == VISUAL else found.unsqueeze(0)
                return compare(self.bundle.ensemble, self.reference, {part.modality: own}, precision)
            return self._compare_text(part, size, runner, precision)
        except (RuntimeError, ValueError) as e:
            raise Unavailable(f"it fails on the probe: {e}") from e

    def _compare_text(self, part: _Part, size: int, runner: Runner, precision: Precision) -> Agreement:
        """Word vectors of a fixed utterance as the language branch's embeddings, eager's beside the route's."""
        ids, mask = (_resize(x, min(size, part.frames[0].shape[1])) for x in part.frames)
        eager = _eager_runner(part)
        expected = TextPart({}, eager)(ids, mask)
        found = TextPart({size: runner}, eager)(ids, mask)
        embeddings = {
            m: x[:, :1].expand(-1, expected.shape[1], -1) for m, x in self.reference.embeddings.items()
        }
        embeddings[Modality.LANGUAGE] = expected
        reference = Reference(embeddings, estimate(self.bundle.ensemble, embeddings))
        return compare(self.bundle.ensemble, reference, {Modality.LANGUAGE: found}, precision)


def _parts(bundle: Bundle, batches: tuple[int, ...], text_model: nn.Module | None) -> list[_Part]:
    parts: list[_Part] = []
    probe = bundle.probe
    if Modality.VISUAL in bundle.ensemble.modalities:
        crops = probe["crops"]
        # No face is the crop of zeros, which is -1 in normalised pixels; others are mirrored and dimmed.
        varied = (crops, crops.flip(-1), 0.5 * crops - 0.5, torch.full_like(crops[:1], -1.0))
        parts.append(
            _Part(
                name=VISUAL,
                eager=_EagerVisual(bundle),
                graph=lambda: VisualGraph(bundle.ensemble),
                frames=(crops,),
                calibration=varied,
                sizes=batches,
                modality=Modality.VISUAL,
                per_frame=True,
            )
        )
    if Modality.AUDIO in bundle.ensemble.modalities and bundle.audio_encoder is not None:
        encoder, patches = bundle.audio_encoder, probe["patches"]
        # Log-mel: an offset is a gain. Silence is the front end's floor.
        floor = torch.full_like(
            patches[:1], float(torch.tensor(bundle.manifest.recipe.logmel.log_offset).log())
        )
        parts.append(
            _Part(
                name=AUDIO,
                eager=encoder,
                graph=lambda: encoder,
                frames=(patches,),
                calibration=(patches, patches - 1.0, patches + 1.0, floor),
                sizes=batches,
                modality=Modality.AUDIO,
                per_frame=True,
            )
        )
    if Modality.LANGUAGE in bundle.ensemble.modalities and text_model is not None:
        graph = TextGraph(text_model).eval()
        parts.append(
            _Part(
                name=TEXT,
                eager=graph,
                graph=lambda: graph,
                frames=_text_probe(text_model),
                calibration=(),
                sizes=_text_lengths(text_model),
                modality=None,
                per_frame=False,
            )
        )
    return parts


class _EagerVisual(nn.Module):
    """The stacked form that serves eagerly."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__()
        self.ensemble = bundle.ensemble

    def forward(self, crops: Tensor) -> Tensor:
        return self.ensemble.embed_visual(crops)


def _text_probe(model: nn.Module) -> tuple[Tensor, Tensor]:
    """A fixed utterance as piece ids (1, L), drawn over the whole vocabulary, and its mask."""
    longest = _text_lengths(model)[-1]
    size = int(getattr(model.config, "vocab_size", 0) or 1)
    ids = torch.randint(0, size, (1, longest), generator=torch.Generator().manual_seed(0))
    return ids, torch.ones_like(ids)


def _text_lengths(model: nn.Module) -> tuple[int, ...]:
    positions = int(getattr(model.config, "max_position_embeddings", 0) or 512)
    return tuple(n for n in TEXT_LENGTHS if n <= positions - 4) or (max(1, positions - 4),)


def _levels(preference: Preference) -> list[list[Route]]:
    """The routes to try, the most exact precision first; one after another until the parts are quick enough."""
    if preference.backend == "eager":
        return [[]]
    if preference.backend != "auto":
        own = OFFERED[preference.backend] if preference.precision == "auto" else (preference.precision,)
        return [[Route(preference.backend, precision)] for precision in own]
    backends: list[Backend]
    if has_cuda():
        backends = ["tensorrt", "cuda"] if has_package("torch_tensorrt") else ["cuda"]
    elif has_package("openvino"):
        backends = ["openvino"]
    else:
        backends = ["compile"]
    wanted = PRECISIONS if preference.precision == "auto" else (preference.precision,)
    levels = [[Route(b, p) for b in backends if p in OFFERED[b] and _is_native(b, p)] for p in wanted]
    return [level for level in levels if level] or [[]]


def _is_native(backend: Backend, precision: Precision) -> bool:
    """Whether a precision is worth trying: bfloat16 on a processor without it is emulated, and slow."""
    if backend == "openvino":
        return precision != "bfloat16" or openvino.has_bfloat16()
    if backend == "compile" and precision == "bfloat16":
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return True


def _choice_facts(
    bundle: Bundle, preference: Preference, threads: int, batches: tuple[int, ...], budget_ms: float
) -> Facts:
    return {
        "kind": "choice",
        "bundle": bundle.content_hash,
        "missing": list(bundle.missing),
        "preference": str(preference),
        "threads": threads,
        "batches": list(batches),
        "budget_ms": round(budget_ms, 3),
        "device": device_name(),
        "versions": versions("torch", "openvino", "nncf", "torch-tensorrt", "tensorrt"),
    }


def _take_known(facts: Facts, trials: Sequence[_Trial], judge: _Judge) -> bool:
    """Build what an earlier start chose; False where there is no such choice or it does not hold any more."""
    cache = judge._workshop.cache
    known = None if cache is None else cache.find_json(facts)
    if not isinstance(known, dict) or known.keys() != {t.part.name for t in trials}:
        return False
    try:
        routes = {name: Route(*route) for name, route in known.items()}
    except (TypeError, ValueError):
        return False
    for trial in trials:
        route = routes[trial.part.name]
        if route == EAGER and trial.insist:
            return False
        judge.try_route(trial, route)
        if route != EAGER and not trial.accepted:
            return False
    return True


def _check_together(trials: Sequence[_Trial], judge: _Judge) -> None:
    """The chosen routes of sight and sound at once must agree as well as each alone; else all serve eagerly."""
    chosen = [(t, t.best()) for t in trials if t.part.modality is not None and t.best().route != EAGER]
    if len(chosen) < 2:
        return
    found: dict[Modality, Tensor] = {}
    for trial, candidate in chosen:
        assert trial.part.modality is not None
        x = BatchedPart(candidate.runners, _frame_dim(trial.part))(trial.part.frames[0])
        found[trial.part.modality] = x if trial.part.name == VISUAL else x.unsqueeze(0)
    loosest = max((c.route.precision for _, c in chosen), key=lambda p: LIMITS[p].estimates)
    agreement = compare(judge.bundle.ensemble, judge.reference, found, loosest)
    if not agreement.holds:
        for trial, _ in chosen:
            trial.accepted.clear()
            trial.notes.append(f"the parts together disagreed with eager on the probe: {agreement}")


def _assemble(bundle: Bundle, trials: Sequence[_Trial], keep_eager: bool) -> Served:
    best = {t.part.name: t.best() for t in trials}
    reports = tuple(
        PartReport(t.part.name, c.route, c.ms, t.eager.ms, c.agreement, tuple(t.notes))
        for t, c in zip(trials, best.values(), strict=True)
    )
    text = next((t for t in trials if t.part.name == TEXT), None)
    if not keep_eager and best.get(VISUAL, _NOTHING).route != EAGER:
        bundle.ensemble.trunks.to("meta")
        for stack in bundle.ensemble.stacks:
            if isinstance(stack.tail, nn.Module):
                stack.tail.to("meta")
    return Served(
        visual=BatchedPart(best[VISUAL].runners, 1) if VISUAL in best else None,
        audio=BatchedPart(best[AUDIO].runners, 0) if AUDIO in best else None,
        text=None if text is None else TextPart(_fixed(best[TEXT]), _eager_runner(text.part)),
        reports=reports,
    )


def _fixed(candidate: _Candidate) -> Mapping[int, Runner]:
    return {} if candidate.route == EAGER else candidate.runners


def _eager_runner(part: _Part) -> Runner:
    return accelerate(part.eager, part.frames, EAGER)


def _eager_candidate(part: _Part) -> _Candidate:
    runners = {0: _eager_runner(part)}
    return _Candidate(EAGER, runners, _measure(part, runners), None)


def _measure(part: _Part, runners: Mapping[int, Runner]) -> float:
    """Milliseconds a frame (an utterance of the shortest length, for text): the median of a few calls."""
    size = max(part.sizes) if part.per_frame else min(part.sizes)
    inputs = part.example(size)
    runner = runners[size] if size in runners else runners[0]
    runner(*inputs)
    times = []
    for _ in range(_MEASURED):
        began = time.perf_counter()
        runner(*inputs)
        times.append(time.perf_counter() - began)
    return 1e3 * median(times) / (size if part.per_frame else 1)


def _frame_dim(part: _Part) -> int:
    return 1 if part.name == VISUAL else 0


def _batch(frames: Tensor, at: int, size: int) -> Tensor:
    """`size` frames from `at` on, round and round."""
    return frames[(at + torch.arange(size)) % len(frames)].contiguous()


def _resize(x: Tensor, length: int) -> Tensor:
    return x[:, :length].contiguous()


_NOTHING: Final = _Candidate(EAGER, {}, 0.0, None)
