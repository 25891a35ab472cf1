"""Which sources one process runs: their ids, options and outputs, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import UserError
from stream.fleet.plan import FleetEntry, name_sources, plan_sources, read_fleet, suggest_name
from stream.mqtt.topics import check_publisher_id
from stream.options import InputOptions, OutputOptions

INPUT, OUTPUT = InputOptions("", bundle="demo", recogniser="auto"), OutputOptions(view="full")


def entries(*sources: str) -> list[FleetEntry]:
    return [FleetEntry(source=source) for source in sources]


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("/data/Talk One.mp4", "talk-one"),
        ("camera:0", "camera-0"),
        ("camera:/dev/video2", "camera-dev-video2"),
        ("rtsp://me:secret@10.0.0.7:8554/cam?token=x", "10-0-0-7-cam"),
        ("lavfi:testsrc2=size=64x64", "lavfi-testsrc2"),
        ("???.mp4", "source"),
    ],
)
def test_a_source_without_an_id_is_called_by_what_it_is(target: str, name: str) -> None:
    assert suggest_name(target) == name


def test_sources_of_one_name_are_numbered() -> None:
    assert name_sources(entries("a/talk.mp4", "b/talk.mp4", "c/talk.mp4")) == ["talk", "talk-2", "talk-3"]
    named = [FleetEntry(id="talk", source="x.mp4"), FleetEntry(source="talk.mp4")]
    assert name_sources(named) == ["talk", "talk-2"], "an id that was given is kept"


@given(st.lists(st.from_regex(r"[^\x00]{1,30}", fullmatch=True), min_size=1, max_size=8))
def test_names_are_different_and_can_be_topics(sources: list[str]) -> None:
    names = name_sources([FleetEntry(source=source) for source in sources])
    assert len(set(names)) == len(sources)
    for name in names:
        assert check_publisher_id(name) == name


def test_two_of_one_id_are_refused() -> None:
    same = [FleetEntry(id="desk", source="a.mp4"), FleetEntry(id="desk", source="b.mp4")]
    with pytest.raises(UserError, match="2 sources have the id 'desk'"):
        plan_sources(same, INPUT, OUTPUT)


def test_each_has_outputs_of_its_own() -> None:
    common = OutputOptions(
        view="full",
        record=Path("records"),
        session=Path("sessions"),
        publisher_id="lab",
        broker="mqtt://hub",
    )
    plans = plan_sources(entries("a.mp4", "b.mp4"), INPUT, common)
    assert [plan.output_options.record for plan in plans] == [
        Path("records/a.jsonl"),
        Path("records/b.jsonl"),
    ]
    assert [plan.output_options.session for plan in plans] == [Path("sessions/a"), Path("sessions/b")]
    assert [plan.output_options.publisher_id for plan in plans] == ["lab-a", "lab-b"]
    assert {plan.output_options.broker for plan in plans} == {"mqtt://hub"}
    assert {plan.output_options.view for plan in plans} == {"none"}, "one screen shows them all"


def test_what_an_entry_says_beats_the_options_of_all() -> None:
    desk = FleetEntry(
        id="desk", camera="0", microphone="1", size="1280x720", fps=30, bundle="people", detector="haar"
    )
    hall = FleetEntry(id="hall", source="rtsp://hub/cam", recogniser="none", budget="full")
    first, second = (plan.input_options for plan in plan_sources([desk, hall], INPUT, OUTPUT))
    assert (first.source, first.microphone, first.size, first.frame_rate) == (
        "camera:0",
        "1",
        (1280, 720),
        30,
    )
    assert (first.bundle, first.detector, first.recogniser) == ("people", "haar", "auto")
    assert (second.source, second.microphone, second.bundle) == ("rtsp://hub/cam", None, "demo")
    assert (second.recogniser, second.budget) == ("none", "full")


def test_a_camera_hears_nothing_unless_its_microphone_is_named() -> None:
    silent, own = plan_sources(
        [FleetEntry(camera="0"), FleetEntry(camera="1", microphone="2")], INPUT, OUTPUT
    )
    assert silent.input_options.microphone == "none"
    assert own.input_options.microphone == "2"


def test_each_has_a_name_of_its_own_over_lsl() -> None:
    for asked, expected in ((None, "affectstream"), ("booth", "booth")):
        common = replace(OUTPUT, lsl=True, lsl_name=asked)
        plans = plan_sources(entries("a.mp4", "b.mp4"), INPUT, common)
        assert [plan.output_options.lsl_name for plan in plans] == [f"{expected} a", f"{expected} b"]
    assert plan_sources(entries("a.mp4"), INPUT, OUTPUT)[0].output_options.lsl_name is None


def test_metrics_of_one_are_not_given_to_many() -> None:
    with pytest.raises(UserError, match="--metrics is of one source"):
        plan_sources(entries("a.mp4", "b.mp4"), INPUT, replace(OUTPUT, metrics="9464"))


def test_labels_of_one_are_not_given_to_many() -> None:
    with pytest.raises(UserError, match="labels belong to one recording"):
        plan_sources(entries("a.mp4", "b.mp4"), INPUT, OutputOptions(labels=Path("a.txt")))


class TestFile:
    def read(self, folder: Path, text: str) -> tuple[FleetEntry, ...]:
        path = folder / "fleet.toml"
        path.write_text(text, encoding="utf-8")
        return read_fleet(path)

    def test_sources_with_what_is_theirs(self, tmp_path: Path) -> None:
        found = self.read(
            tmp_path,
            '[[source]]\nid = "desk"\ncamera = 0\nmicrophone = "default"\n\n[[source]]\nsource = "rtsp://hub/cam"\n',
        )
        assert [entry.target for entry in found] == ["camera:0", "rtsp://hub/cam"]
        assert [entry.id for entry in found] == ["desk", None]

    @pytest.mark.parametrize(
        ("text", "named"),
        [
            ("", "source in"),
            ("source = 1\n", "source in"),
            ("[[source]]\ncamera = 0\nspeed = 2\n", "source.0.speed in"),
            ("[[source]]\ncamera = 0\nsize = 'big'\n", "source.0.size in"),
            ("[[source]]\ncamera = 0\nfps = 0\n", "source.0.fps in"),
            ("[[source\n", "cannot read the fleet's file"),
        ],
    )
    def test_what_cannot_be_meant_is_named(self, tmp_path: Path, text: str, named: str) -> None:
        with pytest.raises(UserError, match=named):
            self.read(tmp_path, text)

    @pytest.mark.parametrize("text", ["[[source]]\nid = 'x'\n", "[[source]]\ncamera = 0\nsource = 'a.mp4'\n"])
    def test_an_entry_has_one_source(self, tmp_path: Path, text: str) -> None:
        with pytest.raises(UserError, match="one `source`"):
            plan_sources(self.read(tmp_path, text), INPUT, OUTPUT)

    def test_a_file_that_is_not_there_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="cannot read the fleet's file"):
            read_fleet(tmp_path / "nowhere.toml")
