"""Sight alone: faces in still pictures, each before the camera for two seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from models.speech.words import EVERYTHING_SETTLED
from offline.judging.live_path import ItemEstimate, LivePath, mean_estimate, settle_all
from offline.people.canvas import show_on_canvas
from stream.estimation.batching import Moment
from stream.perception.features import Availability
from stream.sources.events import VideoFrame

if TYPE_CHECKING:
    from offline.people.ferplus import Images

SHOWN_S: Final = 2.0
JUDGED_S: Final = 1.0
"""The last second counts: before it the estimate is on its way."""

_SIGHT_ALONE: Final = Availability(audio=False, language=False)


def estimate_face(path: LivePath, picture: Images) -> ItemEstimate:
    """A grey picture (n, n) shown still from a fresh state, as a camera without microphone.

    The camera says that it has no newer picture, so the face is sought and embedded once.
    """
    state = path.perception.initial_state()
    rgb = show_on_canvas(picture)
    moments = []
    for index in range(round(SHOWN_S * path.frame_rate)):
        frame = VideoFrame(index, index / path.frame_rate, 0.0, rgb, repeated=index > 0)
        state, features = path.perception.step(state, frame, _SIGHT_ALONE)
        # Without sound no word can come: every frame is settled.
        moments.append(Moment(features, () if index else (EVERYTHING_SETTLED,)))
    estimates = settle_all(path.estimator_without_words, moments)
    return mean_estimate(estimates[-round(JUDGED_S * path.frame_rate) :], present=estimates[-1].present.face)
