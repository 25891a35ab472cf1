"""What the offline tests share."""

from __future__ import annotations

from hypothesis import settings

# The machine is shared: an example's time says nothing about the code.
settings.register_profile("offline", deadline=None)
settings.load_profile("offline")
