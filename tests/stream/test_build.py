"""What a run's parts are loaded for: the bundle's rate for live sources, each recording's own."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from models.accelerate.select import serve
from models.errors import UserError
from stream import build as assembly
from stream.build import assemble, load
from stream.description import DRAWN
from stream.options import DEMO_BUNDLE, DEMO_RECORDING, InputOptions, Pace
from tests.stream.recordings import steady, write_recording
from tests.stream.scripted import ScriptedSource, small_bundle

if TYPE_CHECKING:
    from pathlib import Path

    from models.accelerate.runtime import Runtime


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One whose recipe has 50 frames a second."""
    folder = tmp_path_factory.mktemp("bundles") / "quick"
    small_bundle(folder, folds=1)
    manifest = folder / "bundle.json"
    text = manifest.read_text(encoding="utf-8")
    assert '"frame_rate": 30.0' in text
    manifest.write_text(text.replace('"frame_rate": 30.0', '"frame_rate": 50.0'), encoding="utf-8")
    return folder


@pytest.fixture
def judged_by(monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """The frame rates by which routes were to be chosen."""
    rates: list[float | None] = []

    def watched(*args: Any, frame_rate: float | None = None, **options: Any) -> Runtime:
        rates.append(frame_rate)
        return serve(*args, frame_rate=frame_rate, **options)

    monkeypatch.setattr(assembly, "serve", watched)
    return rates


def test_a_live_source_ticks_at_the_bundles_rate_and_is_judged_by_it(
    bundle: Path, judged_by: list[float | None]
) -> None:
    parts = load(
        InputOptions("lavfi:testsrc2=s=64x48:r=30", bundle=str(bundle), microphone="none", recogniser="none")
    )
    parts.source.close()
    assert parts.source.info.frame_rate == 50.0
    assert judged_by == [50.0]


def test_the_demo_is_said_to_be_a_drawing_to_all_bundles_but_its_own(bundle: Path, tmp_path: Path) -> None:
    options = InputOptions(str(DEMO_RECORDING), bundle=str(bundle), recogniser="none")
    parts = load(options)
    parts.source.close()
    assert parts.notes == (DRAWN,)
    assert assemble(parts, []).status().notes[0] == DRAWN
    recording = write_recording(tmp_path / "real.mkv", steady(5, rate=25.0))
    for other in (replace(options, bundle=DEMO_BUNDLE), replace(options, source=str(recording))):
        parts = load(other)
        parts.source.close()
        assert parts.notes == ()


@pytest.mark.parametrize("pace", ["live", "fast"])
def test_a_recording_is_judged_by_its_own_rate_at_either_pace(
    bundle: Path, judged_by: list[float | None], tmp_path: Path, pace: Pace
) -> None:
    """By one rate at both: the routes, and with them the record, must not depend on the pace."""
    recording = write_recording(tmp_path / "slow.mkv", steady(5, rate=25.0))
    load(InputOptions(str(recording), bundle=str(bundle), pace=pace, recogniser="none")).source.close()
    assert judged_by == [25.0]


@pytest.mark.parametrize("keep_eager", [False, True])
def test_eager_weights_are_given_up_unless_a_process_may_run_again(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, keep_eager: bool
) -> None:
    asked: list[bool] = []

    def watched(*args: Any, keep_eager: bool = True, **options: Any) -> Runtime:
        asked.append(keep_eager)
        return serve(*args, keep_eager=keep_eager, **options)

    monkeypatch.setattr(assembly, "serve", watched)
    recording = write_recording(tmp_path / "short.mkv", steady(5))
    options = InputOptions(str(recording), bundle=str(bundle), recogniser="none")
    load(options, keep_eager=keep_eager).source.close()
    assert asked == [keep_eager]


def test_a_source_that_is_open_is_closed_where_loading_fails(bundle: Path) -> None:
    source = ScriptedSource([])
    with pytest.raises(UserError, match="no recogniser 'nobody'"):
        load(InputOptions("scripted", bundle=str(bundle), recogniser="nobody"), source=source)
    assert source.closed.is_set()
