"""Home Assistant: the one retained message by which it finds a publisher as a device (its MQTT device discovery).

The form is that of https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload, which Home Assistant
has from 2024.11 on. It was tried with Home Assistant 2025.4.4.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Final, get_args

import aiomqtt

from models.errors import UserError
from stream.broker.client import RefusedError
from stream.broker.connection import BrokerAddress, connect_first, disconnect
from stream.messages import Phase
from stream.mqtt.topics import PREFIX, check_publisher_id

DEFAULT_PREFIX: Final = "homeassistant"
ORIGIN: Final = "affectstream"

STATE_EXPIRES_S: Final = 10
"""`state` comes once a second: after this long without it, nothing is known."""

STATUS_EXPIRES_S: Final = 20
"""`status` comes every 5 s at least."""

RETAINED_WITHIN_S: Final = 1.0
"""How long a broker may take to send what it retained."""

BORN: Final = b"online"

PHASES: Final[tuple[Phase, ...]] = get_args(Phase)


@dataclass(frozen=True)
class HomeAssistant:
    """Home Assistant's view of one publisher: where it listens, and what it is told.

    `prefix` is its discovery prefix, under which it also says that it has started. Raises UserError for a prefix that
    cannot be part of a topic and an id that cannot be.
    """

    publisher_id: str
    prefix: str = DEFAULT_PREFIX

    def __post_init__(self) -> None:
        check_publisher_id(self.publisher_id)
        levels = self.prefix.split("/")
        if not all(levels) or set(self.prefix) & set("+#") or not self.prefix.isprintable():
            raise UserError(
                f"Home Assistant's prefix {self.prefix!r} cannot be part of a topic: give the one that it is set to, "
                f"by default {DEFAULT_PREFIX}"
            )

    @property
    def device_id(self) -> str:
        """The device's name in topics and unique ids, where only letters, digits, `_` and `-` may be."""
        name = re.sub(r"[^A-Za-z0-9_-]", "_", self.publisher_id)
        if name != self.publisher_id:
            name += "_" + hashlib.sha256(self.publisher_id.encode()).hexdigest()[:8]
        return f"{ORIGIN}_{name}"

    @property
    def topic(self) -> str:
        """Where the device is announced."""
        return f"{self.prefix}/device/{self.device_id}/config"

    @property
    def birth_topic(self) -> str:
        """Where Home Assistant says `online` when it has started."""
        return f"{self.prefix}/status"

    def announcement(self) -> dict[str, Any]:
        """The device, its origin and its components."""
        return {
            "device": {
                "identifiers": [self.device_id],
                "name": f"{ORIGIN} {self.publisher_id}",
                "manufacturer": ORIGIN,
                "model": "valence and arousal of a person",
                "sw_version": version(ORIGIN),
            },
            "origin": {"name": ORIGIN, "sw_version": version(ORIGIN)},
            # `stopped` (a clean end) and `offline` (the last will) are both not available to Home Assistant.
            "availability": [
                {
                    "topic": self._ours("available"),
                    "value_template": "{{ 'online' if value == 'online' else 'offline' }}",
                }
            ],
            "components": {
                name: {"unique_id": f"{self.device_id}_{name}", **component}
                for name, component in self._components().items()
            },
        }

    def _components(self) -> dict[str, dict[str, Any]]:
        return {
            "valence": self._value("Valence", "valence", "mdi:emoticon-outline"),
            "arousal": self._value("Arousal", "arousal", "mdi:pulse"),
            "valence_spread": self._value("Valence spread", "spread.valence", "mdi:plus-minus-variant"),
            "arousal_spread": self._value("Arousal spread", "spread.arousal", "mdi:plus-minus-variant"),
            "face": self._present("Face", "face", "mdi:face-recognition"),
            "voice": self._present("Voice", "voice", "mdi:account-voice"),
            "words": self._present("Words", "words", "mdi:format-quote-close"),
            "frame_rate": self._health("Frame rate", "frame_rate", unit="fps", icon="mdi:speedometer"),
            "latency": self._health("Latency", "latency_ms.p50", unit="ms", device_class="duration"),
            "phase": {
                "platform": "sensor",
                "name": "Phase",
                "state_topic": self._ours("status"),
                "value_template": "{{ value_json.phase }}",
                "device_class": "enum",
                "options": list(PHASES),
                "expire_after": STATUS_EXPIRES_S,
                "entity_category": "diagnostic",
            },
            "pause": self._button("Pause", "pause", "mdi:pause"),
            "resume": self._button("Resume", "resume", "mdi:play"),
            "recenter": self._button("Recenter", "recenter", "mdi:target"),
        }

    def _value(self, name: str, field: str, icon: str) -> dict[str, Any]:
        return {
            "platform": "sensor",
            "name": name,
            "state_topic": self._ours("state"),
            "value_template": f"{{{{ value_json.{field} }}}}",
            "state_class": "measurement",
            "suggested_display_precision": 2,
            "expire_after": STATE_EXPIRES_S,
            "icon": icon,
        }

    def _present(self, name: str, field: str, icon: str) -> dict[str, Any]:
        return {
            "platform": "binary_sensor",
            "name": name,
            "state_topic": self._ours("state"),
            "value_template": f"{{{{ 'ON' if value_json.present.{field} else 'OFF' }}}}",
            "expire_after": STATE_EXPIRES_S,
            "icon": icon,
        }

    def _health(self, name: str, field: str, *, unit: str, **more: str) -> dict[str, Any]:
        return {
            "platform": "sensor",
            "name": name,
            "state_topic": self._ours("status"),
            "value_template": f"{{{{ value_json.{field} }}}}",
            "unit_of_measurement": unit,
            "state_class": "measurement",
            "suggested_display_precision": 0,
            "expire_after": STATUS_EXPIRES_S,
            "entity_category": "diagnostic",
            **more,
        }

    def _button(self, name: str, command: str, icon: str) -> dict[str, Any]:
        return {
            "platform": "button",
            "name": name,
            "command_topic": self._ours(f"set/{command}"),
            "qos": 1,
            "icon": icon,
        }

    def _ours(self, topic: str) -> str:
        return f"{PREFIX}/{self.publisher_id}/{topic}"


async def forget(broker: BrokerAddress, device: HomeAssistant) -> bool:
    """Takes the device out of Home Assistant: the retained announcement away. Whether there was one.

    A publisher that runs with `--home-assistant` announces itself again. Raises UserError where the broker cannot be
    reached, or refuses.
    """
    client = await connect_first(broker)
    try:
        await client.subscribe(device.topic, qos=1)
        found = await _first_retained(client)
        if found:
            await client.publish(device.topic, b"", qos=1, retain=True)
    except (aiomqtt.MqttError, RefusedError) as error:
        raise UserError(
            f"the broker at {broker.endpoint} refuses {device.topic} ({error}): allow this user to publish there"
        ) from None
    finally:
        await disconnect(client)
    return found


async def _first_retained(client: aiomqtt.Client) -> bool:
    try:
        async with asyncio.timeout(RETAINED_WITHIN_S):
            async for message in client.messages:
                if message.retain and message.payload:
                    return True
    except TimeoutError:
        pass
    return False
