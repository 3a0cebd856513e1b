"""The tables of the ledger: entries, their parts, the sums of them by the hour and by the day, and routers' runs.

Stands apart from `ledger.py`, which writes and reads entries, because reports read the sums. All amounts of money
are nano-dollars, all times milliseconds since 1970. Entries are only ever added; their `seq` counts 1, 2, 3, …
without a gap in the order in which they were committed, so that a missing one is seen.
"""

from __future__ import annotations

import sqlalchemy as sa

from pointsman.contracts.pricing import Cost
from pointsman.store.database import metadata

CLASSES = Cost._fields
"""What is counted and billed: each is a column, and another one with `_cost` after its name."""

HOUR = 3_600_000
"""Milliseconds of what one row of `usage_hours` sums up."""

_flag = sa.Boolean(create_constraint=False)
_big = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def _amounts() -> list[sa.Column[int]]:
    names = [name for each in CLASSES for name in (each, f"{each}_cost")]
    return [sa.Column(name, sa.BigInteger, nullable=False) for name in names]


ledger = sa.Table(
    "ledger",
    metadata,
    sa.Column("seq", _big, primary_key=True, autoincrement=False),
    sa.Column("id", sa.String(64), nullable=False, unique=True),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("ended_at", sa.BigInteger, nullable=False),
    sa.Column("tenant", sa.String(63), nullable=False),
    sa.Column("key", sa.String(8), nullable=False),
    sa.Column("request_id", sa.String(128), nullable=False),
    sa.Column("model", sa.String(128), nullable=False),
    sa.Column("mode", sa.String(16), nullable=False),
    sa.Column("status", sa.Integer, nullable=False),
    sa.Column("outcome", sa.String(16), nullable=False),
    sa.Column("stream", _flag, nullable=False),
    sa.Column("cache", sa.String(8), nullable=False),
    sa.Column("total", sa.BigInteger, nullable=False),
    sa.Column("router", sa.String(16), nullable=False),
    sa.Column("number", sa.BigInteger, nullable=False),
    sa.Column("corrects", sa.String(64), nullable=False),
    sa.Column("comment", sa.Text, nullable=False),
    sa.Index("ix_ledger_tenant_at", "tenant", "at"),
    sa.Index("ix_ledger_at", "at"),
    sa.Index(
        "ix_ledger_corrects",
        "corrects",
        sqlite_where=sa.text("corrects <> ''"),
        postgresql_where=sa.text("corrects <> ''"),
    ),
)

ledger_parts = sa.Table(
    "ledger_parts",
    metadata,
    sa.Column("seq", sa.ForeignKey(ledger.c.seq), primary_key=True, autoincrement=False),
    sa.Column("part", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("pool", sa.String(63), nullable=False),
    sa.Column("mode", sa.String(16), nullable=False),
    sa.Column("estimated", _flag, nullable=False),
    sa.Column("price_version", sa.BigInteger, nullable=False),
    *_amounts(),
    sqlite_with_rowid=False,
)

usage_hours = sa.Table(
    "usage_hours",
    metadata,
    sa.Column("hour", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("tenant", sa.String(63), primary_key=True),
    sa.Column("key", sa.String(8), primary_key=True),
    sa.Column("model", sa.String(128), primary_key=True),
    sa.Column("mode", sa.String(16), primary_key=True),
    sa.Column("pool", sa.String(63), primary_key=True),
    sa.Column("cache", sa.String(8), primary_key=True),
    sa.Column("total", sa.BigInteger, nullable=False),
    sa.Column("requests", sa.BigInteger, nullable=False),
    sa.Column("estimated", sa.BigInteger, nullable=False),
    *_amounts(),
    sqlite_with_rowid=False,
)

ledger_spend = sa.Table(
    "ledger_spend",
    metadata,
    sa.Column("day", sa.String(10), primary_key=True),
    sa.Column("tenant", sa.String(63), primary_key=True),
    sa.Column("router", sa.String(16), primary_key=True),
    sa.Column("nano", sa.BigInteger, nullable=False),
    sa.Index("ix_ledger_spend_router_day", "router", "day"),
    sqlite_with_rowid=False,
)

ledger_runs = sa.Table(
    "ledger_runs",
    metadata,
    sa.Column("router", sa.String(16), primary_key=True),
    sa.Column("committed", sa.BigInteger, nullable=False),
    sa.Column("closed_at", sa.BigInteger),
)
