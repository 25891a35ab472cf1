"""The main job, end to end: a real recording through `stream-run` itself, to a record and a real broker."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import av
import pytest

from models.accelerate.backends import openvino
from models.accelerate.hardware import has_package
from models.bundle.card import read_card, written_for
from models.bundle.shipped import resolve_bundle, shipped_bundles
from models.bundle.untrained import make_untrained_bundle
from models.text.small_bert import BertShape
from stream.build import assemble, load
from stream.commands.run import command as run_command
from stream.options import DEFAULT_BUNDLE, DEMO_BUNDLE, DEMO_RECORDING, LATENCY_TARGET_MS, InputOptions
from stream.sinks.record import RecordSink
from tests.commands import command_line
from tests.stream.brokers import Mosquitto, Subscriber, free_port, until
from tests.stream.recordings import CLIPS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Record = list[dict[str, Any]]

needs_openvino = pytest.mark.skipif(not has_package("openvino"), reason="openvino is not installed")


def decodable_frames(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


async def replay(source: Path, record: Path, recogniser: str = "vosk-tiny") -> Record:
    parts = load(InputOptions(str(source), bundle=DEMO_BUNDLE, pace="fast", recogniser=recogniser))
    await assemble(parts, [RecordSink(record)], pace="fast").run()
    return [json.loads(line) for line in record.read_text().splitlines()]


def stream_run(*arguments: str | Path, bundle: str | Path = DEMO_BUNDLE) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command_line("stream-run", *arguments, "--bundle", bundle),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_list_of_clips_is_complete(fixtures: Path) -> None:
    assert sorted(p.name for p in (fixtures / "clips").iterdir()) == sorted(CLIPS)


@pytest.mark.parametrize("clip", CLIPS)
async def test_every_decodable_frame_is_recorded_once(fixtures: Path, tmp_path: Path, clip: str) -> None:
    lines = await replay(fixtures / "clips" / clip, tmp_path / "out.jsonl")
    assert [line["frame"] for line in lines] == list(range(decodable_frames(fixtures / "clips" / clip)))
    times = [line["time_s"] for line in lines]
    assert times == sorted(times)
    assert times[0] == 0.0
    for line in lines:
        assert -1 <= line["valence"] <= 1
        assert -1 <= line["arousal"] <= 1


async def test_no_face_gives_estimates_that_say_so(fixtures: Path, tmp_path: Path) -> None:
    lines = await replay(fixtures / "clips" / "no_face.mp4", tmp_path / "out.jsonl")
    assert not any(line["present"]["face"] for line in lines)


@pytest.mark.parametrize("target_ms", [0.0, LATENCY_TARGET_MS, 500.0])
async def test_a_replay_repeats_byte_for_byte_at_either_pace(
    fixtures: Path, tmp_path: Path, target_ms: float
) -> None:
    clip = fixtures / "clips" / "lbax4n.mpg"
    records: list[bytes] = []
    for pace in ("fast", "fast", "live"):
        record = tmp_path / f"{len(records)}.jsonl"
        parts = load(
            InputOptions(
                str(clip), bundle=DEMO_BUNDLE, pace=pace, recogniser="vosk-tiny", latency_target_ms=target_ms
            )
        )
        engine = assemble(parts, [RecordSink(record)], pace=pace, latency_target_ms=target_ms)
        await engine.run()
        records.append(record.read_bytes())
    assert records[0] == records[1] == records[2]
    assert records[0].count(b"\n") == decodable_frames(clip)


@needs_openvino
@pytest.mark.parametrize(("accelerator", "error"), [("openvino:float32", 1e-4), ("openvino:int8", math.inf)])
async def test_an_accelerated_replay_repeats_and_says_what_it_is(
    fixtures: Path, tmp_path: Path, accelerator: str, error: float
) -> None:
    """Float32 is as eager. How near int8 comes is the bundle's probe's affair: it is calibrated on that alone, and
    held to it: a part that is too far from eager there is served by eager, and status says which and why.
    """
    clip = fixtures / "clips" / "lbax4n.mpg"
    said: list[str] = []
    records: list[bytes] = []
    for pace in ("fast", "live"):
        parts = load(
            InputOptions(str(clip), bundle=DEMO_BUNDLE, recogniser="vosk-tiny", accelerator=accelerator),
            said.append,
        )
        record = tmp_path / f"{pace}.jsonl"
        summary = await assemble(parts, [RecordSink(record)], pace=pace).run()
        records.append(record.read_bytes())
        status = summary.status
        route = accelerator.replace(":", " ")
        assert status.counters["resident_mib"] > status.counters["resident_mib_bundle"] > 50
        if status.accelerator == route:
            assert status.notes == ()
            first: Any = parts.bundle.ensemble.trunks[0].first
            assert first.weight.is_meta, "weights are stored once"
        else:
            assert accelerator == "openvino:int8"
            assert any("int8" in note and "allowed" in note for note in status.notes)
    assert records[0] == records[1]
    assert any("visual: converting for openvino" in line for line in said)
    eager = await replay(clip, tmp_path / "eager.jsonl")
    for line, expected in zip(records[0].splitlines(), eager, strict=True):
        ours = json.loads(line)
        assert abs(ours["valence"] - expected["valence"]) < error
        assert abs(ours["arousal"] - expected["arousal"]) < error
        assert ours["present"] == expected["present"]


async def test_an_accelerator_that_is_not_installed_is_said_in_status_and_eager_serves(
    fixtures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    openvino._engine.cache_clear()
    monkeypatch.setattr(openvino, "has_package", lambda name: False)
    try:
        parts = load(
            InputOptions(
                str(fixtures / "clips" / "lbax4n.mpg"), bundle=DEMO_BUNDLE, accelerator="openvino:int8"
            )
        )
    finally:
        openvino._engine.cache_clear()
    status = (await assemble(parts, [], pace="fast").run()).status
    assert status.accelerator == "eager"
    assert any("visual: openvino int8 does not serve: openvino is not installed" in n for n in status.notes)


@pytest.mark.slow
async def test_the_demo_sees_a_face_and_hears_words(tmp_path: Path) -> None:
    lines = await replay(DEMO_RECORDING, tmp_path / "out.jsonl")
    seen = [line["present"] for line in lines]
    assert len(lines) == decodable_frames(DEMO_RECORDING)
    assert sum(p["face"] for p in seen) >= 0.95 * len(seen)
    assert sum(p["words"] for p in seen) >= 0.3 * len(seen)


async def test_without_a_recogniser_status_names_the_command_that_installs_one(
    fixtures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AFFECT_MODELS", str(tmp_path / "nothing installed"))
    parts = load(
        InputOptions(
            str(fixtures / "clips" / "lbax4n.mpg"), bundle=DEMO_BUNDLE, pace="fast", recogniser="auto"
        )
    )
    engine = assemble(parts, [], pace="fast")
    summary = await engine.run()
    recogniser = summary.status.inputs["recogniser"]
    assert recogniser.health == "off"
    assert recogniser.way_out.startswith(
        "models-pull vosk-model-small-en-us-0.15, or models-pull whisper-tiny.en"
    )
    assert summary.settled == summary.frames == decodable_frames(fixtures / "clips" / "lbax4n.mpg")


def test_a_bundle_that_was_trained_without_words_is_served_without(fixtures: Path, tmp_path: Path) -> None:
    """Its language branch has learnt nothing: what it would make of words is noise."""
    folder = tmp_path / "wordless"
    shutil.copytree(resolve_bundle("demo"), folder)
    manifest = json.loads((folder / "bundle.json").read_text())
    manifest["recipe"]["recogniser"] = None
    (folder / "bundle.json").write_text(json.dumps(manifest))
    clip = str(fixtures / "clips" / "lbax4n.mpg")
    parts = load(InputOptions(clip, bundle=str(folder), recogniser="auto", accelerator="eager"))
    recogniser = parts.input_status()["recogniser"]
    assert recogniser.health == "off"
    assert "trained without words" in recogniser.detail
    parts = load(InputOptions(clip, bundle=str(folder), recogniser="vosk-tiny", accelerator="eager"))
    assert parts.input_status()["recogniser"].health == "ok"


@pytest.mark.parametrize(("clip", "said"), [("lbax4n.mpg", True), ("weekly_address_5s.mp4", False)])
def test_a_recording_of_another_frame_rate_than_the_bundles_is_said_to_be_one(
    fixtures: Path, clip: str, said: bool
) -> None:
    parts = load(
        InputOptions(
            str(fixtures / "clips" / clip), bundle=DEMO_BUNDLE, recogniser="none", accelerator="eager"
        )
    )
    camera = parts.input_status()["camera"]
    assert ("25 frames a second (the bundle was trained at 30" in camera.detail) == said


async def test_a_real_subscriber_sees_a_run_from_online_to_stopped(
    fixtures: Path, mosquitto: Mosquitto, subscribe: Callable[[int], Subscriber]
) -> None:
    seen = subscribe(mosquitto.port)
    clip = fixtures / "clips" / "lbax4n.mpg"
    running = stream_run(
        clip, "--broker", f"mqtt://127.0.0.1:{mosquitto.port}", "--id", "me", "--view", "none"
    )
    await until(lambda: "stopped" in seen.payloads("affect/me/available"), timeout_s=60)
    assert running.wait(20) == 0, running.stderr and running.stderr.read()
    assert seen.payloads("affect/me/available") == ["online", "stopped"]
    settled = [json.loads(p)["frame"] for p in seen.payloads("affect/me/settled")]
    assert settled == list(range(decodable_frames(clip)))
    assert len(seen.payloads("affect/me/estimate")) > 0.8 * len(settled)
    assert len(seen.payloads("affect/me/state")) >= 1
    statuses = [json.loads(p) for p in seen.payloads("affect/me/status")]
    assert statuses[0]["phase"] in ("starting", "running")
    assert statuses[-1]["phase"] == "stopped"
    assert statuses[-1]["bundle"]["trained"] is (not statuses[-1]["bundle"]["note"].startswith("untrained"))
    assert seen.payloads("affect/me/transcript") == []


async def test_killed_it_is_offline_by_last_will(
    mosquitto: Mosquitto, subscribe: Callable[[int], Subscriber]
) -> None:
    seen = subscribe(mosquitto.port)
    running = stream_run(
        DEMO_RECORDING, "--broker", f"mqtt://127.0.0.1:{mosquitto.port}", "--id", "me", "--view", "none"
    )
    await until(lambda: len(seen.payloads("affect/me/estimate")) > 3, timeout_s=60)
    running.kill()
    await until(lambda: "offline" in seen.payloads("affect/me/available"), timeout_s=20)
    assert seen.payloads("affect/me/available") == ["online", "offline"]
    running.wait(10)


@pytest.mark.parametrize(("how", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_ended_early_it_says_stopped_and_keeps_every_line(
    mosquitto: Mosquitto,
    subscribe: Callable[[int], Subscriber],
    tmp_path: Path,
    how: signal.Signals,
    status: int,
) -> None:
    seen = subscribe(mosquitto.port)
    record = tmp_path / "out.jsonl"
    address = f"mqtt://127.0.0.1:{mosquitto.port}"
    running = stream_run(
        DEMO_RECORDING, "--broker", address, "--id", "me", "--record", record, "--view", "none"
    )
    await until(lambda: len(seen.payloads("affect/me/settled")) > 20, timeout_s=60)
    running.send_signal(how)
    assert running.wait(20) == status
    assert running.stderr is not None
    assert "Traceback" not in running.stderr.read()
    await until(lambda: "stopped" in seen.payloads("affect/me/available"), timeout_s=20)
    lines = [json.loads(line) for line in record.read_text().splitlines()]
    assert [line["frame"] for line in lines] == list(range(len(lines)))
    published = [json.loads(p)["frame"] for p in seen.payloads("affect/me/settled")]
    assert len(lines) >= len(published), "every settled estimate that was published is on disk"


def test_what_a_user_gets_wrong_ends_in_one_line(
    fixtures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "noise.mp4").write_bytes(os.urandom(4096))
    (tmp_path / "taken.jsonl").write_text("{}\n")
    (tmp_path / "bundle").mkdir()
    clip = fixtures / "clips" / "lbax4n.mpg"
    mistakes: list[tuple[list[str | Path], str]] = [
        ([], "--demo"),
        (["--pace", "slow", clip], "slow"),
        (["--nonsense"], "--nonsense"),
        ([tmp_path / "missing.mp4"], "missing.mp4"),
        ([tmp_path / "noise.mp4"], "noise.mp4"),
        ([fixtures / "speech" / "jfk.flac"], "jfk.flac"),
        ([clip, "--broker", f"mqtt://127.0.0.1:{free_port()}"], "127.0.0.1"),
        ([clip, "--broker", "http://127.0.0.1"], "mqtt://"),
        ([clip, "--bundle", tmp_path / "bundle"], "bundle"),
        ([clip, "--bundle", "nobody"], "nobody"),
        ([clip, "--record", tmp_path / "taken.jsonl"], "--overwrite"),
        ([clip, "--record", tmp_path / "no folder" / "out.jsonl"], "out.jsonl"),
        ([clip, "--recogniser", tmp_path / "bundle"], "Vosk"),
        ([clip, "--id", "a/b"], "a/b"),
    ]
    options = ("--bundle", DEMO_BUNDLE, "--view", "none")
    for arguments, named in mistakes:
        monkeypatch.setattr(sys, "argv", ["stream-run", *options, *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            run_command()
        errors = capfd.readouterr().err
        assert ended.value.code == 2, (arguments, errors)
        assert errors.count("\n") == 1, (arguments, errors)
        assert named in errors, (arguments, errors)
    # In a process of its own, with all that is loaded by then: it ends, and says no more.
    running = stream_run(clip, "--broker", f"mqtt://127.0.0.1:{free_port()}", "--view", "none")
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 2
    assert errors.count("\n") == 1, errors


def test_another_bundle_on_the_demo_says_that_it_sees_a_drawing(tmp_path: Path) -> None:
    """A bundle of the shape and by the name of that for real people, in a process of its own, as lines."""
    folder = tmp_path / "people"
    manifest = make_untrained_bundle(
        folder, "practical", folds=1, name="people", text=BertShape(layers=1, head=16, inner=2)
    )
    note = "learned from real people: good for trying out"
    (folder / "bundle.json").write_text(manifest.model_copy(update={"note": note, "trained": True}).to_json())
    running = stream_run(
        *("--demo", "--pace", "fast", "--broker", "none", "--accelerator", "eager", "--view", "plain"),
        *("--recogniser", "none"),
        bundle=folder,
    )
    said, errors = running.communicate(timeout=180)
    assert running.returncode == 0, errors
    first, rest = said.split("\nframe ", maxsplit=1)
    lines = first.splitlines()
    assert lines[1].startswith("bundle people, practical, 1 fold")
    assert lines[2] == f"about {note}"
    assert lines[3].startswith("note a drawn person and a synthetic voice")
    assert f"people: {note}" in rest, "the summary names it too"


@pytest.mark.skipif(DEFAULT_BUNDLE not in shipped_bundles(), reason="the bundle for real people is not here")
async def test_the_default_bundle_says_what_it_is_and_has_its_card(fixtures: Path) -> None:
    clip = fixtures / "clips" / "lbax4n.mpg"
    parts = load(InputOptions(str(clip), pace="fast", recogniser="none"))
    status = (await assemble(parts, [], pace="fast").run()).status.to_json()
    assert status["bundle"]["name"] == DEFAULT_BUNDLE
    assert status["bundle"]["trained"]
    assert status["bundle"]["note"]
    assert status["notes"] == []
    assert written_for(read_card(parts.bundle.folder)) == parts.bundle.content_hash
