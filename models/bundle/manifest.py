"""What `bundle.json` says: strict, versioned, immutable.

Every other file of the bundle is named here with its SHA-256, the model card excepted, so the manifest's own hash is
the bundle's.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    StringConstraints,
    ValidationError,
    model_serializer,
    model_validator,
)

from models.bundle.card import CARD
from models.errors import UserError
from models.spec import PRESETS, CropSpec, LogMelSpec, Modality, NetworkSpec, Target, WindowSpec
from models.spread import SpreadCalibration

if TYPE_CHECKING:
    from pathlib import Path

FORMAT_VERSION: Final = 1
MANIFEST: Final = "bundle.json"
COPY_AGAIN: Final = "copy the whole bundle here again, or name another one"
TEXT: Final = "text"
GIVEN_WORDS: Final = "given-words"
"""In a recipe, in the recogniser's place: the words were known, so that any recogniser will do."""

PlainName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$", max_length=100)]
"""A file's name without any path: nothing in a bundle lies outside its folder."""
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Entry(BaseModel):
    """Base of all entries: immutable, unknown fields and non-finite numbers refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class BundleFile(Entry):
    """A file of the bundle, by its plain name in the folder."""

    name: PlainName
    sha256: Sha256


class PartUse(Entry):
    """A pretrained part that the features were made with.

    `sha256` is `bundled` where the part is inside the bundle; else the hash that an installed part of that
    name must have, or None where any content under that name will do.
    """

    name: PlainName
    sha256: Literal["bundled"] | Sha256 | None = None

    @property
    def bundled(self) -> bool:
        """Whether the part is inside the bundle."""
        return self.sha256 == "bundled"


class FeatureRecipe(Entry):
    """How recordings become what the networks see: what training did and the live engine must do too.

    `frame_rate` in frames per second is at which a live source ticks. A part is None where the bundle has no
    branch that uses it.
    """

    frame_rate: Annotated[float, Field(gt=0)] = WindowSpec().frame_rate
    crop: CropSpec = CropSpec()
    logmel: LogMelSpec = LogMelSpec()
    detector: PartUse | None = None
    audio_encoder: PartUse | None = None
    recogniser: PartUse | None = None
    text_encoder: PartUse | None = None

    @property
    def parts(self) -> dict[str, PartUse]:
        """The parts in use, by their role."""
        roles = ("detector", "audio_encoder", "recogniser", "text_encoder")
        return {role: use for role in roles if (use := getattr(self, role)) is not None}


class NetworkEntry(Entry):
    """One network of a fold: which targets it estimates, and which of the shared trunks it has."""

    targets: Annotated[tuple[Target, ...], Field(min_length=1)]
    trunk: Annotated[int, Field(ge=0)] | None = None


class FoldEntry(Entry):
    """One fold: its tensors, its networks (a joint one, or one per target), and the facts of its training
    part.

    `normalisation` is (mean, standard deviation) of each modality's embeddings; `validation_ccc` per target
    on the fold's validation part, None where it was never trained.
    """

    file: BundleFile
    networks: Annotated[tuple[NetworkEntry, ...], Field(min_length=1)]
    normalisation: dict[Modality, tuple[float, Annotated[float, Field(gt=0)]]]
    validation_ccc: dict[Target, Annotated[float, Field(ge=-1, le=1)]] | None = None


class Manifest(Entry):
    """The content of `bundle.json`. `spec.targets` are those of a whole fold; a fold's networks share them out.

    `spread` makes the error to expect of the spread between folds; None, and not written, where it was not fitted.
    """

    format_version: Literal[1] = FORMAT_VERSION
    name: PlainName
    trained: bool
    note: Annotated[str, Field(max_length=500)] = ""
    spec: NetworkSpec
    recipe: FeatureRecipe
    folds: Annotated[tuple[FoldEntry, ...], Field(min_length=1)]
    trunk: BundleFile | None = None
    text: tuple[BundleFile, ...] = ()
    probe: BundleFile
    provenance: dict[str, str] = {}
    spread: SpreadCalibration | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        for index, fold in enumerate(self.folds):
            targets = [t for network in fold.networks for t in network.targets]
            if sorted(targets) != sorted(self.spec.targets):
                raise ValueError(f"fold {index} estimates {targets}, not {list(self.spec.targets)}")
            if set(fold.normalisation) != set(self.spec.modalities):
                raise ValueError(f"fold {index} must have a normalisation for each of the spec's modalities")
            if any((n.trunk is None) != (self.spec.visual is None) for n in fold.networks):
                raise ValueError(f"fold {index} must name a trunk exactly where the spec has a visual branch")
        shared = self.spec.visual is not None or _is_bundled(self.recipe.audio_encoder)
        if shared != (self.trunk is not None):
            raise ValueError("there must be a trunk file exactly where there is a trunk or a bundled encoder")
        if _is_bundled(self.recipe.text_encoder) != bool(self.text):
            raise ValueError("there must be text files exactly where the text encoder is bundled")
        for role, modality in (("audio_encoder", Modality.AUDIO), ("text_encoder", Modality.LANGUAGE)):
            if (role in self.recipe.parts) != (modality in self.spec.modalities):
                raise ValueError(f"there must be a {role} exactly where the spec has the {modality} branch")
        names = {f.name.lower() for f in self.files}
        if len(names) != len(self.files) or names & {MANIFEST.lower(), CARD.lower()}:
            raise ValueError("every file needs a name of its own")
        return self

    @model_serializer(mode="wrap")
    def _leave_out_no_spread(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = write(self)
        if self.spread is None:
            del content["spread"]
        return content

    @property
    def files(self) -> tuple[BundleFile, ...]:
        """The files in the bundle's folder, those of the text encoder's folder excepted."""
        shared = () if self.trunk is None else (self.trunk,)
        return (*shared, *(fold.file for fold in self.folds), self.probe)

    @property
    def preset(self) -> str:
        """The preset that the spec is, its targets apart, or `custom`."""
        same = {"targets": self.spec.targets}
        return next((n for n, p in PRESETS.items() if p.model_copy(update=same) == self.spec), "custom")

    def to_json(self) -> str:
        """The text of `bundle.json`."""
        return self.model_dump_json(indent=2) + "\n"

    @property
    def content_hash(self) -> str:
        """SHA-256 of the whole bundle: the manifest in one canonical form, which holds all files' hashes."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


def read_manifest(folder: Path) -> Manifest:
    """The manifest in a bundle's folder.

    Raises UserError where there is none, or where it is damaged, of a newer format, or has unknown fields.
    """
    path = folder / MANIFEST
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{folder} is not a bundle: it has no {MANIFEST}; give a folder that has") from None
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(f"{path} cannot be read: {e}; {COPY_AGAIN}") from e
    try:
        version = json.loads(text)["format_version"]
    except (ValueError, KeyError, TypeError, RecursionError) as e:
        raise UserError(
            f"{path} is damaged: it is not a bundle's manifest with a format version; {COPY_AGAIN}"
        ) from e
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise UserError(
            f"{path} has format version {version}, this software knows up to {FORMAT_VERSION}: "
            "update affectstream"
        )
    try:
        return Manifest.model_validate_json(text, strict=True)
    except ValidationError as e:
        first = e.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        reason = "unknown field" if first["type"] == "extra_forbidden" else first["msg"]
        raise UserError(f"{path} is refused: {place + ': ' if place else ''}{reason}; {COPY_AGAIN}") from e


def _is_bundled(use: PartUse | None) -> bool:
    return use is not None and use.bundled
