"""The embedded broker, for a machine that has none: MQTT 3.1.1, in this process, beyond this machine by password."""

from __future__ import annotations

import asyncio
import logging
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Self

from models.errors import SetupError, UserError
from stream.broker.connection import BrokerAddress
from stream.broker.credentials import LOOPBACK, PASSWORD_VARIABLE, USER_VARIABLE, EmbeddedAddress

if TYPE_CHECKING:
    import socket
    from types import TracebackType

PREFERRED_PORT: Final = 1883
CANCEL_AGAIN_AFTER_S: Final = 0.5
CUT_AFTER_S: Final = 2.0
"""How long the end waits for clients to take what is still on its way to them."""

GIVE_UP_AFTER_S: Final = 5.0

_REACHED_AT: Final = {"0.0.0.0": LOOPBACK, "::": "::1"}  # noqa: S104  (where everybody's addresses are listened at)


class EmbeddedBroker:
    """An amqtt broker for as long as the context lasts.

    `port` None takes 1883 where it is free and any free port otherwise (beyond this machine, where others must find
    it, 1883 or none); 0 any free port; another number that port or none (UserError). With `user` and `password` it
    lets in those who give them, without everybody, which a `host` beyond this machine's loopback does not allow
    (UserError). What is sent to it is not encrypted. Messages are not stored: they end with the process.

        async with EmbeddedBroker() as broker:
            sink = MqttSink(broker.address)
    """

    def __init__(
        self,
        port: int | None = None,
        *,
        host: str = LOOPBACK,
        user: str | None = None,
        password: str | None = None,
    ) -> None:
        wanted = EmbeddedAddress(host, port, user, password)
        if not wanted.is_for_this_machine:
            if user is None or not password:
                raise UserError(
                    f"the embedded broker listens at {host}, beyond this machine, only with a password: put a user "
                    f"and a password into {USER_VARIABLE} and {PASSWORD_VARIABLE}"
                )
            wanted = replace(wanted, port=PREFERRED_PORT if port is None else port)
        self._wanted = wanted
        self._broker: Any = None
        self._address: BrokerAddress | None = None

    @classmethod
    def at(cls, address: EmbeddedAddress) -> Self:
        """A broker at an address that `stream.broker.credentials.find_embedded` read. Raises UserError."""
        return cls(address.port, host=address.host, user=address.user, password=address.password)

    @property
    def address(self) -> BrokerAddress:
        """Where this machine reaches it, with user and password; known once the context is entered."""
        if self._address is None:
            raise RuntimeError("the embedded broker has not been started")
        return self._address

    async def __aenter__(self) -> Self:
        """Start listening. Raises UserError where the port is taken or not allowed."""
        port = self._wanted.port
        if port is None:
            try:
                await self._start(PREFERRED_PORT)
            except UserError:
                await self._start(0)
        else:
            await self._start(port)
        return self

    async def _start(self, port: int) -> None:
        try:
            from amqtt.broker import Broker
            from amqtt.contexts import BrokerConfig, ListenerConfig
            from amqtt.errors import BrokerError
        except ImportError as error:
            raise UserError(
                f"the package amqtt, the embedded broker, cannot be loaded ({error}): "
                "pip install amqtt, or name a broker: --broker mqtt://127.0.0.1:1883"
            ) from error

        for name in ("amqtt", "transitions"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        host = self._wanted.host
        bind = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        broker = Broker(
            BrokerConfig(
                listeners={"default": ListenerConfig(bind=bind)},
                plugins=self._doorkeeper(),
            )
        )
        try:
            await broker.start()
        except BrokerError as error:
            cause = error.__cause__
            numbered = isinstance(cause, OSError) and cause.errno and cause.errno > 0
            reason = os.strerror(cause.errno) if numbered else str(cause or error)
            raise SetupError(
                f"cannot start the embedded broker on {bind} ({reason}): "
                "give another port, or use the broker that is there"
            ) from None
        self._broker = broker
        self._address = BrokerAddress(
            _REACHED_AT.get(host, host),
            _listening_port(broker),
            self._wanted.user,
            self._wanted.password,
            mqtt5=False,
        )

    def _doorkeeper(self) -> dict[str, dict[str, Any]]:
        """The plugin of amqtt that decides who may connect."""
        if self._wanted.user is None:
            return {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
        known = {"user": self._wanted.user, "password": self._wanted.password or ""}
        return {"stream.broker.embedded_password.PasswordPlugin": known}

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Disconnect everybody and stop listening."""
        broker, self._broker = self._broker, None
        if broker is not None:
            await _shut_down(broker)


async def _shut_down(broker: Any) -> None:
    """Stop listening, and have amqtt disconnect everybody: whatever clients send, and though they read nothing.

    amqtt cancels the task that reads a connection once and waits until it ends. Before Python 3.12
    `asyncio.wait_for`, in which that task waits, may lose a cancellation: then it is cancelled again. What has not
    ended after `GIVE_UP_AFTER_S` is left to the end of the event loop.
    """
    # First of all: a client that is sent away comes back at once, and nobody would send it away again.
    for server in broker._servers.values():
        server.instance.close()
    handlers = [handler for _, handler in broker._sessions.values()]
    clock = asyncio.get_running_loop().time
    began_s = clock()
    shutdown = asyncio.ensure_future(broker.shutdown())
    try:
        while not (await asyncio.wait({shutdown}, timeout=CANCEL_AGAIN_AFTER_S))[0]:
            waited_s = clock() - began_s
            if waited_s >= GIVE_UP_AFTER_S:
                return
            for handler in handlers:
                reader = handler._reader_task
                if reader is not None and reader.cancelling():
                    reader.cancel()
                if waited_s >= CUT_AFTER_S and handler.writer is not None:
                    handler.writer._writer.transport.abort()
        await shutdown
    finally:
        shutdown.cancel()


def _listening_port(broker: Any) -> int:
    # amqtt keeps the port that the system chose to itself.
    listening: socket.socket = broker._servers["default"].instance.sockets[0]
    port: int = listening.getsockname()[1]
    return port
