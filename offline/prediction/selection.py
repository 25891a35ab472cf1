"""Which of a store's trials are predicted, and which folds a bundle has of a split."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Literal

    from models.bundle.load import Bundle
    from offline.data.store import Partition, Store, TrialRecord


def choose_trials(
    store: Store, names: Sequence[str], partition: Partition | Literal["all"]
) -> list[TrialRecord]:
    """The named trials, each once, or a partition's where none is named. Raises UserError where there are none."""
    if names:
        return [store.trial(name) for name in dict.fromkeys(names)]
    found = store.trials() if partition == "all" else store.trials(partition)
    if not found:
        there = ", ".join(dict.fromkeys(t.partition for t in store.trials())) or "none at all"
        raise UserError(f"{store.folder} has no trials in the {partition} partition: it has {there}")
    return list(found)


def fold_numbers(bundle: Bundle, folds: int, path: Path) -> tuple[int, ...]:
    """The split's number of each of the bundle's folds: all in order, unless the bundle says otherwise.

    `folds` is how many the split at `path` has. Raises UserError where the bundle is of another split.
    """
    said = bundle.manifest.provenance.get("folds", "").split()
    numbers = tuple(int(n) for n in said) if all(n.isdigit() for n in said) and said else tuple(range(folds))
    if len(numbers) != bundle.ensemble.folds or any(n >= folds for n in numbers):
        raise UserError(
            f"{path} has {folds} folds, but the bundle '{bundle.manifest.name}' has {bundle.ensemble.folds} "
            "others: give the folds.json of the run that it was made from"
        )
    return numbers
