"""Material through the live path, in processes side by side, to a judgement of each kind."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from models.errors import UserError
from models.spec import Modality
from offline.judging.clips import estimate_clip, use_one_thread
from offline.judging.faces import estimate_face
from offline.judging.live_path import ItemEstimate, JudgeOptions, LivePath, open_live_path
from offline.judging.scoring import Judgement, score_material
from offline.judging.texts import estimate_text
from offline.judging.voices import estimate_voice
from offline.processes import WorkerDied, run_jobs

if TYPE_CHECKING:
    from collections.abc import Callable

    from offline.judging.material import Kind, Material

Job = tuple[int, Any]
"""An item and its number."""

_ESTIMATES: Final[dict[Kind, Callable[[Any, Any], ItemEstimate]]] = {
    "faces": estimate_face,
    "voices": estimate_voice,
    "texts": estimate_text,
    "clips": estimate_clip,
    "talking": estimate_clip,
}
_BRANCHES: Final[dict[Kind, Modality]] = {
    "faces": Modality.VISUAL,
    "voices": Modality.AUDIO,
    "texts": Modality.LANGUAGE,
}


def check_kind(path: LivePath, kind: Kind) -> tuple[str, ...]:
    """What is to be said before a kind is judged. Raises UserError where the bundle cannot be judged by it."""
    branch = _BRANCHES.get(kind)
    if branch is not None:
        path.require(branch)
    manifest = path.bundle.manifest
    if kind == "texts" and manifest.recipe.recogniser is None:
        return (
            f"the bundle '{manifest.name}' names no recogniser: live, its language branch is off unless one is given",
        )
    return ()


def judge(
    material: Material,
    options: JudgeOptions,
    workers: int,
    progress: Callable[[int], None] = lambda items: None,
) -> Judgement:
    """Each item from a fresh state; the same whatever the number of `workers`. `progress` is told of items done.

    Raises UserError for the first item that cannot be taken.
    """
    whole_engine = material.kind not in _BRANCHES
    make_tools = partial(use_one_thread if whole_engine else open_live_path, options)
    found: list[ItemEstimate | None] = [None] * len(material.items)
    jobs: list[Job] = list(enumerate(material.items))
    work = partial(_estimate, _ESTIMATES[material.kind])
    with closing(run_jobs(jobs, work, workers, make_tools=make_tools)) as finished:
        for done in finished:
            number = done.job[0]
            if isinstance(done.error, WorkerDied):
                raise UserError(
                    f"{material.names[number]} of {material.source} cannot be judged ({done.error})",
                    way_out="use fewer --workers, or take it out",
                )
            if done.error is not None:
                raise done.error
            found[number] = done.result
            progress(1)
    return score_material(material, [estimate for estimate in found if estimate is not None])


def _estimate(
    estimate: Callable[[Any, Any], ItemEstimate], tools: Any, job: Job, report: Callable[[None], None]
) -> ItemEstimate:
    return estimate(tools, job[1])
