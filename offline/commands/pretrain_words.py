"""offline-pretrain-words: an audio encoder from played sentences, a text encoder from labelled comments."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from pydantic import ValidationError

from models import console
from models.errors import UserError
from offline.commands.model_options import field_option, options_error
from offline.commands.progress import LOADING, learning
from offline.people_pretraining.options import TextOptions, VoiceOptions

if TYPE_CHECKING:
    from models.spec import NetworkSpec
    from offline.people_pretraining.progress import WordsEpoch
    from offline.training.pretrained import PretrainedEncoders

VOICE: Final = VoiceOptions()
TEXT: Final = TextOptions()

app = console.make_app(
    "Pretrain a slim preset's audio encoder on real people's played sentences (EmoDB) and its text encoder on their "
    "comments (GoEmotions). Cut short, the same command goes on where it was."
)


@app.command()
def pretrain_words(
    voices: Annotated[
        Path | None, typer.Option(help="A folder of EmoDB's recordings, for the audio encoder.")
    ] = None,
    leave_out: Annotated[
        str, typer.Option(help="Speakers to learn nothing from, such as 03,10; they judge what was learned.")
    ] = "",
    voice_teacher: Annotated[
        Path | None, typer.Option(help="A speech teacher's vectors, made by offline-teach voices.")
    ] = None,
    texts: Annotated[
        Path | None, typer.Option(help="GoEmotions' train.tsv beside its labels.txt, for the text encoder.")
    ] = None,
    validation_texts: Annotated[
        Path | None, typer.Option(help="GoEmotions' dev.tsv, to judge each epoch by.")
    ] = None,
    vectors: Annotated[
        Path | None, typer.Option(help="GloVe: an .npz of words and vectors, where word embeddings begin.")
    ] = None,
    text_teacher: Annotated[
        Path | None, typer.Option(help="A sentence encoder's vectors, made by offline-teach texts.")
    ] = None,
    out: Annotated[Path, typer.Option("--output", "-o", help="The file for offline-train --trunk.")] = Path(
        "trunk.safetensors"
    ),
    join: Annotated[
        Path | None,
        typer.Option(
            help="A file whose face backbone goes into the output; the output's own if not given.",
            show_default=False,
        ),
    ] = None,
    text_encoder: Annotated[
        Path | None,
        typer.Option(
            help="The folder for offline-preprocess --text-encoder; one beside the file if not given.",
            show_default=False,
        ),
    ] = None,
    preset: Annotated[str, typer.Option(help="Whose encoders.")] = "practical",
    voice_epochs: Annotated[int, field_option(VoiceOptions, "epochs", "--voice-epochs")] = VOICE.epochs,
    text_epochs: Annotated[int, field_option(TextOptions, "epochs", "--text-epochs")] = TEXT.epochs,
    seed: Annotated[int, field_option(VoiceOptions, "seed")] = VOICE.seed,
    threads: Annotated[int, field_option(VoiceOptions, "threads")] = VOICE.threads,
    keep_checkpoints: Annotated[
        bool, typer.Option("--keep-checkpoints", help="Leave the checkpoints, which hold the heads too.")
    ] = False,
) -> None:
    """Train the encoders, print what each reaches by itself, write a file and a text encoder's folder."""
    from models.spec import preset as preset_spec

    try:
        voice_options = VoiceOptions(epochs=voice_epochs, seed=seed, threads=threads)
    except ValidationError as e:
        raise options_error(e, {"epochs": "voice-epochs"}) from e
    try:
        text_options = TextOptions(epochs=text_epochs, seed=seed, threads=threads)
    except ValidationError as e:
        raise options_error(e, {"epochs": "text-epochs"}) from e
    try:
        spec = preset_spec(preset)
    except ValueError as e:
        raise UserError(str(e)) from e
    if voices is None and texts is None:
        raise UserError("nothing to learn from: give --voices, --texts or both")
    if texts is not None and vectors is None:
        raise UserError("--texts needs --vectors: the word vectors that word embeddings begin with")
    with console.waiting(LOADING, tell_first=False):
        import torch

    torch.set_num_threads(threads)
    checkpoints = []
    if voices is not None:
        # A file that cannot be joined is told of before minutes of learning, not after them.
        backbone = _backbone_of(join or out, spec, needed=join is not None)
        checkpoints.append(out.with_name(f".{out.name}.voice"))
        speakers = tuple(name.strip() for name in leave_out.split(",") if name.strip())
        _pretrain_voice(voices, speakers, voice_teacher, spec, voice_options, checkpoints[-1], backbone, out)
    if texts is not None and vectors is not None:
        folder = text_encoder or out.with_name(f"{out.stem}-text")
        checkpoints.append(folder.with_name(f".{folder.name}.text"))
        _pretrain_text(
            texts, validation_texts, vectors, text_teacher, spec, text_options, checkpoints[-1], folder
        )
    if not keep_checkpoints:
        for path in checkpoints:
            path.unlink(missing_ok=True)


