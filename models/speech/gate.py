"""The voice gate: which sound is worth recognising, as a pure state machine over voice decisions.

Sound is cut into frames of 30 ms on an absolute grid; a detector (webrtcvad) calls each voiced or not. The
gate opens when enough of the latest decisions were voiced, hands over the frames just before that too
(pre-roll, so that no onset is lost), and closes when nothing was voiced for the length of the hang-over.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class GateSettings:
    """Lengths in frames.

    The gate opens when at least `open_voiced` of the last `open_window` decisions were voiced; it closes at
    the `hang_over`-th unvoiced frame in a row; at most `pre_roll` frames before the opening one are handed
    over. Raises ValueError where a value makes no sense.
    """

    open_voiced: int = 3
    open_window: int = 5
    hang_over: int = 15
    pre_roll: int = 10

    def __post_init__(self) -> None:
        if not 1 <= self.open_voiced <= self.open_window:
            raise ValueError(f"open_voiced {self.open_voiced} must be in 1 .. open_window {self.open_window}")
        if self.hang_over < 1:
            raise ValueError(f"hang_over {self.hang_over} must be at least 1 frame")
        if self.pre_roll < self.open_window - 1:
            raise ValueError(f"pre_roll {self.pre_roll} must reach back over open_window {self.open_window}")


@dataclass(frozen=True)
class GateState:
    """What the gate remembers: nothing that grows.

    `frame` is the index of the next frame; `history` the latest decisions (while closed, since it closed);
    `unvoiced_run` the unvoiced frames in a row up to now; `handed` the first frame not handed over yet.
    """

    frame: int
    open: bool
    history: tuple[bool, ...]
    unvoiced_run: int
    handed: int


@dataclass(frozen=True)
class GateOutput:
    """The answer for one frame: is the gate open after it, and which frames to recognise now.

    `emit` ends with this frame or is empty. `closed_now`: this frame, itself still handed over, closed it.
    """

    open: bool
    emit: range
    opened_now: bool
    closed_now: bool


class VoiceGate:
    """The gate's rules; all state is in `GateState`."""

    def __init__(self, settings: GateSettings | None = None) -> None:
        self.settings = settings or GateSettings()

    def initial_state(self, first_frame: int = 0) -> GateState:
        """A closed gate before `first_frame`; nothing earlier is ever handed over."""
        return GateState(frame=first_frame, open=False, history=(), unvoiced_run=0, handed=first_frame)

    def earliest(self, state: GateState) -> int:
        """The earliest frame that can still be handed over."""
        if state.open:
            return state.handed
        return max(state.handed, state.frame - self.settings.pre_roll)

    def step(self, state: GateState, voiced: bool) -> tuple[GateState, GateOutput]:
        """Takes the decision for frame `state.frame`."""
        s, frame, nothing = self.settings, state.frame, range(state.frame, state.frame)
        history = (*state.history, voiced)[-s.open_window :]
        run = 0 if voiced else state.unvoiced_run + 1
        after = replace(state, frame=frame + 1, history=history, unvoiced_run=run)
        if state.open:
            emit = range(frame, frame + 1)
            after = replace(after, handed=frame + 1)
            if run < s.hang_over:
                return after, GateOutput(True, emit, opened_now=False, closed_now=False)
            return replace(after, open=False, history=()), GateOutput(
                False, emit, opened_now=False, closed_now=True
            )
        if sum(history) < s.open_voiced:
            return after, GateOutput(False, nothing, opened_now=False, closed_now=False)
        emit = range(self.earliest(state), frame + 1)
        return replace(after, open=True, handed=frame + 1), GateOutput(
            True, emit, opened_now=True, closed_now=False
        )

    def skip(self, state: GateState, frames: int) -> GateState:
        """What `frames` unvoiced steps would do to a closed gate, at once.

        Raises ValueError for an open gate, which has something to say on the way.
        """
        if state.open:
            raise ValueError("an open gate cannot skip frames")
        if frames <= 0:
            return state
        silence = (False,) * min(frames, self.settings.open_window)
        return replace(
            state,
            frame=state.frame + frames,
            history=(*state.history, *silence)[-self.settings.open_window :],
            unvoiced_run=state.unvoiced_run + frames,
        )
