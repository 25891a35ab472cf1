"""The exceptions that are raised on purpose: one family, of which a user can cause two."""

from __future__ import annotations


class AffectError(Exception):
    """Everything that this software raises on purpose and that a caller may want to catch."""


class UserError(AffectError):
    """Something the user gave is wrong: one line that names the thing and the way out, exit status 2.

    `problem` names what is wrong. Where it is known apart from that, `way_out` says what to do about it, and the
    line is both: `problem: way_out`.
    """

    def __init__(self, problem: str, *, way_out: str = "") -> None:
        super().__init__(f"{problem}: {way_out}" if way_out else problem)
        self.problem = problem
        self.way_out = way_out


class SetupError(UserError):
    """What was asked for is sound, but something that it needs is not there or not well: a device, a broker, a part.

    `stream-doctor` tells more.
    """
