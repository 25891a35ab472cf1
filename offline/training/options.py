"""What training and pretraining are asked to do; every option is kept in the record of what came of it."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.spec import TARGETS, Modality, NetworkSpec, Target, WindowSpec, preset
from offline.training.schedule import ScheduleOptions

Context = Literal["windows", "stream"]


class TrainOptions(BaseModel):
    """Options of a run; all of its folds share them, and resuming with others is refused.

    `batch` windows make one step of the network, `accumulate` such batches one step of the optimiser.
    `cache_trunk` 0 runs the frozen trunk on every window under a free draw of the crop; V keeps the maps of all
    that is frozen under V fixed draws. `context` is how validation sees a trial: in windows whose overlaps are
    averaged, or in one causal pass.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    preset: str = "paper"
    modalities: tuple[Modality, ...] = tuple(Modality)
    targets: tuple[Target, ...] = TARGETS
    schedule: ScheduleOptions = ScheduleOptions()
    batch: Annotated[int, Field(gt=0)] = 2
    accumulate: Annotated[int, Field(gt=0)] = 1
    weight_decay: Annotated[float, Field(ge=0)] = 1e-3
    window: Annotated[int, Field(gt=0)] = WindowSpec().length
    hop: Annotated[int, Field(gt=0)] = WindowSpec().hop
    augment: bool = True
    context: Context = "windows"
    cache_trunk: Annotated[int, Field(ge=0, le=162)] = 0
    max_steps: Annotated[int | None, Field(gt=0)] = None
    seed: Annotated[int, Field(ge=0)] = 0
    device: str = "cpu"
    threads: Annotated[int, Field(gt=0)] = 1
    amp: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.hop > self.window:
            raise ValueError(f"a hop of {self.hop} leaves frames between windows of {self.window}")
        if len(set(self.schedule.release)) != len(self.schedule.release) or not set(
            self.schedule.release
        ) <= {
            "layer4",
            "layer3_tail",
        }:
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
        """The schedule; without a visual branch there is nothing to release."""
        if Modality.VISUAL in self.modalities:
            return self.schedule
        return self.schedule.model_copy(update={"release": ()})


class PretrainOptions(BaseModel):
    """Options of pretraining. Rates rise over the first tenth of all steps and fall to nothing as a cosine.

    `every` takes every so many frames, begun anew at another frame each epoch. `pictures` make a batch of the
    backbone, `patches` one of the audio encoder, `utterances` one of the text encoder. Each part has epochs of its
    own (`epochs`, `audio_epochs`, `language_epochs`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    preset: str = "compact"
    epochs: Annotated[int, Field(gt=0)] = 10
    audio_epochs: Annotated[int, Field(gt=0)] = 20
    language_epochs: Annotated[int, Field(gt=0)] = 60
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    every: Annotated[int, Field(gt=0)] = 3
    pictures: Annotated[int, Field(gt=1)] = 64
    patches: Annotated[int, Field(gt=1)] = 64
    utterances: Annotated[int, Field(gt=0)] = 16
    max_steps: Annotated[int | None, Field(gt=0)] = None
    seed: Annotated[int, Field(ge=0)] = 0
    device: str = "cpu"
    threads: Annotated[int, Field(gt=0)] = 1

    @property
    def network(self) -> NetworkSpec:
        """The preset's specification. Raises ValueError for an unknown one."""
        return preset(self.preset)
