"""A recording's valence and arousal as a CSV: a row for each frame, made as fast as the machine can.

    python examples/recording_to_csv.py talk.mp4 talk.csv
    python examples/recording_to_csv.py stream/assets/demo.mp4 demo.csv --bundle demo --recogniser vosk-tiny

The numbers are the settled estimates of `stream-run --pace fast --accelerator eager --record`. Where you want a file
and no script, that command writes JSON lines, and `offline-predict people talk.mp4 --out predictions/` writes a CSV
of all folds.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import affectstream
from stream.options import DEFAULT_BUNDLE

if TYPE_CHECKING:
    from collections.abc import Sequence

COLUMNS = ("frame", "time_s", "valence", "arousal", "valence_spread", "arousal_spread")


def write_csv(recording: Path, table: Path, bundle: str = DEFAULT_BUNDLE, recogniser: str = "auto") -> int:
    """Writes the table and returns its number of rows, one for each frame of the recording.

    Times are in seconds from the first frame, values in [-1, 1], spreads are standard deviations between folds.
    `recogniser` is `auto` (the best full model that is installed), `none`, a part's name or a Vosk model's folder.
    Raises UserError where the recording, the bundle or the recogniser cannot be used.
    """
    result = affectstream.estimate(recording, bundle=bundle, recogniser=recogniser, accelerator="eager")
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        rows = zip(result.times, result.values, result.spread, strict=True)
        for frame, (time_s, value, spread) in enumerate(rows):
            writer.writerow([frame, f"{time_s:.6f}", *(f"{number:.6f}" for number in (*value, *spread))])
    return len(result)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 0 where all went well, 2 where something could not be used."""
    parser = argparse.ArgumentParser(description="A recording's valence and arousal as a CSV.")
    parser.add_argument("recording", type=Path)
    parser.add_argument("table", type=Path)
    parser.add_argument("--bundle", default=DEFAULT_BUNDLE, help="a shipped bundle's name, or a folder")
    parser.add_argument(
        "--recogniser", default="auto", help="as in stream-run; vosk-tiny for the demo's voice"
    )
    given = parser.parse_args(arguments)
    try:
        rows = write_csv(given.recording, given.table, given.bundle, given.recogniser)
    except (affectstream.UserError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{given.table}: {rows} frames")
    return 0


if __name__ == "__main__":
    sys.exit(main())
