"""Home Assistant's device discovery, held to its documented form (that of 2025.4), and what becomes of it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from models.errors import UserError
from stream.broker.embedded import EmbeddedBroker
from stream.mqtt.home_assistant import HomeAssistant, forget
from stream.mqtt.sink import MqttSink
from stream.sinks.base import attached
from tests.commands import run_in_own_process
from tests.stream.brokers import Mosquitto, Subscriber, estimate, publish, status, until

Subscribe = Callable[[int], Subscriber]

COMMON = {"platform", "unique_id", "name", "icon", "entity_category"}
"""https://www.home-assistant.io/integrations/mqtt/ (2025.4): what each platform may have, of what is used here."""
ALLOWED = {
    "sensor": {
        *("state_topic", "value_template", "state_class", "suggested_display_precision", "expire_after"),
        *("unit_of_measurement", "device_class", "options"),
    },
    "binary_sensor": {"state_topic", "value_template", "expire_after"},
    "button": {"command_topic", "qos"},
}
REQUIRED = {"sensor": {"state_topic"}, "binary_sensor": {"state_topic"}, "button": {"command_topic"}}
TOPIC = "homeassistant/device/affectstream_me/config"


def rendered(template: str, message: dict[str, Any]) -> str:
    """What Home Assistant makes of the few forms of templates that are used here."""
    expression = template.removeprefix("{{ ").removesuffix(" }}")
    path = re.search(r"value_json\.([\w.]+)", expression)
    assert path is not None, template
    found: Any = message
    for key in path[1].split("."):
        found = found[key]
    return ("ON" if found else "OFF") if "'ON' if" in expression else str(found)


def test_every_component_has_what_its_platform_needs_and_no_more() -> None:
    announced = HomeAssistant("me").announcement()
    assert set(announced) == {"device", "origin", "availability", "components"}
    assert announced["device"]["identifiers"] == ["affectstream_me"]
    assert announced["origin"]["name"] == "affectstream"
    components = announced["components"]
    for component in components.values():
        platform = component["platform"]
        assert set(component) <= COMMON | ALLOWED[platform]
        assert set(component) >= REQUIRED[platform] | {"unique_id", "name"}
    ids = [component["unique_id"] for component in components.values()]
    assert len(set(ids)) == len(ids) == 13
    assert json.loads(json.dumps(announced, allow_nan=False)) == announced


def test_what_it_shows_is_in_the_messages() -> None:
    messages = {"affect/me/state": estimate(3).to_state(), "affect/me/status": status().to_json()}
    components = HomeAssistant("me").announcement()["components"]
    shown = {
        name: rendered(each["value_template"], messages[each["state_topic"]])
        for name, each in components.items()
        if "state_topic" in each
    }
    assert shown == {
        **{"valence": "0.25", "arousal": "-0.5", "valence_spread": "0.1", "arousal_spread": "0.05"},
        **{"face": "ON", "voice": "OFF", "words": "OFF"},
        **{"frame_rate": "29.97", "latency": "20.0", "phase": "running"},
    }
    assert components["phase"]["options"] == ["starting", "running", "paused", "stopped"]


def test_what_it_presses_are_commands_and_what_is_silent_expires() -> None:
    announced = HomeAssistant("me").announcement()
    components = announced["components"]
    pressed = {name: each["command_topic"] for name, each in components.items() if "command_topic" in each}
    assert pressed == {name: f"affect/me/set/{name}" for name in ("pause", "resume", "recenter")}
    assert all(each["expire_after"] > 5 for each in components.values() if "state_topic" in each)
    (availability,) = announced["availability"]
    assert availability["topic"] == "affect/me/available"
    assert availability["value_template"] == "{{ 'online' if value == 'online' else 'offline' }}"


def test_ids_become_names_that_its_topics_can_have_and_stay_apart() -> None:
    ids = ["me", "Me", "Küche 1", "Küche_1", "K_che_1", "a.b", "a b"]
    names = [HomeAssistant(each).device_id for each in ids]
    assert len(set(names)) == len(ids)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+", name) for name in names)
    assert names[0] == "affectstream_me"


@pytest.mark.parametrize("prefix", ["", "/", "a/", "/a", "a//b", "a/#", "+", "a\nb"])
def test_a_prefix_that_cannot_be_a_topic_is_one_clear_line(prefix: str) -> None:
    with pytest.raises(UserError, match="by default homeassistant") as refused:
        HomeAssistant("me", prefix)
    assert "\n" not in str(refused.value)


async def test_it_is_retained_said_again_at_its_birth_and_taken_away(
    mosquitto: Mosquitto, subscribe: Subscribe
) -> None:
    seen = subscribe(mosquitto.port)
    sink = MqttSink(mosquitto.address, publisher_id="me", home_assistant="homeassistant")
    async with attached([sink]):
        assert sink.counters["mqtt_home_assistant"] == 1
        await asyncio.to_thread(publish, mosquitto.port, "homeassistant/status", "offline")
        await asyncio.to_thread(publish, mosquitto.port, "homeassistant/status", "online")
        await until(lambda: sink.counters["mqtt_home_assistant"] == 2)
        await asyncio.to_thread(publish, mosquitto.port, "affect/me/set/pause", "")
        await until(lambda: seen.payloads("affect/me/ack"))
        assert sink.counters.get("mqtt_commands_unknown") is None, "its birth is no command"
    said = await asyncio.to_thread(
        run_in_own_process,
        *("stream-watch", "--broker", f"mqtt://127.0.0.1:{mosquitto.port}"),
        *("--forget-home-assistant", "me"),
    )
    assert (
        said.stdout
        == f"me is no device of Home Assistant any more ({TOPIC} at {mosquitto.address.endpoint})\n"
    )
    assert await forget(mosquitto.address, HomeAssistant("me")) is False


async def test_it_is_announced_at_an_embedded_broker_too_under_another_prefix() -> None:
    async with EmbeddedBroker(0) as broker:
        async with attached([MqttSink(broker.address, publisher_id="me", home_assistant="ha/found")]):
            pass
        device = HomeAssistant("me", "ha/found")
        assert device.topic == "ha/found/device/affectstream_me/config"
        assert await forget(broker.address, device) is True


def test_without_a_broker_it_is_refused() -> None:
    ran = run_in_own_process("stream-run", "--demo", "--broker", "none", "--home-assistant")
    assert ran.returncode == 2
    assert (
        ran.stderr
        == "stream-run: Home Assistant is told by a broker: name the one that it uses with --broker\n"
    )
