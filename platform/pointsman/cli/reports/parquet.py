"""Rows as a Parquet file, written group by group: a file of any size takes the memory of one group."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow

GROUP = 20_000
"""Rows of one group."""


def write_parquet(file: Any, rows: Iterable[dict[str, Any]], schema: pyarrow.Schema) -> int:
    """Write `rows`, flat mappings, to the open `file`; returns how many they were."""
    import pyarrow
    from pyarrow import parquet

    count = 0
    with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        for group in _groups(rows):
            writer.write_table(pyarrow.Table.from_pylist(group, schema=schema))
            count += len(group)
    return count


def _groups(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    remaining = iter(rows)
    while group := list(islice(remaining, GROUP)):
        yield group
