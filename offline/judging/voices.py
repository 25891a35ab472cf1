"""Sound alone: a voice from a file, as a microphone without a camera would hear it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from models.spec import WindowSpec
from offline.judging.live_path import ItemEstimate, LivePath, mean_estimate, settle_all
from offline.people.sound import read_sound
from stream.estimation.batching import Moment
from stream.perception.features import Availability
from stream.perception.speech import Speech, transcriber_settings
from stream.sources.events import SAMPLE_RATE, AudioChunk, NoPicture

if TYPE_CHECKING:
    from pathlib import Path

_SOUND_ALONE: Final = Availability(visual=False, language=False)


def estimate_voice(path: LivePath, recording: Path) -> ItemEstimate:
    """A recording's sound from a fresh state: the mean over the frames with an open voice gate, or over all where it
    never opens. Raises UserError where the file cannot be read.
    """
    samples = read_sound(recording)
    perception, period = path.sound_perception, SAMPLE_RATE / path.frame_rate
    state = perception.initial_state()
    speech = Speech(None, transcriber_settings(WindowSpec().length, path.frame_rate), has_sound=True)
    moments = []
    try:
        heard = 0
        for index in range(1 + int((len(samples) - 1) / period)):
            time_s = index / path.frame_rate
            due = int(time_s * SAMPLE_RATE)
            if due > heard:
                chunk = AudioChunk(heard, samples[heard:due])
                speech.hear(chunk, wait=True)
                state, _ = perception.step(state, chunk)
                heard = due
            state, features = perception.step(state, NoPicture(index, time_s, 0.0), _SOUND_ALONE)
            moments.append(Moment(features, tuple(speech.catch_up(time_s))))
        speech.hear(AudioChunk(heard, samples[heard:]), wait=True)
        moments.append(Moment(None, tuple(speech.finish())))
    finally:
        speech.close()
    estimates = settle_all(path.estimator_without_words, moments)
    voiced = [e for e in estimates if e.present.voice]
    return mean_estimate(voiced or estimates, present=bool(voiced))
