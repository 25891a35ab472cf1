"""A speech recogniser as a small protocol, and its implementation by Vosk; `models.speech.whisper` is another.

One recogniser hears one utterance and is thrown away: a new one costs 0.1 ms, since the model is shared, and
its times start at zero. Nothing here ever downloads a model.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from models.errors import SetupError, UserError
from models.spec import SAMPLE_RATE

PREFERRED: Final = ("vosk-model-en-us-0.22", "vosk-model-small-en-us-0.15")
"""Full models for real people, best first; the report uses the first."""
WAY_OUT: Final = f"models-pull {PREFERRED[-1]}"
WHISPER: Final = "whisper-tiny.en"
WHISPER_WAY_OUT: Final = f"models-pull {WHISPER} and pip install 'affectstream[whisper]'"
TINY: Final = "vosk-tiny"
TINY_FOLDER: Final = Path(__file__).resolve().parent.parent / "assets" / TINY
"""The recogniser that ships in the package: 272 words, synthetic voices, for the demo and the tests."""

Samples = NDArray[np.int16]


@dataclass(frozen=True)
class HeardWord:
    """A recognised word; times in seconds of the sound that this recogniser was given."""

    text: str
    start_s: float
    end_s: float
    confidence: float


class Recogniser(Protocol):
    """Hears one utterance."""

    def accept(self, samples: Samples) -> bool:
        """Takes the next samples (16 kHz mono). True where the recogniser itself finds the utterance over."""
        ...

    def partial(self) -> str:
        """The text so far, words between single spaces; it may still change. Empty where there is none."""
        ...

    def final(self) -> list[HeardWord]:
        """Everything heard, up to the last sample. Nothing may be called after this."""
        ...


RecogniserFactory = Callable[[], Recogniser]


class VoskRecogniser:
    """One utterance's `vosk.KaldiRecognizer`."""

    def __init__(self, model: Any) -> None:
        import vosk

        self._kaldi = vosk.KaldiRecognizer(model, SAMPLE_RATE)
        self._kaldi.SetWords(True)

    def accept(self, samples: Samples) -> bool:
        return bool(self._kaldi.AcceptWaveform(samples.tobytes()))

    def partial(self) -> str:
        return str(json.loads(self._kaldi.PartialResult()).get("partial", ""))

    def final(self) -> list[HeardWord]:
        # FinalResult flushes; Result would leave the last 0.3 s or so undecoded.
        heard = json.loads(self._kaldi.FinalResult()).get("result", [])
        return [HeardWord(w["word"], float(w["start"]), float(w["end"]), float(w["conf"])) for w in heard]


def check_vosk_folder(folder: Path) -> None:
    """Raises UserError where `folder` does not hold a Vosk model (Kaldi's files, as Vosk lays them out)."""
    way_out = f"give the folder of an unpacked Vosk model, or install one: {WAY_OUT}"
    if not folder.is_dir():
        raise UserError(f"no Vosk model at '{folder}'", way_out=way_out)
    graph = ["graph/HCLG.fst"] if (folder / "graph/HCLG.fst").exists() else ["graph/HCLr.fst", "graph/Gr.fst"]
    for name in ("am/final.mdl", "conf/mfcc.conf", "conf/model.conf", *graph):
        part = folder / name
        if not part.is_file() or part.stat().st_size == 0:
            raise UserError(f"'{folder}' is not a Vosk model ({name} is missing or empty)", way_out=way_out)


