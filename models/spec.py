"""What the method is: every shape and constant of the report, frozen and validated.

Source: Zhang et al., "Continuous Emotion Recognition using Visual-audio-linguistic Information: A Technical
Report for ABAW3" (2022), and the facts read off the authors' implementation. No other module defines a
constant of the method. A specification travels in a bundle's manifest, so it is a pydantic model: frozen,
unknown fields refused, JSON in and out.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

Positive = Annotated[int, Field(gt=0)]
Target = Literal["valence", "arousal"]

TARGETS: Final[tuple[Target, Target]] = ("valence", "arousal")

SAMPLE_RATE: Final = 16_000
"""Samples a second of all sound: what VGGish's front end and the recogniser take."""

SUMMED_LAYERS: Final = 4
"""A word vector is the sum of so many last layers of the text encoder (report section 3.3)."""


class Modality(StrEnum):
    """The three branches, in the order in which fusion stacks them."""

    VISUAL = "visual"
    AUDIO = "audio"
    LANGUAGE = "language"


class Spec(BaseModel):
    """Base of all specifications: immutable, and strict about what it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ExtendedSpec(Spec):
    """A specification that has grown: fields of `_added` are written only where they differ from their default.

    What was written before they existed keeps its form, and so its content hash.
    """

    _added: ClassVar[tuple[str, ...]] = ()

    @model_serializer(mode="wrap")
    def _leave_out_defaults(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = write(self)
        fields = type(self).model_fields
        same = {name for name in self._added if getattr(self, name) == fields[name].default}
        return {name: value for name, value in content.items() if name not in same}


class CropSpec(ExtendedSpec):
    """The face crop. As published (report section 3.2): aligned by landmarks at 112, kept at 48, shown to the
    network at 40, in colours.

    `framing` `box` takes an upright square about the face's box instead (`models.visual.framing`), so that detectors
    with and without landmarks give the same crop. `grey` has the three channels repeat the luma.
    """

    _added = ("framing", "grey")

    aligned_size: Positive = 112
    stored_size: Positive = 48
    input_size: Positive = 40
    pixel_mean: float = 0.5
    pixel_std: Annotated[float, Field(gt=0)] = 0.5
    framing: Literal["landmarks", "box"] = "landmarks"
    grey: bool = False


class LogMelSpec(Spec):
    """VGGish's front end (Hershey et al. 2017): 16 kHz mono to log-mel frames, 96 of them to a patch."""

    sample_rate: Positive = SAMPLE_RATE
    window_samples: Positive = 400
    hop_samples: Positive = 160
    fft_samples: Positive = 512
    bands: Positive = 64
    lowest_hz: float = 125.0
    highest_hz: float = 7_500.0
    log_offset: float = 0.01
    patch_frames: Positive = 96


class WindowSpec(Spec):
    """Windows over a trial (report section 3.4), and the rate at which a live source ticks."""

    length: Positive = 300
    hop: Positive = 200
    frame_rate: Annotated[float, Field(gt=0)] = 30.0


class TemporalSpec(Spec):
    """A causal temporal convolutional network (Bai et al. 2018): one level per width, dilation 2^level."""

    widths: Annotated[tuple[Positive, ...], Field(min_length=1)]
    kernel: Annotated[int, Field(gt=1)] = 5
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    negative_slope: float = 0.01

    @property
    def encoding(self) -> int:
        """Width of what comes out."""
        return self.widths[-1]

    @property
    def receptive_field(self) -> int:
        """Frames that one output can see, itself included: 121 for four levels of kernel 5."""
        return 1 + 2 * (self.kernel - 1) * ((1 << len(self.widths)) - 1)


class BackboneSpec(ExtendedSpec):
    """IR-50 (or a slim sibling) on a face crop: an input layer, four stages of units, an output layer.

    `released_units` is how many last units of stage 3 training may release (report section 3.4); everything
    before them is the trunk, which no fold fine-tunes. `frozen` says that no fold fine-tunes anything: the trunk is
    the whole backbone, stored and computed once for all folds.
    """

    _added = ("frozen",)

    input_size: Positive = 40
    widths: tuple[Positive, Positive, Positive, Positive] = (64, 128, 256, 512)
    units: tuple[Positive, Positive, Positive, Positive] = (3, 4, 14, 3)
    embedding: Positive = 512
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.4
    released_units: Annotated[int, Field(ge=0)] = 3
    frozen: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.input_size % 8:
            raise ValueError(f"input_size {self.input_size} must be a multiple of 8: three stages halve it")
        if self.released_units > self.units[2]:
            raise ValueError(f"released_units {self.released_units} exceeds stage 3's {self.units[2]} units")
        if self.frozen and self.released_units:
            raise ValueError("a frozen backbone has no units to release: released_units must be 0")
        return self

    @property
    def map_size(self) -> int:
        """Side of the last feature map: 5 for a 40 x 40 input."""
        return self.input_size // 8


