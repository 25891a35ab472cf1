"""What every command line of the project shares: how it reports errors, and with which status it ends."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import typer

from models.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

USER_ERROR: Final = 2
INTERRUPTED: Final = 130
BROKEN_PIPE: Final = 141


class Say(Protocol):
    """How one line gets to whoever started a command."""

    def __call__(self, message: str, *, is_error: bool) -> None:
        """Says one line; `is_error`: why the command ends."""
        ...


def _say_plainly(message: str, *, is_error: bool) -> None:
    print(f"{program_name()}: {message}", file=sys.stderr, flush=True)


_say: Say = _say_plainly


def say_through(say: Say | None) -> None:
    """From now on commands of this process say their lines by `say`, and show no spinners; None: as at first."""
    global _say
    _say = say or _say_plainly


def make_app(help_text: str) -> typer.Typer:
    """A typer application whose errors `run` reports: no tracebacks of typer's own."""
    return typer.Typer(help=help_text, pretty_exceptions_enable=False, rich_markup_mode="rich")


def run(app: typer.Typer) -> None:
    """Run a command line to its end, as a console script does.

    What a user can get wrong (`UserError`, a bad option, a file that the system refuses) becomes one line on stderr
    and exit status 2; Ctrl-C ends with 130, a reader that went away (`... | head`) with 141; none shows a traceback.
    A command ends with another status by raising `typer.Exit`. Returns after success.
    """
    try:
        status = app(standalone_mode=False)
        sys.stdout.flush()
    except UserError as e:
        status = _fail(str(e))
    except (KeyboardInterrupt, typer.Abort):
        status = INTERRUPTED
    except BrokenPipeError:
        status = BROKEN_PIPE
    except OSError as e:
        status = _unusable(e)
    except Exception as e:
        status = _usage_error(e)
    except SystemExit as e:
        # What typer itself does about a reader that went away.
        status = BROKEN_PIPE if isinstance(e.__context__, BrokenPipeError) else e.code
    finally:
        say_through(None)
    if status == BROKEN_PIPE:
        # The interpreter flushes once more on its way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if status:
        sys.exit(status)


def tell(message: str) -> None:
    """One line on stderr: what a command is about to do that takes long."""
    _say(" ".join(message.split()), is_error=False)


@contextmanager
def waiting(first: str, *, tell_first: bool = True) -> Iterator[Callable[[str], None]]:
    """On stderr, what is waited for and for how long already, on a terminal; elsewhere a line for each new wait.

    `first` is waited for until the function that the block gets is told of the next; off a terminal it is left out
    unless `tell_first`.
    """
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if not console.is_terminal or _say is not _say_plainly:
        if tell_first:
            tell(first)
        yield tell
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(first, total=None)

        def show(message: str) -> None:
            bar.reset(task, description=" ".join(message.split()), total=None)

        yield show


def _unusable(error: OSError) -> int:
    """Report a file or folder that the system refuses; anything else is a fault of the program and is raised on."""
    if error.filename is None:
        raise error
    way_out = "see that it may be used, or give another one"
    return _fail(f"{os.fsdecode(error.filename)} cannot be used ({error.strerror}): {way_out}")


def _usage_error(error: Exception) -> int:
    """Report a bad option or argument; anything else is a fault of the program and is raised on."""
    message = getattr(error, "format_message", None)
    if message is None or not hasattr(error, "exit_code"):
        raise error
    return _fail(f"{message()} (see {program_name()} --help)")


def _fail(message: str) -> int:
    _say(" ".join(message.split()), is_error=True)
    return USER_ERROR


def program_name() -> str:
    """What the command that runs is called."""
    return Path(sys.argv[0]).stem
