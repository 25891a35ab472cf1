"""What the outlets say of themselves, as a recorder reads it."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace
from typing import Any

import pytest

from stream.lsl.outlets import CHANNELS, StreamDescription, make_outlet, sample
from stream.messages import Affect, BundleStatus, Present
from tests.stream.brokers import estimate

DESCRIPTION = StreamDescription(
    name="lab <1>",
    publisher="desk",
    source="camera 0",
    frame_rate=30.0,
    live=True,
    bundle=BundleStatus("people", "practical", 6, True, "faces & voices"),
    detector="yunet",
    accelerator="openvino",
    version="0.1.0",
)


def test_a_sample_has_a_value_for_each_channel_within_its_range() -> None:
    made = replace(
        estimate(1, valence=-1.0),
        spread=Affect(0.2, 0.3),
        present=Present(face=True, voice=False, words=True),
    )
    assert sample(made) == [-1.0, -0.5, 0.2, 0.3, 1.0, 0.0, 1.0]
    for channel, value in zip(CHANNELS, sample(made), strict=True):
        assert channel.lowest <= value <= channel.highest, channel


@pytest.mark.parametrize("settled", [False, True])
def test_a_stream_says_what_it_carries(pylsl: Any, settled: bool) -> None:
    outlet = make_outlet(pylsl, DESCRIPTION, settled=settled)
    found = pylsl.resolve_byprop("name", "lab <1> settled" if settled else "lab <1>", 1, 10)
    info = pylsl.StreamInlet(found[0]).info(timeout=10)
    assert info.type() == "Affect"
    assert info.nominal_srate() == (pylsl.IRREGULAR_RATE if settled else 30.0)
    assert info.channel_count() == len(CHANNELS)
    assert info.get_channel_labels() == [channel.label for channel in CHANNELS]
    assert info.get_channel_types() == [channel.kind for channel in CHANNELS]
    assert info.get_channel_units() == [channel.unit for channel in CHANNELS]
    xml = ET.fromstring(info.as_xml())  # noqa: S314
    limits = [
        (node.findtext("minimum"), node.findtext("maximum"))
        for node in xml.findall("./desc/channels/channel/range")
    ]
    assert limits == [("-1", "1")] * 2 + [("0", "2")] * 2 + [("0", "1")] * 3
    bundle = xml.find("./desc/affectstream/bundle")
    assert bundle is not None
    assert {node.tag: node.text for node in bundle} == {
        "name": "people",
        "preset": "practical",
        "folds": "6",
        "trained": "true",
        "note": "faces & voices",
    }
    assert xml.findtext("./desc/affectstream/estimates") == ("settled" if settled else "provisional")
    assert xml.findtext("./desc/synchronization/can_drop_samples") == "true"
    assert xml.findtext("./desc/acquisition/model") == "people"
    del outlet


def test_a_source_id_is_the_same_after_a_restart_and_another_for_each_stream(pylsl: Any) -> None:
    ids = {DESCRIPTION.source_id("provisional"), DESCRIPTION.source_id("settled")}
    ids |= {replace(DESCRIPTION, name="other").source_id("settled")}
    ids |= {replace(DESCRIPTION, publisher="other").source_id("settled")}
    assert len(ids) == 4
    assert replace(DESCRIPTION, accelerator="eager").source_id("settled") in ids
