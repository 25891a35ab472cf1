"""What pretraining on labelled people is asked to do; every option is kept in the record of what came of it."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from models.spec import NetworkSpec, preset


class FaceOptions(BaseModel):
    """Options of pretraining a face backbone on pictures that people voted on."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    preset: Annotated[str, Field(description="Whose backbone.")] = "practical"
    epochs: Annotated[int, Field(gt=0, description="Epochs.")] = 22
    batch: Annotated[int, Field(gt=1, description="Pictures in a batch.")] = 96
    learning_rate: Annotated[
        float, Field(gt=0, description="The highest rate: it rises to it and then falls, as cosines.")
    ] = 3e-3
    weight_decay: Annotated[float, Field(ge=0, description="Of matrices and kernels.")] = 0.05
    balance: Annotated[
        float,
        Field(ge=0, le=1, description="How far rare expressions are drawn more often: at 1 all alike."),
    ] = 0.5
    level_weight: Annotated[
        float, Field(ge=0, description="Weight of each expression's squared mean error in the loss.")
    ] = 4.0
    open_share: Annotated[
        float, Field(ge=0, le=0.25, description="Share of mouths drawn open, of neutral faces twice that.")
    ] = 0.12
    swap_share: Annotated[
        float,
        Field(ge=0, le=0.25, description="Share of mouths of other faces, on neutral faces twice that."),
    ] = 0.1
    seed: Annotated[int, Field(ge=0, description="Decides every random draw.")] = 0
    threads: Annotated[int, Field(gt=0, description="CPU threads.")] = 1

    @property
    def network(self) -> NetworkSpec:
        """The preset's specification. Raises ValueError for an unknown one."""
        return preset(self.preset)
