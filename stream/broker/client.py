"""One connection to a broker: aiomqtt's client, with what it leaves out."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import aiomqtt

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stream.broker.receipts import ReadsFirst

T = TypeVar("T")

# aiomqtt and paho report what we handle and count ourselves.
_log = logging.getLogger("stream.broker.client")
_log.setLevel(logging.CRITICAL)


class RefusedError(Exception):
    """The broker is there, and does not take this message."""


class UnansweredError(aiomqtt.MqttError):
    """What listens there took the connection, and has not answered to it; perhaps it closed it."""

    def __init__(self, message: str, *, closed: bool) -> None:
        super().__init__(message)
        self.closed = closed


class Client(aiomqtt.Client):
    """aiomqtt's, with what it leaves out.

    A broker that dies while it is connected to is told of at once. Messages that it refuses (MQTT 5; in 3.1.1 it
    takes and forgets them) raise RefusedError where they are published. A socket that was closed in the meantime is
    not watched any more: the event loop would print the error of trying to.
    """

    reached = False
    """Whether something took the connection."""

    has_no_mqtt5 = False
    """Whether the broker is known to have MQTT 3.1.1 only."""

    reads_first: ReadsFirst | None = None
    """Puts off writing until what came has been read, where that matters."""

    def __init__(self, *where: Any, **options: Any) -> None:
        super().__init__(*where, logger=_log, **options)
        self._is_connecting = False
        self._refusals: dict[int, str] = {}

    async def enter(self) -> None:
        """Connect. Raises as `stream.broker.connection.connect` does."""
        lost = self._disconnected
        self._is_connecting = True
        try:
            await self.__aenter__()
        except aiomqtt.MqttError as error:
            if self.reached and isinstance(error.__context__, TimeoutError):
                raise UnansweredError("it does not answer", closed=False) from None
            raise
        finally:
            self._is_connecting = False
        if lost.done():
            # aiomqtt forgets that, and would wait for ever for what comes on a connection that is gone.
            raise aiomqtt.MqttError("it closed the connection at once") from lost.exception()

    def _on_socket_open(self, client: Any, userdata: Any, sock: Any) -> None:
        self.reached = True
        super()._on_socket_open(client, userdata, sock)

    def _on_disconnect(self, client: Any, userdata: Any, *more: Any) -> None:
        if self._is_connecting and not self._connected.done():
            unanswered = UnansweredError("it closed the connection without an answer", closed=True)
            self._connected.set_exception(unanswered)
        super()._on_disconnect(client, userdata, *more)

    def _on_publish(self, client: Any, userdata: Any, mid: int, reason: Any, properties: Any) -> None:
        if reason.is_failure and mid in self._pending_publishes:
            self._refusals[mid] = str(reason)
        super()._on_publish(client, userdata, mid, reason, properties)

    @contextmanager
    def _pending_call(self, mid: int, value: T, pending_dict: dict[int, T]) -> Iterator[None]:
        try:
            with super()._pending_call(mid, value, pending_dict):
                yield
            if (reason := self._refusals.get(mid)) is not None:
                raise RefusedError(reason)
        finally:
            self._refusals.pop(mid, None)

    def _on_socket_register_write(self, client: Any, userdata: Any, sock: Any) -> None:
        def write() -> None:
            if self.reads_first is not None and self.reads_first.puts_off(sock):
                return  # asked again at once, for as long as the socket can be written to
            try:
                client.loop_write()
            except Exception as error:
                if not self._disconnected.done():
                    self._disconnected.set_exception(error)

        def watch() -> None:
            if sock.fileno() >= 0:
                self._loop.add_writer(sock.fileno(), write)

        self._loop.call_soon_threadsafe(watch)
