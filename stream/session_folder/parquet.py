"""`estimates.parquet`, made of `estimates.csv` when a session ends or is first opened after it was cut.

A Parquet file is readable only once its end is written, which a kill would prevent: so the CSV file is what grows.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from stream.session_folder.layout import ESTIMATES, PARQUET, estimate_columns

if TYPE_CHECKING:
    from pathlib import Path

    from stream.session_folder.facts import Facts


def make_parquet(folder: Path, facts: Facts) -> int:
    """Writes it beside its place and puts it there whole; says how many lines of the CSV are no rows of it.

    Its metadata hold `session.json`. In bounded memory. Raises OSError where it cannot be written.
    """
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    types: dict[str, Any] = {
        "int": pa.int64(),
        "float": pa.float64(),
        "bool": pa.bool_(),
        "text": pa.string(),
    }
    columns = estimate_columns(int(facts["bundle"]["folds"]))
    schema = pa.schema(
        [pa.field(c.name, types[c.dtype], metadata={"meaning": c.meaning}) for c in columns],
        metadata={"affectstream_session": json.dumps(facts)},
    )
    left_out = 0

    def leave_out(row: object) -> str:
        nonlocal left_out
        left_out += 1
        return "skip"

    reader = pyarrow.csv.open_csv(
        folder / ESTIMATES,
        # One thread, so that no rows are left out uncounted.
        read_options=pyarrow.csv.ReadOptions(use_threads=False),
        parse_options=pyarrow.csv.ParseOptions(invalid_row_handler=leave_out),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=dict(zip(schema.names, schema.types, strict=True)),
            null_values=[""],
            strings_can_be_null=True,
            true_values=["true"],
            false_values=["false"],
        ),
    )
    beside = folder / f".{PARQUET}.part"
    try:
        with pyarrow.parquet.ParquetWriter(beside, schema, compression="zstd") as writer:
            for batch in reader:
                writer.write_table(pa.Table.from_batches([batch]).cast(schema))
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(beside, folder / PARQUET)
    finally:
        beside.unlink(missing_ok=True)
    return left_out
