"""Where torch computes: what every command's `--device` means."""

from __future__ import annotations

import re

from models.console import waiting
from models.errors import UserError
from offline.commands.progress import LOADING


def choose_device(choice: str) -> str:
    """`auto` as what there is; any other choice as it is. Raises UserError for a device that is not there."""
    with waiting(LOADING, tell_first=False):
        import torch

    count = torch.cuda.device_count()
    if choice == "auto":
        return "cuda" if count else "cpu"
    if choice == "cpu":
        return choice
    # Digits as torch has them: no sign, no leading zero.
    named = re.fullmatch(r"cuda(?::(0|[1-9][0-9]*))?", choice, re.ASCII)
    if named is None:
        raise UserError(f"--device is auto, cpu, cuda or cuda:N, not '{choice}'")
    number = int(named[1] or 0)
    if number >= count:
        there = ("cpu", *(f"cuda:{n}" for n in range(count)))
        raise UserError(f"there is no CUDA device {number} here: give --device {' or '.join(there)}")
    return choice
