"""The voice gate's laws."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.speech.gate import GateOutput, GateSettings, GateState, VoiceGate


@st.composite
def settings_of_any_kind(draw: st.DrawFn) -> GateSettings:
    window = draw(st.integers(1, 8))
    return GateSettings(
        open_voiced=draw(st.integers(1, window)),
        open_window=window,
        hang_over=draw(st.integers(1, 20)),
        pre_roll=draw(st.integers(window - 1, 15)),
    )


# Runs, not coin tosses: real decisions come in stretches, and only those open and close a gate.
runs = st.lists(st.tuples(st.booleans(), st.integers(1, 25)), max_size=20)
decisions = runs.map(lambda rs: [voiced for voiced, length in rs for _ in range(length)])


def run(
    settings: GateSettings, voiced: list[bool], first_frame: int = 0
) -> tuple[GateState, list[GateOutput]]:
    gate = VoiceGate(settings)
    state, outputs = gate.initial_state(first_frame), []
    for decision in voiced:
        state, output = gate.step(state, decision)
        outputs.append(output)
    return state, outputs


@given(settings_of_any_kind(), decisions, st.integers(-50, 50))
def test_every_frame_is_handed_over_at_most_once_and_in_order(
    settings: GateSettings, voiced: list[bool], first: int
) -> None:
    handed = [frame for output in run(settings, voiced, first)[1] for frame in output.emit]
    assert handed == sorted(set(handed))
    assert all(first <= frame < first + len(voiced) for frame in handed)


@given(settings_of_any_kind(), decisions)
def test_every_frame_of_an_open_gate_is_handed_over_when_it_comes(
    settings: GateSettings, voiced: list[bool]
) -> None:
    for frame, output in enumerate(run(settings, voiced)[1]):
        if output.open or output.closed_now:
            assert output.emit[-1] == frame
        else:
            assert not output.emit


@given(settings_of_any_kind(), decisions)
def test_pre_roll_is_as_long_as_it_can_be_and_no_longer(settings: GateSettings, voiced: list[bool]) -> None:
    handed_until = 0
    for frame, output in enumerate(run(settings, voiced)[1]):
        if output.opened_now:
            assert output.emit.start == max(handed_until, frame - settings.pre_roll)
        elif output.emit:
            assert len(output.emit) == 1
        if output.emit:
            handed_until = output.emit.stop


@given(settings_of_any_kind(), decisions)
def test_the_gate_opens_when_enough_of_the_latest_decisions_were_voiced(
    settings: GateSettings, voiced: list[bool]
) -> None:
    closed_since, was_open = 0, False
    for frame, output in enumerate(run(settings, voiced)[1]):
        latest = voiced[max(closed_since, frame + 1 - settings.open_window) : frame + 1]
        if not was_open:
            assert output.open == (sum(latest) >= settings.open_voiced)
        if output.opened_now:
            assert voiced[frame], "an unvoiced frame never opens"
        if output.closed_now:
            closed_since = frame + 1
        was_open = output.open


@given(settings_of_any_kind(), decisions)
def test_an_open_gate_closes_exactly_a_hang_over_after_the_last_voiced_frame(
    settings: GateSettings, voiced: list[bool]
) -> None:
    is_open, unvoiced = False, 0
    for decision, output in zip(voiced, run(settings, voiced)[1], strict=True):
        unvoiced = 0 if decision else unvoiced + 1
        assert output.closed_now == (is_open and unvoiced == settings.hang_over)
        is_open = output.open


@given(settings_of_any_kind(), st.integers(0, 200))
def test_silence_never_opens(settings: GateSettings, frames: int) -> None:
    assert not any(output.open or output.emit for output in run(settings, [False] * frames)[1])


@given(settings_of_any_kind(), decisions, decisions)
def test_what_can_still_be_handed_over_is_known_beforehand(
    settings: GateSettings, past: list[bool], future: list[bool]
) -> None:
    gate = VoiceGate(settings)
    state, _ = run(settings, past)
    promised = gate.earliest(state)
    for decision in future:
        state, output = gate.step(state, decision)
        assert not output.emit or output.emit.start >= promised
        assert gate.earliest(state) >= promised


@given(settings_of_any_kind(), decisions, decisions)
def test_a_saved_state_goes_on_as_if_nothing_had_happened(
    settings: GateSettings, past: list[bool], future: list[bool]
) -> None:
    gate = VoiceGate(settings)
    state, before = run(settings, past)
    after = []
    for decision in future:
        state, output = gate.step(state, decision)
        after.append(output)
    assert (state, before + after) == run(settings, past + future)


@given(settings_of_any_kind(), decisions, st.integers(0, 300))
def test_skipping_is_the_same_as_unvoiced_steps(
    settings: GateSettings, past: list[bool], frames: int
) -> None:
    gate = VoiceGate(settings)
    state, _ = run(settings, [*past, *[False] * settings.hang_over])
    assert not state.open
    stepped = state
    for _ in range(frames):
        stepped, _ = gate.step(stepped, False)
    assert gate.skip(state, frames) == stepped


def test_an_open_gate_cannot_be_skipped() -> None:
    state, _ = run(GateSettings(), [True] * 5)
    with pytest.raises(ValueError, match="open gate"):
        VoiceGate().skip(state, 1)


@pytest.mark.parametrize(
    "values",
    [
        {"open_voiced": 0},
        {"open_voiced": 6, "open_window": 5},
        {"hang_over": 0},
        {"pre_roll": 3, "open_window": 5},
    ],
)
def test_settings_that_make_no_sense_are_refused(values: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"open_|hang_over|pre_roll"):
        GateSettings(**values)
