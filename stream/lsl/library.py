"""liblsl and its Python binding, loaded when they are needed, and what to do where they are not there."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from models.errors import UserError
from stream.extras import require_extra

if TYPE_CHECKING:
    from stream.options import Pace

LIBRARIES: Final = {
    "linux": "conda install -c conda-forge liblsl, or the .deb package of github.com/sccn/liblsl/releases",
    "darwin": "brew install labstreaminglayer/tap/lsl",
    "win32": "reinstall pylsl, whose wheel brings lsl.dll, and Microsoft's Visual C++ Redistributable",
}
"""Where each system gets liblsl, by `sys.platform`; most wheels of pylsl bring it along."""

CONFIGURATIONS: Final = ("lsl_api.cfg", "~/lsl_api/lsl_api.cfg", "/etc/lsl_api/lsl_api.cfg")
"""Where liblsl looks for its settings, where the variable LSLAPICFG names no file."""

QUIET: Final = "[log]\nlevel = -3\n"
"""liblsl's settings where the user has none: those built in, but that it says nothing on stderr. What a person has to
know is logged here.
"""


def check_lsl(*, lsl: bool, name: str | None, markers: bool, pace: Pace) -> None:
    """Looks, before anything takes long, whether the options can be had; loads liblsl where one asks for it.

    Raises UserError where they cannot.
    """
    if name is not None and not lsl:
        raise UserError("--lsl-name names what --lsl publishes: give both")
    if name is not None and not (name.strip() and name.isprintable()):
        raise UserError("a name for LSL is a line of printable text: give one with --lsl-name")
    if (lsl or markers) and pace == "fast":
        raise UserError(
            "LSL carries what is captured as it is captured, and --pace fast replays a recording faster than that: "
            "leave one of them out"
        )
    if lsl or markers:
        load_pylsl()


def load_pylsl() -> Any:
    """The module `pylsl` with liblsl behind it. Raises UserError, with what to install, where one is missing."""
    require_extra("lsl", "pylsl", "LSL")
    try:
        import pylsl
    except (RuntimeError, OSError) as error:
        reason = str(error).partition("\n")[0].strip()
        raise UserError(
            f"LSL needs the library liblsl, which cannot be loaded ({reason})", way_out=library_way_out()
        ) from None
    if not _has_own_settings():
        # liblsl before 1.17.7 takes no settings by this way.
        getattr(pylsl, "set_config_content", _ignore)(QUIET)
    return pylsl


def library_way_out(platform: str = sys.platform) -> str:
    """How a system gets liblsl."""
    found = LIBRARIES.get(platform, "build it as github.com/sccn/liblsl says")
    return f"{found}; where it is not found there, name its file in the variable PYLSL_LIB"


def _has_own_settings() -> bool:
    return "LSLAPICFG" in os.environ or any(Path(place).expanduser().is_file() for place in CONFIGURATIONS)


def _ignore(content: str) -> None:
    """Leaves liblsl as it is."""