def open_recogniser(folder: Path, *, live: bool = False) -> RecogniserFactory:
    """Loads the Vosk model or the Whisper weights in `folder`; what it returns makes a recogniser for each utterance.

    Recognisers of one Vosk model may run in several threads. `live`: no recording is heard, and a slow recogniser
    may leave out early text to keep up. Raises UserError where the folder is neither, or what loads it refuses it.
    """
    folder = Path(folder)
    from models.speech.whisper import is_whisper_folder, open_whisper

    if is_whisper_folder(folder):
        return open_whisper(folder, live=live)
    check_vosk_folder(folder)
    vosk = _import_vosk()
    vosk.SetLogLevel(-3)
    try:
        with _stderr_held_back():
            model = vosk.Model(model_path=str(folder))
    except Exception as error:  # Vosk raises a bare Exception
        raise SetupError(
            f"Vosk cannot load '{folder}': its files are damaged", way_out=f"install it again, or {WAY_OUT}"
        ) from error
    return lambda: VoskRecogniser(model)


def _import_vosk() -> Any:
    """The package vosk. Raises UserError where it, or the library inside it, is missing."""
    try:
        import vosk
    except (ImportError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise SetupError(
            f"the package vosk cannot be loaded ({reason})",
            way_out="pip install vosk, or give --recogniser none",
        ) from error
    return vosk


@contextmanager
def _stderr_held_back() -> Iterator[None]:
    """Keeps what Kaldi writes straight to file descriptor 2; given back unless the block raises.

    For a damaged model that is up to 60 lines, whatever the log level, where the user needs one.
    """
    with tempfile.TemporaryFile() as kept:
        sys.stderr.flush()
        real = os.dup(2)
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except BaseException:
            kept.truncate(0)
            raise
        finally:
            os.dup2(real, 2)
            os.close(real)
            kept.seek(0)
            sys.stderr.write(kept.read().decode(errors="replace"))


class InstalledFolder(Protocol):
    """An installed part, of which only its place is needed."""

    @property
    def path(self) -> Path: ...


@dataclass(frozen=True)
class RecogniserChoice:
    """Which recogniser to use: its folder, or why there is none and what would change that.

    `missing` is the part that would serve were it installed; None where nothing is missing.
    """

    name: str
    folder: Path | None
    reason: str = ""
    way_out: str = ""
    missing: str | None = None


def find_recogniser(choice: str, find_part: Callable[[str], InstalledFolder | None]) -> RecogniserChoice:
    """Resolves a user's choice of recogniser; loads nothing.

    `auto`: the best full Vosk model installed, else Whisper where its weights and its package are, else none with
    the reason; the shipped `vosk-tiny` is only for synthetic voices and never chosen by itself. `none`: no words.
    Otherwise one of these models' names, or a folder. `find_part` looks an installed part up
    (`models.parts.registry.find_part`); it is asked for full models only. Raises UserError for a model that is not
    installed, and for what is neither a name nor a folder.
    """
    from models.speech.whisper import check_whisper_folder, has_package, is_whisper_folder

    if choice == "none":
        return RecogniserChoice("none", None, reason="switched off")
    if choice == "auto":
        for name in PREFERRED:
            part = find_part(name)
            if part is not None:
                return RecogniserChoice(name, Path(part.path))
        weights = find_part(WHISPER)
        if weights is not None and has_package():
            return RecogniserChoice(WHISPER, Path(weights.path))
        return RecogniserChoice(
            "none",
            None,
            reason="no speech recogniser is installed",
            way_out=f"{WAY_OUT}, or {WHISPER_WAY_OUT}",
            missing=PREFERRED[-1],
        )
    if choice == TINY:
        return RecogniserChoice(TINY, TINY_FOLDER)
    if choice in (*PREFERRED, WHISPER):
        part = find_part(choice)
        if part is None:
            raise SetupError(f"the recogniser '{choice}' is not installed", way_out=f"models-pull {choice}")
        return RecogniserChoice(choice, Path(part.path))
    folder = Path(choice)
    if folder.is_dir():
        check = check_whisper_folder if is_whisper_folder(folder) else check_vosk_folder
        check(folder)
        return RecogniserChoice(folder.resolve().name, folder)
    raise UserError(
        f"no recogniser '{choice}'",
        way_out=f"give auto, none, {', '.join((TINY, *PREFERRED, WHISPER))} "
        "or the folder of a Vosk model or of Whisper weights",
    )
