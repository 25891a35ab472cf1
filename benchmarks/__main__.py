"""All benchmarks in one command; the results go to benchmarks/RESULTS.md.

    python -m benchmarks [--quick] [--threads N] [--only naive,peak] [--clip RECORDING] [--output FILE]

What was run takes the place of the same benchmark's section in the file; the others stay, each with the command, the
day and the machine that it was made by. Exits with status 1 where a promise that a benchmark states was missed.
"""

from __future__ import annotations

import argparse
import datetime
import os
import re
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from benchmarks import accelerators, naive, peak, throughput
from benchmarks.measuring import Table, describe_machine
from models.accelerate.cache import ArtifactCache
from models.machine import usable_processors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

RESULTS = Path(__file__).parent / "RESULTS.md"
HEAD = """# Benchmarks

Written by `python -m benchmarks`; do not edit. Times are medians with the tenth and ninetieth percentile where
nothing else is said."""
LIVE = ("cameras", "paper", "replay", "start")
SCRIPTS = {"ensemble": "The stacked ensemble beside separate networks", "latency": "From light to message"}


def run_growth(folder: Path, options: argparse.Namespace) -> Table:
    """What `benchmarks.growth` measures. Imported when it runs: the engine wants packages that networks do not."""
    from benchmarks import growth

    return growth.run(quick=options.quick, folder=folder)


def run_live(name: str, folder: Path, options: argparse.Namespace) -> Table:
    """What a part of `benchmarks.live` measures; imported when it runs, too."""
    from benchmarks import live

    return live.PARTS[name](folder, options.clip or live.real_clip(), quick=options.quick)


def run_script(name: str) -> str:
    """What one of the stand-alone benchmarks prints, as a section."""
    command = [sys.executable, f"benchmarks/{name}.py"]
    done = subprocess.run(command, cwd=RESULTS.parent.parent, capture_output=True, text=True, check=False)
    said = done.stdout.strip() or done.stderr.strip()
    status = "" if done.returncode == 0 else f"\n\n**missed** or failed: exit status {done.returncode}"
    return f"## {SCRIPTS[name]}\n\n`{' '.join(['python', *command[1:]])}`\n\n```\n{said}\n```{status}"


def main() -> int:
    """Run what was asked for, and write it down."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--quick", action="store_true", help="minutes, not an hour: few rounds, `paper` only in naive"
    )
    parser.add_argument("--threads", type=int, default=usable_processors(), help="for PyTorch and OpenVINO")
    parser.add_argument("--only", default="", help="a comma-separated choice of the benchmarks")
    parser.add_argument("--output", type=Path, default=RESULTS, help="the Markdown file to write")
    parser.add_argument(
        "--clip",
        type=Path,
        help="what the six folds look at live (default: a fixture, else the demo recording)",
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.environ.setdefault("AFFECT_CACHE", str(folder / "cache"))
        cache = ArtifactCache(folder / "cache")
        quick, threads = options.quick, options.threads
        tables: dict[str, Callable[[], Table]] = {
            "peak": lambda: peak.run(quick=quick, threads=threads),
            "naive": lambda: naive.run(quick=quick),
            "accelerators": lambda: accelerators.run(
                quick=quick, threads=threads, folder=folder, cache=cache
            ),
            "throughput": lambda: throughput.run(quick=quick, threads=threads, folder=folder, cache=cache),
            "growth": partial(run_growth, folder, options),
            **{name: partial(run_live, name, folder, options) for name in LIVE},
        }
        everything = [*tables, *SCRIPTS]
        wanted = options.only.split(",") if options.only else everything
        if unknown := sorted(set(wanted) - set(everything)):
            parser.error(f"there is no benchmark '{unknown[0]}': choose from {', '.join(everything)}")
        sections = read_sections(options.output)
        missed = False
        for name in (n for n in everything if n in wanted):
            print(f"{name} ...", file=sys.stderr, flush=True)
            made_by = _made_by(name, options)
            title, _, body = (tables[name]().to_markdown() if name in tables else run_script(name)).partition(
                "\n"
            )
            sections[name] = f"{title}\n\n{made_by}\n{body}"
            missed = missed or "**missed**" in body
            print(sections[name], flush=True)
            write_sections(options.output, {n: sections[n] for n in everything if n in sections})
    return int(missed)


def read_sections(path: Path) -> dict[str, str]:
    """The sections of a results file, by their benchmark; none where there is no file."""
    if not path.is_file():
        return {}
    _, *parts = re.split(r"^<!-- (\w+) -->\n", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {name: body.strip() for name, body in zip(parts[::2], parts[1::2], strict=True)}


def write_sections(path: Path, sections: Mapping[str, str]) -> None:
    """Writes a results file with these sections, in their order."""
    marked = (f"<!-- {name} -->\n{body}" for name, body in sections.items())
    path.write_text("\n\n".join([HEAD, *marked]) + "\n", encoding="utf-8")


def _made_by(name: str, options: argparse.Namespace) -> str:
    """How, when and on what a section came to be, before it is made."""
    how = " ".join(["python -m benchmarks", *(["--quick"] if options.quick else []), "--only", name])
    return f"`{how}`, {datetime.date.today().isoformat()}. {describe_machine()}"


if __name__ == "__main__":
    sys.exit(main())
