"""How this software reaches a broker: its address, and one connection, in MQTT 5 where the broker has that.

paho-mqtt's sockets are watched by the event loop's `add_reader`, which Windows' default (proactor) loop lacks:
start programs with `run`, which chooses a loop that can.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar
from urllib.parse import unquote, urlsplit

import aiomqtt

from models.errors import SetupError, UserError
from stream.broker.client import Client, UnansweredError
from stream.broker.mqtt5 import VERSION_REFUSED, session_kept
from stream.broker.receipts import ReadsFirst, acknowledge_late
from stream.broker.tls import ClientCertificate, tls_context
from stream.flow.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Awaitable, Coroutine
    from pathlib import Path
    from ssl import SSLContext

T = TypeVar("T")

CALL_TIMEOUT_S: Final = 5.0
VERSION_TIMEOUT_S: Final = 2.0
"""How long a broker may take to answer in MQTT 5: some that do not know it never do."""

PROMPT_S: Final = 1.0
"""A broker that answers in 3.1.1 sooner than this, and did not in MQTT 5, was silent because of the version."""

KEEPALIVE_S: Final = 15
ABANDON_LOOKS: Final = 200
ABANDON_LOOK_EVERY_S: Final = 0.005

BROKER_BACKOFF: Final = Backoff(first_s=0.5, most_s=30.0)
"""The waits between attempts to reach a broker that went away."""

_DEFAULT_PORTS: Final = {"mqtt": 1883, "mqtts": 8883}
CREDENTIALS_REFUSED: Final = (134, 135)
"""MQTT's reason codes `Bad user name or password` and `Not authorized`."""

_EXAMPLE: Final = "give one such as mqtt://127.0.0.1:1883 or mqtts://user:password@host"


@dataclass(frozen=True)
class BrokerAddress:
    """Where a broker is: host, port, credentials, TLS, the authority that signed its certificate, and ours.

    `mqtt5` False says that it is known to have MQTT 3.1.1 only.
    """

    host: str
    port: int
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    ca_file: Path | None = None
    client_certificate: ClientCertificate | None = None
    mqtt5: bool = True

    @classmethod
    def parse(
        cls, url: str, *, ca_file: Path | None = None, client_certificate: ClientCertificate | None = None
    ) -> Self:
        """Read `mqtt://[user[:password]@]host[:port]`, or `mqtts://` for TLS.

        Ports default to 1883 and 8883. `ca_file` (PEM) is for brokers whose certificate no authority known to
        this machine signed, `client_certificate` for those that ask who we are. Raises UserError for anything else.
        """
        shown = without_password(url)
        try:
            parts = urlsplit(url.strip())
            port = parts.port
        except ValueError as error:
            raise UserError(f"'{shown}' is not a broker address ({error}): {_EXAMPLE}") from None
        if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or port == 0:
            raise UserError(f"'{shown}' is not a broker address: {_EXAMPLE}")
        if parts.path.strip("/") or parts.query or parts.fragment:
            raise UserError(f"'{shown}' has something after the host and port: {_EXAMPLE}")
        if ca_file is not None and parts.scheme != "mqtts":
            raise UserError(f"a certificate authority needs TLS: write mqtts://{parts.hostname}")
        if client_certificate is not None and parts.scheme != "mqtts":
            raise UserError(f"a client certificate needs TLS: write mqtts://{parts.hostname}")
        if parts.password is not None and not parts.username:
            raise UserError(f"'{shown}' has a password without a user: {_EXAMPLE}")
        return cls(
            host=parts.hostname,
            port=port or _DEFAULT_PORTS[parts.scheme],
            username=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password is not None else None,
            tls=parts.scheme == "mqtts",
            ca_file=ca_file,
            client_certificate=client_certificate,
        )

    @property
    def endpoint(self) -> str:
        """`host:port`, with brackets around an IPv6 address."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        """The address as a URL, without the password."""
        user = f"{self.username}@" if self.username else ""
        return f"{'mqtts' if self.tls else 'mqtt'}://{user}{self.endpoint}"

    def tls_context(self) -> SSLContext | None:
        """What verifies the broker's certificate and name, and shows ours; None without TLS. Raises UserError."""
        return tls_context(self.ca_file, self.client_certificate) if self.tls else None


