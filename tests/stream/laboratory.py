"""LSL for tests: the real liblsl, on loopback only, and out of the way of other runs on the machine.

Once in a process, in the conftest of all that use it: liblsl reads its settings when it is first asked for anything.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFIGURATION = """
[multicast]
ResolveScope = machine
ListenAddress = 127.0.0.1
[ports]
IPv6 = disable
PortRange = 256
[lab]
KnownPeers = {{127.0.0.1}}
SessionID = {session}
[log]
level = -3
"""


@pytest.fixture(scope="session")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Settings that this process and those it starts find: nothing leaves the machine, nobody else is seen."""
    file = tmp_path_factory.mktemp("lsl") / "lsl_api.cfg"
    file.write_text(CONFIGURATION.format(session=secrets.token_hex(8)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LSLAPICFG", str(file))
        yield


@pytest.fixture
def pylsl(laboratory: None) -> Any:
    """The module, with the real liblsl behind it."""
    from stream.lsl.library import load_pylsl

    return load_pylsl()
