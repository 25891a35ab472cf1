"""Jobs over processes, none of which can bring the others down: what fails is told and the rest goes on."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import traceback
from collections import deque
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast

from models.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from multiprocessing.context import SpawnProcess

Tools = TypeVar("Tools")
Job = TypeVar("Job")
Event = TypeVar("Event")
Result = TypeVar("Result")

_STOPPING_S: Final = 10.0
"""How long a process may take to leave its job before it is killed."""


class WorkerDied(Exception):
    """The process died over this job: killed, out of memory, or crashed by what it read."""

    def __init__(self, exit_code: int | None) -> None:
        super().__init__("its process died: killed, out of memory, or crashed")
        self.exit_code = exit_code


class ToolsFailed(UserError):
    """A process cannot make its tools; another would not either."""


class Stopped(BaseException):
    """The job is to end before it is done."""


@dataclass(frozen=True)
class Finished(Generic[Job, Result]):
    """A job with its result, or with what it raised."""

    job: Job
    result: Result | None = None
    error: Exception | None = None


@dataclass(frozen=True)
class _Ended:
    """What a worker process sends when its job has ended; everything else that it sends is an event."""

    result: Any = None
    error: Exception | None = None


def no_tools() -> None:
    """For jobs that need none."""


def run_jobs(
    jobs: Sequence[Job],
    work: Callable[[Tools, Job, Callable[[Event], None]], Result],
    workers: int,
    *,
    make_tools: Callable[[], Tools],
    on_event: Callable[[Event], None] = lambda _: None,
    retry: bool = False,
) -> Generator[Finished[Job, Result], None, None]:
    """Run `work(tools, job, report)` for every job in up to `workers` processes; yields each job as it ends.

    Each process makes its tools once; a UserError of `make_tools` ends every job of that process with ToolsFailed.
    What a job reports is passed to `on_event`, here. A process that dies ends its own job alone, with WorkerDied;
    with `retry` that job first gets one more try, when no other is running. An error that is not a UserError carries
    the worker's traceback as a note. Closing the iterator, or an exception such as KeyboardInterrupt, stops the
    running jobs: Stopped is raised in them, so that they can clean up. Functions, jobs, events and results must be
    picklable.
    """
    waiting, again = deque(jobs), deque[Job]()
    idle: list[_Worker[Job]] = []
    busy: dict[Connection, _Worker[Job]] = {}
    try:
        while waiting or again or busy:
            while len(busy) < workers and (waiting or (again and not busy)):
                last_try = not waiting
                job = again.popleft() if last_try else waiting.popleft()
                worker = idle.pop() if idle else _Worker(work, make_tools)
                busy[worker.connection] = worker
                worker.begin(job, last_try=last_try or not retry)
            for ready in wait(list(busy)):
                connection = cast("Connection", ready)
                worker = busy[connection]
                try:
                    message = connection.recv()
                except (EOFError, OSError):
                    del busy[connection]
                    exit_code = worker.join()
                    if worker.last_try:
                        yield Finished(worker.job, error=WorkerDied(exit_code))
                    else:
                        again.append(worker.job)
                    continue
                if isinstance(message, _Ended):
                    idle.append(busy.pop(connection))
                    yield Finished(worker.job, message.result, message.error)
                else:
                    on_event(message)
    finally:
        everyone = [*idle, *busy.values()]
        for worker in everyone:
            worker.stop()
        for worker in everyone:
            worker.join()


class _Worker(Generic[Job]):
    """A worker process as its parent sees it."""

    job: Job
    last_try: bool

    def __init__(self, work: Callable[..., object], make_tools: Callable[[], object]) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process: SpawnProcess = context.Process(
            target=_serve, args=(theirs, work, make_tools), daemon=True
        )
        self._process.start()
        # With our copy closed, the process's end is an end of file here.
        theirs.close()

    def begin(self, job: Job, *, last_try: bool) -> None:
        """Give the process, which is idle, a job. One that died while idle shows when its answer is read."""
        self.job, self.last_try = job, last_try
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send(job)

    def stop(self) -> None:
        """Ask the process to leave its job and end."""
        self._process.terminate()

    def join(self) -> int | None:
        """Wait for the process's end, and give its exit code (negative: the signal that killed it)."""
        self.connection.close()
        self._process.join(_STOPPING_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        return self._process.exitcode


def _serve(connection: Connection, work: Callable[..., Any], make_tools: Callable[[], Any]) -> None:
    """The life of a worker process: one job after another, until the parent closes the connection or stops it."""
    # Ctrl-C reaches the whole process group: the parent decides, and stops its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _raise_stopped)
    threading.Thread(target=_end_with_parent, name="parent watch", daemon=True).start()
    try:
        tools, failure = None, None
        try:
            tools = make_tools()
        except UserError as e:
            failure = ToolsFailed(str(e))
        while True:
            job = connection.recv()
            connection.send(
                _attempt(work, tools, job, connection.send) if failure is None else _Ended(error=failure)
            )
    except (Stopped, EOFError, BrokenPipeError, ConnectionResetError):
        return


def _attempt(work: Callable[..., Any], tools: Any, job: Any, report: Callable[[Any], None]) -> _Ended:
    try:
        return _Ended(work(tools, job, report))
    except UserError as e:
        return _Ended(error=_sendable(e))
    except Exception as e:
        error = _sendable(e)
        error.add_note(traceback.format_exc())
        return _Ended(error=error)


def _sendable(error: Exception) -> Exception:
    """The error itself where it survives the way to the parent, which not every library's does."""
    try:
        ForkingPickler.loads(ForkingPickler.dumps(error))
    except Exception:
        if isinstance(error, UserError):
            return UserError(str(error))
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _raise_stopped(number: int, frame: object) -> None:
    raise Stopped


def _end_with_parent() -> None:
    """A process whose parent was killed would work, or wait for work, for ever."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    with contextlib.suppress(OSError):
        parent.join()
    os._exit(1)
