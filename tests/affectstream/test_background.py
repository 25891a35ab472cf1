"""Runs end whoever lets go of them: in any thread, from a sink, with the interpreter."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import affectstream
from affectstream.background import BackgroundRun
from affectstream.options import plan_run
from tests.affectstream.conftest import running, wait_until_closed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from affectstream.sessions import Session
    from stream.messages import Estimate

LAVFI = "lavfi:testsrc2=s=64x48:r=30"


class Calling:
    """A sink that calls something in its thread, once it has been told what."""

    def __init__(self) -> None:
        self.call: Callable[[], object] | None = None
        self.called = threading.Event()

    def take(self, estimate: Estimate) -> None:
        if self.call is not None and not self.called.is_set():
            self.call()
            self.called.set()

    def close(self) -> None:
        pass


class Held(Calling):
    """A sink that takes nothing before it has leave to."""

    def __init__(self) -> None:
        super().__init__()
        self.leave = threading.Event()

    def take(self, estimate: Estimate) -> None:
        self.called.set()
        self.leave.wait()


def push(session: Session) -> None:
    """A second's pictures, so that a live session has some to estimate."""
    for n in range(30):
        session.push_frame(np.full((48, 64, 3), n, np.uint8), n / 30)


@pytest.fixture
def without_collection() -> Iterator[None]:
    """No garbage is collected but where a test says so."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("without_collection")
@pytest.mark.parametrize("kind", ["session", "stream"])
def test_one_that_is_collected_in_a_thread_that_it_waits_for_ends(kind: str, quick: dict[str, Any]) -> None:
    """The garbage collector runs in any thread: here in that of a sink, without which the run cannot end."""

    class Holder:
        def __init__(self, held: object) -> None:
            self.held, self.me = held, self

    sink = Calling()
    if kind == "session":
        session = affectstream.open_session(sound=False, sinks=[sink], **quick)
        push(session)
        holder = Holder(session)
        del session
    else:
        loop = iter(affectstream.stream(LAVFI, sinks=[sink], **quick))
        next(loop)
        holder = Holder(loop)
        del loop
    del holder
    assert running()
    sink.call = gc.collect
    assert sink.called.wait(30)
    wait_until_closed()


def test_a_sink_may_close_its_own_session(quick: dict[str, Any]) -> None:
    sink = Calling()
    session = affectstream.open_session(sound=False, sinks=[sink], **quick)
    sink.call = session.close
    push(session)
    assert sink.called.wait(30)
    wait_until_closed()
    session.close()


def test_only_the_thread_that_started_it_waits_where_it_is_let_go(quick: dict[str, Any]) -> None:
    """Not a later thread either that was given the number of the one that started it."""
    sink = Held()
    opened: list[BackgroundRun] = []

    def start() -> None:
        opened.append(BackgroundRun(plan_run(LAVFI, "fast", {**quick, "sinks": [sink]})))
        opened[0].start()

    starting = threading.Thread(target=start)
    starting.start()
    starting.join()
    assert sink.called.wait(30)
    letting_go = [threading.Thread(target=opened[0].let_go) for _ in range(3)]
    for thread in letting_go:
        thread.start()
        thread.join(5)
    assert not any(thread.is_alive() for thread in letting_go)
    assert running()
    sink.leave.set()
    opened[0].close()
    assert running() == []


def test_it_is_let_go_by_a_thread_that_is_just_stopping_it(quick: dict[str, Any]) -> None:
    run = BackgroundRun(plan_run(LAVFI, "fast", quick))

    def stop() -> None:
        with run._lock:
            run.let_go()

    stopping = threading.Thread(target=stop, daemon=True)
    stopping.start()
    stopping.join(5)
    assert not stopping.is_alive()


SINK = """
class Sink:
    def take(self, estimate):
        self.taken = estimate
    def close(self):
        print("closed", type(self.taken).__name__, flush=True)
"""

FORGOTTEN = f"""
import sys, time
import numpy as np
import affectstream
{SINK}
session = affectstream.open_session(
    sound=False, bundle="demo", recogniser="none", accelerator="eager", sinks=[Sink()], record=sys.argv[1]
)
while session.status is None or session.status.settled < 5:
    session.push_frame(np.zeros((48, 64, 3), np.uint8), time.monotonic())
    time.sleep(1 / 30)
"""

UNFINISHED = f"""
import threading
import affectstream

begun = threading.Event()

def loop():
    try:
        for _ in affectstream.stream({LAVFI!r}, bundle="demo", recogniser="none", accelerator="eager"):
            begun.set()
    except affectstream.AffectError as error:
        print(error, flush=True)

threading.Thread(target=loop).start()
begun.wait()
"""


def run_script(script: str, *arguments: str) -> str:
    """What a script writes that ends with nothing to complain of."""
    ran = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout


def test_sinks_end_with_the_interpreter_as_ever(tmp_path: Path) -> None:
    """Estimates that wait are taken and recorded, in threads, though the main thread has ended."""
    assert run_script(FORGOTTEN, str(tmp_path / "record.jsonl")) == "closed Estimate\n"
    lines = (tmp_path / "record.jsonl").read_bytes().splitlines(keepends=True)
    assert len(lines) >= 5
    assert all(line.endswith(b"}\n") for line in lines)


def test_a_thread_that_still_takes_when_the_main_thread_ends_is_told() -> None:
    """What it has by then is not the whole: an end without a word would pass for the recording's."""
    assert "have it join the threads" in run_script(UNFINISHED)
