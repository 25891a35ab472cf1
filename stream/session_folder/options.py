"""What `--session` and its companions may be asked for, checked before anything is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from models.errors import UserError
from stream.extras import require_extra

if TYPE_CHECKING:
    from pathlib import Path

MOST_PARTICIPANT_CHARACTERS: Final = 100
MOST_NOTES_CHARACTERS: Final = 10_000


def check_session(
    folder: Path | None, participant: str | None, notes: str | None, *, keep_media: bool
) -> None:
    """Raises UserError where a session cannot be what is asked for: no earlier one is ever overwritten."""
    if folder is None:
        for given, option in (
            (participant, "--participant"),
            (notes, "--notes"),
            (keep_media, "--keep-media"),
        ):
            if given:
                raise UserError(f"{option} is kept in a session's folder: give --session DIR too")
        return
    require_extra("session", "pyarrow", "--session")
    check_free(folder)
    if participant is not None and not (
        participant.isprintable() and 0 < len(participant.strip()) <= MOST_PARTICIPANT_CHARACTERS
    ):
        raise UserError(
            f"--participant is one line of 1 to {MOST_PARTICIPANT_CHARACTERS} printable characters, such as P07"
        )
    if notes is not None and len(notes) > MOST_NOTES_CHARACTERS:
        raise UserError(
            f"--notes has at most {MOST_NOTES_CHARACTERS} characters, not {len(notes)}: keep them in a file"
        )


def check_free(folder: Path) -> None:
    """Raises UserError where the folder holds anything already, or is none."""
    if folder.is_dir():
        try:
            taken = any(folder.iterdir())
        except OSError as error:
            raise UserError(f"{folder} cannot be read ({error.strerror}): give another folder") from None
    else:
        taken = folder.exists()
    if taken:
        raise UserError(f"{folder} exists already, and no session is overwritten: give a new folder")
