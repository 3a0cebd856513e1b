"""Reports and ledger entries as flat rows, and the types of their columns in a Parquet file.

Money is a decimal with all nine places, exactly as it was billed, never a float.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from pointsman.contracts.pricing import NANO, Cost

if TYPE_CHECKING:
    import pyarrow

CLASSES = Cost._fields
MOMENTS = ("hour", "day")

ENTRY_FIELDS = (
    *("number", "id", "kind", "at", "ended_at", "tenant", "key", "request_id", "model", "status", "outcome"),
    *("stream", "cache", "corrects", "comment", "part", "pool", "mode", "price_version", "estimated"),
    *(f"{name}{suffix}" for name in CLASSES for suffix in ("", "_cost_usd")),
    "cost_usd",
)
"""Columns of an export of entries, one row for each part of the work: their costs add up to the bill."""


def flat_report(by: Sequence[str], row: dict[str, Any]) -> dict[str, Any]:
    """A row of a report, with typed values."""
    flat: dict[str, Any] = {
        name: datetime.fromisoformat(row[name]) if name in MOMENTS else row[name] for name in by
    }
    for name, value in row.items():
        if name == "usage":
            flat.update(value)
        elif name == "costs":
            flat.update((f"{each}_cost_usd", in_dollars(nano)) for each, nano in value.items())
        elif name == "cost_usd":
            flat[name] = Decimal(value)
        elif name not in by and name != "cost":
            flat[name] = value
    return flat


def flat_entries(entry: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The rows of one entry of the ledger, with typed values."""
    common = {name: entry[name] for name in ENTRY_FIELDS if name in entry and name not in ("mode", "cost_usd")}
    common["at"] = datetime.fromisoformat(entry["at"])
    common["ended_at"] = datetime.fromisoformat(entry["ended_at"])
    nothing = dict.fromkeys(CLASSES, 0)
    none = {"pool": "", "mode": entry["mode"], "price_version": 0, "estimated": False, "usage": nothing}
    for position, part in enumerate(entry["parts"] or [{**none, "cost": nothing}]):
        row = {**common, "part": position, **{name: part[name] for name in ("pool", "mode", "price_version")}}
        row["estimated"] = part["estimated"]
        row.update(part["usage"])
        row.update((f"{name}_cost_usd", in_dollars(nano)) for name, nano in part["cost"].items())
        row["cost_usd"] = in_dollars(sum(part["cost"].values()))
        yield {name: row[name] for name in ENTRY_FIELDS}


def in_dollars(nano: int) -> Decimal:
    """Nano-dollars as US dollars with nine places."""
    return (Decimal(nano) / NANO).quantize(Decimal("0.000000001"))


def schema_of(row: dict[str, Any]) -> pyarrow.Schema:
    """The types of a Parquet file whose rows are like `row`."""
    import pyarrow

    def kind(value: Any) -> pyarrow.DataType:
        if isinstance(value, bool):
            return pyarrow.bool_()
        if isinstance(value, int):
            return pyarrow.int64()
        if isinstance(value, Decimal):
            return pyarrow.decimal128(27, 9)
        if isinstance(value, datetime):
            return pyarrow.timestamp("ms", tz="UTC")
        return pyarrow.string()

    return pyarrow.schema([(name, kind(value)) for name, value in row.items()])
