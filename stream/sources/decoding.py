"""Packets to pictures and sound; one that is damaged is passed over, since the next may be sound again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import av

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


def decode_packet(decode: Callable[[], Iterable[Any]]) -> Sequence[Any] | None:
    """What `decode` (a packet's, or a codec's) gives: frames, none of them where it holds them back or has ended.

    None where the packet is damaged, for the caller to count.
    """
    try:
        return tuple(decode())
    except EOFError:
        return ()
    except av.FFmpegError:
        return None