def without_password(url: str) -> str:
    """A broker's address as it may be told; what is no address is left as it is."""
    credentials, at, rest = url.rpartition("@")
    scheme, slashes, user = credentials.rpartition("://")
    return f"{scheme}{slashes}{user.partition(':')[0]}@{rest}" if at else url


async def connect(
    address: BrokerAddress,
    *,
    identifier: str | None = None,
    will: aiomqtt.Will | None = None,
    keep_s: int | None = None,
    **options: Any,
) -> aiomqtt.Client:
    """A connected client, which `disconnect` or `abandon` ends.

    It speaks MQTT 5, or 3.1.1 where the broker refuses that, does not answer to it, or is known to have no other.
    With `keep_s` the broker keeps subscriptions, and messages of QoS 1 and 2 that come for them, for so many seconds
    after this connection (in 3.1.1: for as long as it likes), for the next of the same `identifier`; messages are
    then acknowledged by `stream.broker.receipts.acknowledge` alone.

    `options` go to `aiomqtt.Client`. Raises aiomqtt.MqttError where the broker cannot be reached or refuses,
    UserError where the address cannot work at all. Cancelling waits for the socket that is being opened, at most some
    five seconds.
    """
    settings = {"identifier": identifier, "will": will, **options}
    if not address.mqtt5:
        return await _connect_in(aiomqtt.ProtocolVersion.V311, address, keep_s, settings)
    try:
        return await _connect_in(aiomqtt.ProtocolVersion.V5, address, keep_s, settings)
    except aiomqtt.MqttError as error:
        refused = isinstance(error, aiomqtt.MqttCodeError) and error.rc == VERSION_REFUSED
        unanswered = error if isinstance(error, UnansweredError) else None
        if not refused and unanswered is None:
            raise
    clock = asyncio.get_running_loop().time
    began_s = clock()
    client = await _connect_in(aiomqtt.ProtocolVersion.V311, address, keep_s, settings)
    was_silent = unanswered is not None and not unanswered.closed
    client.has_no_mqtt5 = refused or (was_silent and clock() - began_s < PROMPT_S)
    return client


def next_address(address: BrokerAddress, client: aiomqtt.Client) -> BrokerAddress:
    """The address for the next connection, which knows what this one (made with `connect`) was told.

    A broker is known not to have MQTT 5 where it refused that, or was silent and then had a prompt answer in 3.1.1.
    One that closed the connection may have been about to die, and one that is slow in both is only slow.
    """
    return replace(address, mqtt5=False) if isinstance(client, Client) and client.has_no_mqtt5 else address


async def _connect_in(
    version: aiomqtt.ProtocolVersion, address: BrokerAddress, keep_s: int | None, settings: dict[str, Any]
) -> Client:
    waits_s = CALL_TIMEOUT_S if version == aiomqtt.ProtocolVersion.V311 else VERSION_TIMEOUT_S
    client = Client(
        address.host,
        address.port,
        username=address.username,
        password=address.password,
        tls_context=address.tls_context(),
        keepalive=KEEPALIVE_S,
        timeout=min(waits_s, CALL_TIMEOUT_S),
        protocol=version,
        **({} if keep_s is None else _kept_session(version, keep_s)),
        **settings,
    )
    if keep_s is not None:
        client.reads_first = ReadsFirst()
        acknowledge_late(client)
    entering = asyncio.ensure_future(client.enter())
    try:
        await asyncio.shield(entering)
    except asyncio.CancelledError:
        # The socket is being opened in a thread that nothing can interrupt; it must not outlive the loop.
        with suppress(aiomqtt.MqttError, ValueError):
            await entering
            await disconnect(client)
        raise
    except ValueError as error:  # paho's answer to host names it cannot encode
        raise aiomqtt.MqttError(str(error)) from None
    except aiomqtt.MqttError:
        _shut_down(client)
        raise
    client.timeout = CALL_TIMEOUT_S
    return client


