"""A bundle that was never trained: every shape real, every number meaningless.

`python -m models.bundle.untrained FOLDER` makes one.

It lets the whole engine run before there is a trained bundle, and says so: `trained` is false, and the note is
shown wherever the bundle is. It brings its own audio and text encoder, so that it needs nothing installed.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Final

import torch
import typer

from models.audio.vggish import Vggish
from models.bundle.load import FeatureRecipe, Manifest, PartUse, save_bundle
from models.console import make_app, run
from models.errors import UserError
from models.networks.fold import EmotionNetwork
from models.parts.registry import require_part
from models.spec import CROP_SPECS, PRESETS, preset
from models.text.small_bert import RECOGNISER, SMALL, BertShape, make_text_encoder

NOTE: Final = "untrained: the numbers mean nothing yet"


def make_untrained_bundle(
    folder: Path,
    preset_name: str = "compact",
    folds: int = 6,
    seed: int = 2022,
    name: str | None = None,
    *,
    text: BertShape = SMALL,
) -> Manifest:
    """Write an untrained bundle: folds that share a trunk and differ in everything else.

    The same arguments give the same bundle on the same machine. `name` is the folder's unless given; `text` is its
    text encoder's shape, as wide as the preset wants it. Raises UserError for an unknown preset, no folds, or a
    folder that cannot be written.
    """
    if folds < 1:
        raise UserError(f"a bundle needs at least one fold, not {folds}")
    try:
        spec = preset(preset_name)
    except ValueError as e:
        raise UserError(str(e)) from e
    assert spec.audio is not None
    assert spec.language is not None
    with torch.random.fork_rng(devices=[]), tempfile.TemporaryDirectory() as temporary:
        members = []
        for fold in range(folds):
            torch.manual_seed(seed + fold)
            members.append(EmotionNetwork(spec))
            _share_trunk(members[0], members[-1])
        torch.manual_seed(seed + folds)
        audio_encoder = Vggish(spec.audio.encoder)
        text_encoder = Path(temporary) / "text"
        make_text_encoder(text_encoder, spec.language.embedding, seed, shape=text)
        return save_bundle(
            folder,
            name=name or folder.resolve().name,
            folds=members,
            recipe=FeatureRecipe(
                crop=CROP_SPECS[preset_name],
                detector=PartUse(name="haar"),
                audio_encoder=PartUse(name="untrained-vggish"),
                recogniser=PartUse(name=RECOGNISER, sha256=require_part(RECOGNISER).sha256),
                text_encoder=PartUse(name="untrained-bert"),
            ),
            trained=False,
            note=NOTE,
            provenance={"command": "python -m models.bundle.untrained", "seed": str(seed)},
            audio_encoder=audio_encoder,
            text_encoder_folder=text_encoder,
        )


def _share_trunk(first: EmotionNetwork, other: EmotionNetwork) -> None:
    assert first.backbone is not None
    assert other.backbone is not None
    other.backbone.groups()["trunk"].load_state_dict(first.backbone.groups()["trunk"].state_dict())


app = make_app("Make an untrained bundle: every shape real, every number meaningless.")


@app.command(
    epilog="Example, the demo bundle again: python -m models.bundle.untrained models/assets/bundles/demo"
)
def main(
    folder: Annotated[Path, typer.Argument(help="Where to write it; a bundle there is replaced.")],
    preset_name: Annotated[str, typer.Option("--preset", help=f"One of {', '.join(PRESETS)}.")] = "compact",
    folds: Annotated[int, typer.Option(help="How many folds.")] = 6,
    seed: Annotated[int, typer.Option(help="Seed of all random numbers.")] = 2022,
) -> None:
    """Make an untrained bundle: every shape real, every number meaningless."""
    manifest = make_untrained_bundle(folder, preset_name, folds, seed)
    typer.echo(f"{folder}: {folds} folds, {NOTE}; content {manifest.content_hash[:12]}")


if __name__ == "__main__":
    run(app)
