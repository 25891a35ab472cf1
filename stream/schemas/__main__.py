"""`python -m stream.schemas`: writes the schemas into this folder, where they are not as the messages' types say."""

from __future__ import annotations

import sys
from pathlib import Path

from stream.schemas.generate import outdated, written


def main(folder: Path) -> None:
    """Writes what is outdated in `folder`, and names it."""
    for path in outdated(folder):
        path.write_text(written(path.stem), encoding="utf-8")
        sys.stdout.write(f"wrote {path.name}\n")


if __name__ == "__main__":
    main(Path(__file__).parent)
