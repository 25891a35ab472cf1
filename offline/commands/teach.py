"""offline-teach: what larger models say of sentences and comments, for smaller ones to learn from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from models import console

app = console.make_app(
    "Write a teacher's vectors into an .npz for offline-pretrain-words: of recordings or of texts. The teacher's "
    "model must be on this machine; nothing is downloaded."
)


@app.command()
def voices(
    folder: Annotated[Path, typer.Argument(help="EmoDB's recordings.")],
    model: Annotated[Path, typer.Option(help="A Whisper in faster-whisper's form, such as tiny.en.")],
    out: Annotated[Path, typer.Option("--output", "-o")] = Path("voice-teacher.npz"),
) -> None:
    """The speech encoder's vectors of every recording; needs the package faster-whisper."""
    with console.waiting("reading recordings, and what the teacher says of them", tell_first=False):
        from offline.people.emodb import read_recordings
        from offline.people_pretraining.teachers import write_voice_teacher

        recordings = read_recordings(folder)
        write_voice_teacher(out, recordings, model)
    print(f"{out}: {len(recordings)} recordings")


@app.command()
def texts(
    comments: Annotated[Path, typer.Argument(help="GoEmotions' train.tsv beside its labels.txt.")],
    model: Annotated[Path, typer.Option(help="A sentence encoder's transformers folder, such as MiniLM.")],
    vectors: Annotated[Path, typer.Option(help="GloVe: an .npz whose commonest words are told of alone.")],
    out: Annotated[Path, typer.Option("--output", "-o")] = Path("text-teacher.npz"),
    words: Annotated[int, typer.Option(min=0, help="So many words.")] = 20_000,
) -> None:
    """The sentence encoder's vectors of every comment and of single words."""
    with console.waiting("reading texts, and what the teacher says of them", tell_first=False):
        from offline.people.goemotions import read_comments
        from offline.people_pretraining.teachers import write_text_teacher
        from offline.people_pretraining.vocabulary import read_word_vectors

        read = read_comments(comments)
        lone = [word for word in read_word_vectors(vectors).words if word.isalpha()][:words]
        write_text_teacher(out, read.texts, lone, model)
    print(f"{out}: {len(read)} comments, {len(lone)} words")


def command() -> None:
    """Console script."""
    console.run(app)
