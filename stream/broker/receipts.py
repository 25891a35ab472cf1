"""Acknowledging what was received, once it is dealt with, so that a broker that dies takes nothing along.

paho acknowledges a message as it hands it over, and gives a connection up at the first write that fails, with
whatever has arrived on it and was not read yet. A broker that is killed has counted that as delivered. So a
connection that asks the broker to keep messages writes nothing while there is something to read.
"""

from __future__ import annotations

import selectors
import socket
import ssl
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import aiomqtt

MOST_PUT_OFF: Final = 1000
"""So many times in a row a write is put off: whoever sends without end must not keep us from saying that we live."""


def acknowledge_late(client: aiomqtt.Client) -> None:
    """From now on messages of this connection are acknowledged by `acknowledge` alone; before it is opened."""
    client._client.manual_ack_set(True)  # aiomqtt has no way to this, paho has


def acknowledge(client: aiomqtt.Client, message: aiomqtt.Message) -> None:
    """This message has been dealt with; where paho has said so itself, does nothing."""
    if message.qos:
        client._client.ack(message.mid, message.qos)


class ReadsFirst:
    """Says of one connection whether a write is to be put off, because something on it is to be read first."""

    def __init__(self) -> None:
        self._put_off = 0

    def puts_off(self, connection: object) -> bool:
        """Whether to write later: asked again while the socket can be written to."""
        if self._put_off < MOST_PUT_OFF and _something_to_read(connection):
            self._put_off += 1
            return True
        self._put_off = 0
        return False


def _something_to_read(connection: object) -> bool:
    if not isinstance(connection, socket.socket) or connection.fileno() < 0:
        return False
    if isinstance(connection, ssl.SSLSocket) and connection.pending():
        return True
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        return bool(selector.select(timeout=0))
