"""benchmarks/gpu.sh: what it asks of a bare machine is what its tests and benchmarks import."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import __main__ as command
from benchmarks import live

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
OWN = {"models", "stream", "offline", "affectstream", "benchmarks", "tests"}
RUN = ("benchmarks/__main__.py", "tests/gpu/test_cuda.py", "tests/conftest.py")


def module_file(name: str) -> Path | None:
    """The file of a module of our own; None for what is a name in one, or a folder without `__init__`."""
    path = ROOT.joinpath(*name.split("."))
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()), None)


def imports(tree: ast.AST, *, at_once: bool) -> Iterator[str]:
    """What a module imports when it is imported; else what it may ever import."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if at_once and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        yield from imports(node, at_once=at_once)


def third_parties(*files: Path) -> set[str]:
    """Packages that these files and every module of ours that they import at once may import."""
    found: set[str] = set()
    waiting, seen = list(files), set(files)
    while waiting:
        tree = ast.parse(waiting.pop().read_text(encoding="utf-8"))
        found |= {name.partition(".")[0] for name in imports(tree, at_once=False)}
        for name in imports(tree, at_once=True):
            packages = [name.rsplit(".", n)[0] for n in range(name.count(".") + 1)]
            files_of_it = {
                p for p in map(module_file, packages) if p is not None and name.split(".")[0] in OWN
            }
            waiting += files_of_it - seen
            seen |= files_of_it
    return found - OWN - sys.stdlib_module_names


def test_it_asks_for_every_package_that_it_needs_and_no_other() -> None:
    script = (ROOT / "benchmarks" / "gpu.sh").read_text(encoding="utf-8")
    wanted = re.search(r'^wanted = "(.*)"$', script, re.MULTILINE)
    assert wanted is not None
    assert set(wanted[1].split()) == third_parties(*(ROOT / path for path in RUN))


def test_the_live_benchmarks_need_more_and_are_not_imported_before_they_run() -> None:
    assert {"aiomqtt", "cv2", "psutil"} <= third_parties(ROOT / "benchmarks" / "live.py")
    assert tuple(live.PARTS) == command.LIVE
