"""The one exception a user can cause."""

from __future__ import annotations


class UserError(Exception):
    """Something the user gave is wrong: one line that names the thing and the way out, exit status 2."""
