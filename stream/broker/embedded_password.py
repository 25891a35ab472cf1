"""The embedded broker's door: who knows the user and the password may come in. Loaded by amqtt, by its name."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from typing import Any

from amqtt.plugins.base import BaseAuthPlugin


class PasswordPlugin(BaseAuthPlugin):  # type: ignore[misc]  # amqtt has no types
    """Lets in those who give the one user and password that it was told."""

    async def authenticate(self, *, session: Any) -> bool:
        """Whether a client that connects is one of them."""
        given = (session.username or "", session.password or "")
        known = (self.config.user, self.config.password)
        right = [hmac.compare_digest(a.encode(), b.encode()) for a, b in zip(given, known, strict=True)]
        return all(right)

    @dataclass
    class Config:
        """The user and the password."""

        user: str = ""
        password: str = field(default="", repr=False)
