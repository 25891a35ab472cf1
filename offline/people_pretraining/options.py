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


class VoiceOptions(BaseModel):
    """How the audio encoder learns from sentences.

    `patches` of each of `sentences` make a batch, and `quiet` patches in which nobody speaks, which are to say
    neutral. `versions` copies of each sentence are made once, the first as recorded. With a teacher, its vectors in
    their `teacher_width` main directions are targets too, and `soft_share` of the valence and arousal aimed at is
    what a ridge on its vectors says of a speaker whom that ridge has not heard.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    epochs: Annotated[int, Field(gt=0, description="Epochs of the audio encoder.")] = 25
    sentences: Annotated[int, Field(gt=1)] = 32
    patches: Annotated[int, Field(gt=0)] = 3
    versions: Annotated[int, Field(gt=0)] = 12
    quiet: Annotated[int, Field(gt=0)] = 6
    learning_rate: Annotated[float, Field(gt=0)] = 3e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.02
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.15
    category_weight: Annotated[float, Field(ge=0)] = 0.5
    teacher_weight: Annotated[float, Field(ge=0)] = 1.0
    teacher_width: Annotated[int, Field(gt=0)] = 64
    soft_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    seed: Annotated[int, Field(ge=0, description="Decides every random draw.")] = 1
    threads: Annotated[int, Field(gt=0, description="CPU threads.")] = 1


class TextOptions(BaseModel):
    """How the text encoder learns from comments.

    `words` whole words are in its vocabulary. `written_share` of the texts keep their punctuation, `cut_share` end
    early, `word_dropout` of the pieces are unknown ones. `drift` is the weight that keeps word embeddings near
    GloVe's.

    With a teacher, its vectors are targets too, `lone_words` single words are in each batch of `batch` texts, so that
    words no comment uses mean something, and `soft_share` of the valence and arousal aimed at is what a ridge on its
    vectors says.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    epochs: Annotated[int, Field(gt=0, description="Epochs of the text encoder.")] = 5
    words: Annotated[int, Field(gt=0)] = 16_000
    batch: Annotated[int, Field(gt=1)] = 128
    lone_words: Annotated[int, Field(ge=0)] = 48
    learning_rate: Annotated[float, Field(gt=0)] = 1.5e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    written_share: Annotated[float, Field(ge=0, le=1)] = 0.25
    cut_share: Annotated[float, Field(ge=0, le=1)] = 0.3
    word_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    drift: Annotated[float, Field(ge=0)] = 0.02
    category_weight: Annotated[float, Field(ge=0)] = 1.0
    teacher_weight: Annotated[float, Field(ge=0)] = 2.0
    soft_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    seed: Annotated[int, Field(ge=0, description="Decides every random draw.")] = 1
    threads: Annotated[int, Field(gt=0, description="CPU threads.")] = 1