def _kept_session(version: aiomqtt.ProtocolVersion, keep_s: int) -> dict[str, Any]:
    if version != aiomqtt.ProtocolVersion.V5:
        return {"clean_session": False}
    return {"clean_start": False, "properties": session_kept(keep_s)}


async def connect_first(address: BrokerAddress, **options: Any) -> aiomqtt.Client:
    """`connect`, for the attempt whose failure ends the program. Raises UserError with the way out."""
    try:
        return await connect(address, **options)
    except aiomqtt.MqttError as error:
        raise SetupError(
            f"cannot connect to the broker at {address.endpoint} ({error})", way_out=_way_out(error, address)
        ) from None


def _way_out(error: aiomqtt.MqttError, address: BrokerAddress) -> str:
    # aiomqtt makes its own error while it handles the socket's, which stays the context.
    if isinstance(error.__context__, ssl.SSLCertVerificationError):
        return "check the host name, or name the authority's PEM file with --ca-file"
    if isinstance(error, aiomqtt.MqttCodeError) and error.rc in CREDENTIALS_REFUSED:
        return (
            "put the right user and password in the address, as in mqtt://user:password@host, or into "
            "AFFECT_BROKER_USER and AFFECT_BROKER_PASSWORD"
        )
    if address.tls and address.client_certificate is None:
        return "see that it runs, and speaks TLS there; where it asks for a client certificate, give --client-cert"
    return "start one there (such as mosquitto), or use --broker embedded"


async def heeding_cancellation(call: Awaitable[T]) -> T:
    """Await one of aiomqtt's calls without losing a cancellation that comes together with its result.

    aiomqtt waits with `asyncio.wait_for`, which up to Python 3.11 swallows such a cancellation: the task that
    was to end would go on for ever.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task else 0
    result = await call
    if task and task.cancelling() > before:
        raise asyncio.CancelledError
    return result


async def until_lost(*uses: Coroutine[Any, Any, None]) -> aiomqtt.MqttError:
    """Run what uses one connection, each in a task, until it is lost: one of them raised this MqttError.

    All have ended when this returns. Raises anything else that one of them raised. Not a task group: one that
    fails while it waits leaves its parent marked as cancelled (Python 3.11), and here failing is usual.
    """
    tasks = [asyncio.ensure_future(use) for use in uses]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    errors = [error for task in done if (error := task.exception()) is not None]
    for error in errors:
        if not isinstance(error, aiomqtt.MqttError):
            raise error
    lost = errors[0] if errors else aiomqtt.MqttError("nothing uses the connection any more")
    assert isinstance(lost, aiomqtt.MqttError)
    return lost


async def disconnect(client: aiomqtt.Client) -> None:
    """Say goodbye, so that the broker does not publish the last will; never raises for a lost connection."""
    try:
        await client.__aexit__(None, None, None)
    except aiomqtt.MqttError:
        await abandon(client)


async def abandon(client: aiomqtt.Client) -> None:
    """Tear down a connection that failed, so that nothing of it lives on in the event loop."""
    _shut_down(client)
    for _ in range(ABANDON_LOOKS):
        if client._client.socket() is None:
            break
        await asyncio.sleep(ABANDON_LOOK_EVERY_S)  # paho closes it when the event loop finds it at its end
    lost = client._disconnected
    if lost.done() and not lost.cancelled():
        lost.exception()  # it is known: nobody has to print it


def _shut_down(client: aiomqtt.Client) -> None:
    # aiomqtt has no public way to close a socket whose other end is silent.
    open_socket = client._client.socket()
    if isinstance(open_socket, socket.socket):
        with suppress(OSError):
            open_socket.shutdown(socket.SHUT_RDWR)


def run(main: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run` on a loop that can watch the MQTT socket: on Windows that is the selector loop."""
    factory = asyncio.SelectorEventLoop if sys.platform == "win32" else None
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)
