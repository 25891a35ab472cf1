"""What training and pretraining are asked to do; every option is kept in the record of what came of it."""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.spec import TARGETS, Modality, NetworkSpec, Target, WindowSpec, preset
from offline.training.schedule import ScheduleOptions

Context = Literal["windows", "stream"]
"""How a trial is passed over: in windows whose overlaps are averaged, or in one causal pass."""

RELEASABLE: Final = frozenset({"layer4", "layer3_tail"})
"""Groups of backbone layers that training may release."""

LossName = Literal["windows", "frames"]
"""The report's CCC over each window, or CCC over all frames of a batch as one series with the squared error."""


class TrainOptions(BaseModel):
    """Options of a run; all of its folds share them, and resuming with others is refused.

    The descriptions are the help texts of `offline-train`, whose defaults and ranges are these too.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    preset: Annotated[str, Field(description="The network's size: paper, practical or compact.")] = "paper"
    modalities: Annotated[
        tuple[Modality, ...], Field(description="Branches that the network has, separated by commas.")
    ] = tuple(Modality)
    targets: Annotated[
        tuple[Target, ...],
        Field(description="What the network estimates: valence,arousal, or one of them."),
    ] = TARGETS
    schedule: ScheduleOptions = ScheduleOptions()
    batch: Annotated[int, Field(gt=0, description="Windows in a batch.")] = 2
    accumulate: Annotated[
        int, Field(gt=0, description="Batches whose gradients are summed for one step of the optimiser.")
    ] = 1
    weight_decay: Annotated[float, Field(ge=0, description="Weight decay of the optimiser.")] = 1e-3
    window: Annotated[int, Field(gt=0, description="Frames in a window.")] = WindowSpec().length
    hop: Annotated[int, Field(gt=0, description="Frames from the start of one window to the next.")] = (
        WindowSpec().hop
    )
    augment: Annotated[
        bool, Field(description="Crop and mirror the pictures at random, all of a window alike.")
    ] = True
    loss: Annotated[
        LossName,
        Field(
            description="What is minimised: windows (the report's CCC of each window) or frames (CCC of all frames "
            "of a batch together and the squared error, for windows in which a feeling may be held)."
        ),
    ] = "windows"
    mask_share: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="Share of windows in which some branches are masked for a while, as if their input were "
            "away.",
        ),
    ] = 0.0
    context: Annotated[
        Context,
        Field(
            description="How validation passes over a trial: windows (overlapping windows, averaged) or stream (one "
            "causal pass, as live)."
        ),
    ] = "windows"
    cache_trunk: Annotated[
        int,
        Field(
            ge=0,
            le=162,
            description="Compute the frozen layers once, under this many fixed crops, and keep the results on disk: "
            "faster, with less augmentation. 0 computes them for every window, under any crop.",
        ),
    ] = 0
    max_steps: Annotated[
        int | None, Field(gt=0, description="Stop after this many steps of the optimiser.")
    ] = None
    seed: Annotated[int, Field(ge=0, description="Seed of everything random.")] = 0
    device: Annotated[str, Field(description="Where to compute: auto, cpu, cuda or cuda:N.")] = "cpu"
    threads: Annotated[
        int,
        Field(
            gt=0, description="CPU threads for each fold; the cores shared among the workers if not given."
        ),
    ] = 1
    amp: Annotated[bool, Field(description="Compute in bfloat16 where that is safe.")] = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.hop > self.window:
            raise ValueError(f"a hop of {self.hop} leaves frames between windows of {self.window}")
        release = self.schedule.release
        if len(set(release)) != len(release) or not set(release) <= RELEASABLE:
            raise ValueError("groups to release are layer4 and layer3_tail, each at most once")
        return self

    @property
    def window_spec(self) -> WindowSpec:
        """Windows over a trial."""
        return WindowSpec(length=self.window, hop=self.hop)

    @property
    def network(self) -> NetworkSpec:
        """The preset with the branches and targets asked for. Raises ValueError for an unknown preset."""
        leave_out = {m.value: None for m in Modality if m not in self.modalities}
        content = preset(self.preset).model_dump() | leave_out | {"targets": self.targets}
        return NetworkSpec.model_validate(content)

    @property
    def effective_schedule(self) -> ScheduleOptions:
        """The schedule; without a visual branch, or with a frozen one, there is nothing to release."""
        visual = self.network.visual
        if visual is not None and not visual.backbone.frozen:
            return self.schedule
        return self.schedule.model_copy(update={"release": ()})


class PretrainOptions(BaseModel):
    """Options of pretraining. Rates rise over the first tenth of all steps and fall to nothing as a cosine.

    The descriptions are the help texts of `offline-pretrain`, whose defaults and ranges are these too.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    preset: Annotated[str, Field(description="The preset whose encoders are pretrained.")] = "compact"
    epochs: Annotated[int, Field(gt=0, description="Epochs of the face backbone.")] = 10
    audio_epochs: Annotated[int, Field(gt=0, description="Epochs of the audio encoder.")] = 20
    language_epochs: Annotated[int, Field(gt=0, description="Epochs of the text encoder.")] = 60
    learning_rate: Annotated[float, Field(gt=0, description="Highest learning rate.")] = 2e-3
    weight_decay: Annotated[float, Field(ge=0, description="Weight decay of the optimiser.")] = 1e-4
    every: Annotated[
        int,
        Field(gt=0, description="Use one frame in this many, from another first frame in each epoch."),
    ] = 3
    pictures: Annotated[int, Field(gt=1, description="Face crops in a batch of the backbone.")] = 64
    patches: Annotated[int, Field(gt=1, description="Log-mel patches in a batch of the audio encoder.")] = 64
    utterances: Annotated[int, Field(gt=0, description="Utterances in a batch of the text encoder.")] = 16
    max_steps: Annotated[
        int | None, Field(gt=0, description="Stop each encoder after this many steps of the optimiser.")
    ] = None
    seed: Annotated[int, Field(ge=0, description="Seed of everything random.")] = 0
    device: Annotated[str, Field(description="Where to compute: auto, cpu, cuda or cuda:N.")] = "cpu"
    threads: Annotated[
        int,
        Field(
            gt=0, description="CPU threads for each encoder; the cores shared among the workers if not given."
        ),
    ] = 1

    @property
    def network(self) -> NetworkSpec:
        """The preset's specification. Raises ValueError for an unknown one."""
        return preset(self.preset)
