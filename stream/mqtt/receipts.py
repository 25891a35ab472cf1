"""Acknowledging what was received, once it is dealt with, so that a broker that dies takes nothing along.

paho acknowledges a message as it hands it over, and gives a connection up at the first write that fails, with
whatever has arrived on it and was not read yet. A broker that is killed has counted that as delivered. So here
nothing is written while there is something to read.
"""

from __future__ import annotations

import selectors
import socket
import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import aiomqtt


def acknowledge_late(client: aiomqtt.Client) -> None:
    """From now on messages of this connection are acknowledged by `Receipts` alone; before it is opened."""
    client._client.manual_ack_set(True)  # aiomqtt has no way to this, paho has


class Receipts:
    """The acknowledgements that are owed on a connection made with `acknowledge_late`; on another it does nothing."""

    def __init__(self, client: aiomqtt.Client) -> None:
        self._client = client._client
        self._owed: list[tuple[int, int]] = []

    def owe(self, message: aiomqtt.Message) -> None:
        """This message has been dealt with."""
        if message.qos:
            self._owed.append((message.mid, message.qos))

    def send(self) -> None:
        """Acknowledge what is owed, unless there is something to read: then later."""
        if self._owed and not _something_to_read(self._client.socket()):
            self.send_all()

    def send_all(self) -> None:
        """Acknowledge what is owed."""
        for mid, qos in self._owed:
            self._client.ack(mid, qos)
        self._owed.clear()


def _something_to_read(connection: object) -> bool:
    if not isinstance(connection, socket.socket) or connection.fileno() < 0:
        return False
    if isinstance(connection, ssl.SSLSocket) and connection.pending():
        return True
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        return bool(selector.select(timeout=0))