def _pretrain_voice(
    folder: Path,
    left_out: tuple[str, ...],
    teacher: Path | None,
    spec: NetworkSpec,
    options: VoiceOptions,
    checkpoint: Path,
    backbone: PretrainedEncoders | None,
    out: Path,
) -> None:
    from offline.people.emodb import read_recordings
    from offline.people_pretraining.augmented_sentences import hash_sentences, read_sentences
    from offline.people_pretraining.sentences import judge_voice, train_voice
    from offline.people_pretraining.teachers import load_voice_teacher
    from offline.training.pretrained import PretrainedEncoders, save_pretrained
    from offline.training.run import provenance

    if spec.audio is None:
        raise UserError("the preset has no audio branch: leave --voices out")
    with console.waiting("reading voices", tell_first=False):
        recordings = read_recordings(folder)
        learned, held = read_sentences(recordings, left_out)
    vectors = None
    if teacher is not None:
        vectors = load_voice_teacher(teacher, [s.recording for s in learned])
    with learning("pretraining on voices"):
        model = train_voice(learned, spec.audio.encoder, options, vectors, checkpoint, _print)
        figures = judge_voice(model, held) if held else {}
    source = {
        "source": "offline-pretrain-words",
        "audio_encoder": {
            "data": "EmoDB",
            "sentences": len(learned),
            "sentences_hash": hash_sentences(learned),
            "speakers": sorted({s.recording.speaker for s in learned}),
            "left_out": sorted(left_out),
            "left_out_ccc": figures,
            "teacher": None if vectors is None else vectors.source,
            "options": options.model_dump(mode="json"),
            "software": provenance(),
        },
    }
    if backbone is not None:
        source["backbone"] = backbone.provenance.get("backbone", backbone.provenance)
    joined = PretrainedEncoders(
        None if backbone is None else backbone.backbone,
        model.folded(),
        None if backbone is None else backbone.recipe,
        source,
    )
    sha256 = save_pretrained(out, joined)
    if figures:
        print(f"voice: CCC of speakers left out {', '.join(f'{t} {v:.3f}' for t, v in figures.items())}")
    kept = "" if backbone is None else ", with the face backbone that was there"
    print(f"{out}: the audio encoder{kept}, {sha256[:12]}")


def _backbone_of(path: Path, spec: NetworkSpec, *, needed: bool) -> PretrainedEncoders | None:
    """What a file of ours holds for faces; None where it holds nothing. Raises UserError where it is `needed`."""
    from dataclasses import replace

    from offline.training.pretrained import load_pretrained

    if not needed and not path.is_file():
        return None
    found = load_pretrained(path, spec)
    if found.backbone is None:
        if needed:
            raise UserError(
                f"{path} has no face backbone to join",
                way_out="give --join a file of offline-pretrain-people",
            )
        return None
    return replace(found, audio_encoder=None)


def _pretrain_text(
    texts: Path,
    validation: Path | None,
    vectors: Path,
    teacher: Path | None,
    spec: NetworkSpec,
    options: TextOptions,
    checkpoint: Path,
    folder: Path,
) -> None:
    from offline.people.goemotions import read_comments
    from offline.people_pretraining.comments import hash_comments, save_text_encoder, train_text
    from offline.people_pretraining.teachers import load_text_teacher
    from offline.people_pretraining.vocabulary import choose_vocabulary, read_word_vectors
    from offline.training.run import provenance

    if spec.language is None:
        raise UserError("the preset has no language branch: leave --texts out")
    with console.waiting("reading texts and word vectors", tell_first=False):
        comments = read_comments(texts)
        held = None if validation is None else read_comments(validation)
        known = read_word_vectors(vectors)
        told = None if teacher is None else load_text_teacher(teacher, comments.texts)
    if held is not None and held.emotions != comments.emotions:
        raise UserError(
            f"{validation} is labelled with other emotions than {texts}",
            way_out="give two tables of one data set, with the same labels.txt beside them",
        )
    with learning("pretraining on texts"):
        vocabulary = choose_vocabulary(known, comments.texts, options.words)
        model, log = train_text(
            comments, held, vocabulary, spec.language.embedding, options, told, checkpoint, _print
        )
    source = {
        "source": "offline-pretrain-words",
        "data": "GoEmotions",
        "comments": len(comments),
        "comments_hash": hash_comments(comments),
        "word_vectors": {"file": vectors.name, "sha256": known.sha256},
        "teacher": None if told is None else told.source,
        "epochs": log,
        "options": options.model_dump(mode="json"),
        "software": provenance(),
    }
    save_text_encoder(folder, vocabulary, model, source)
    size = sum(p.stat().st_size for p in folder.iterdir()) / 1e6
    print(f"{folder}: the text encoder, {len(vocabulary.pieces)} pieces, {size:.2f} MB")


def _print(event: WordsEpoch) -> None:
    figures = "".join(f", {name} {value}" for name, value in event.figures.items())
    print(
        f"{event.part}: epoch {event.epoch}/{event.epochs}, loss {event.loss:.3f}{figures}, {event.seconds:.1f} s",
        flush=True,
    )


def command() -> None:
    """Console script."""
    console.run(app)