class VggishSpec(Spec):
    """VGGish's network: six convolutions in four pooled groups, then three linear layers."""

    widths: tuple[Positive, Positive, Positive, Positive, Positive, Positive] = (64, 128, 256, 256, 512, 512)
    hidden: tuple[Positive, Positive] = (4096, 4096)
    embedding: Positive = 128
    patch_frames: Positive = 96
    bands: Positive = 64


class VisualSpec(Spec):
    """The visual branch: backbone, then TCN."""

    backbone: BackboneSpec = BackboneSpec()
    temporal: TemporalSpec = TemporalSpec(widths=(256, 256, 128, 128))

    @property
    def embedding(self) -> int:
        """Width before the TCN."""
        return self.backbone.embedding


class AudioSpec(Spec):
    """The sound branch: VGGish (never fine-tuned), then TCN."""

    encoder: VggishSpec = VggishSpec()
    temporal: TemporalSpec = TemporalSpec(widths=(64, 64, 32, 32))

    @property
    def embedding(self) -> int:
        """Width before the TCN."""
        return self.encoder.embedding


class LanguageSpec(Spec):
    """The language branch: word vectors from a text encoder (never fine-tuned), then TCN."""

    embedding: Positive = 768
    temporal: TemporalSpec = TemporalSpec(widths=(256, 256, 128, 128))


class NetworkSpec(Spec):
    """One network: up to three branches, co-attention of width `d_k`, one linear head.

    Fusion puts the *leading* branch's encoding in front of the attention feature: the visual one as
    published, or the first one there is where a bundle has no visual branch.
    """

    visual: VisualSpec | None = VisualSpec()
    audio: AudioSpec | None = AudioSpec()
    language: LanguageSpec | None = LanguageSpec()
    d_k: Positive = 32
    targets: tuple[Target, ...] = TARGETS

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.modalities:
            raise ValueError("a network needs at least one of visual, audio and language")
        if not self.targets or len(set(self.targets)) != len(self.targets):
            raise ValueError("targets must be valence, arousal or both, each once")
        return self

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """The branches there are, in fusion's order."""
        return tuple(m for m in Modality if getattr(self, m.value) is not None)

    @property
    def leading(self) -> Modality:
        """The branch whose encoding is put in front of the attention feature."""
        return self.modalities[0]

    def branch(self, modality: Modality) -> VisualSpec | AudioSpec | LanguageSpec:
        """The specification of one branch. Raises ValueError where the network has no such branch."""
        found: VisualSpec | AudioSpec | LanguageSpec | None = getattr(self, modality.value)
        if found is None:
            raise ValueError(f"the network has no {modality.value} branch")
        return found


PAPER: Final = NetworkSpec()

COMPACT: Final = NetworkSpec(
    visual=VisualSpec(
        backbone=BackboneSpec(
            widths=(16, 24, 32, 48), units=(1, 2, 3, 1), embedding=64, dropout=0.2, released_units=1
        ),
        temporal=TemporalSpec(widths=(32, 32, 24, 24)),
    ),
    audio=AudioSpec(
        encoder=VggishSpec(widths=(8, 16, 24, 24, 32, 32), hidden=(64, 64), embedding=32),
        temporal=TemporalSpec(widths=(24, 24, 16, 16)),
    ),
    language=LanguageSpec(embedding=48, temporal=TemporalSpec(widths=(24, 24, 16, 16))),
    d_k=16,
)

PRACTICAL: Final = NetworkSpec(
    visual=VisualSpec(
        backbone=BackboneSpec(
            widths=(16, 32, 96, 64),
            units=(1, 2, 2, 1),
            embedding=128,
            dropout=0.2,
            released_units=0,
            frozen=True,
        ),
        temporal=TemporalSpec(widths=(48, 48, 32, 32)),
    ),
    audio=AudioSpec(
        encoder=VggishSpec(widths=(12, 24, 32, 48, 64, 64), hidden=(96, 96), embedding=64),
        temporal=TemporalSpec(widths=(32, 32, 16, 16)),
    ),
    language=LanguageSpec(embedding=64, temporal=TemporalSpec(widths=(32, 32, 16, 16))),
    d_k=16,
)

PRESETS: Final[dict[str, NetworkSpec]] = {"paper": PAPER, "compact": COMPACT, "practical": PRACTICAL}

CROP_SPECS: Final[dict[str, CropSpec]] = {
    "paper": CropSpec(),
    "compact": CropSpec(),
    "practical": CropSpec(framing="box", grey=True),
}
"""How each preset's face crop is made."""


def preset(name: str) -> NetworkSpec:
    """The named preset. Raises ValueError, naming those there are."""
    if name not in PRESETS:
        raise ValueError(f"unknown preset '{name}': choose one of {', '.join(PRESETS)}")
    return PRESETS[name]
