"""Decisions in the database: written in batches, read page by page, corrected by people, deleted in time.

Stands over `database.py` and under the admin process, which alone calls it. A decision is one row with its record
as JSON beside the few columns that are searched; nothing of the JSON is ever part of a query.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from pointsman.contracts.decisions import (
    Correction,
    Decision,
    DecisionRecord,
    Doubt,
    Feedback,
    Page,
    Review,
    TrainingRow,
)
from pointsman.contracts.modes import Mode, Source
from pointsman.store.database import Database, metadata

log = logging.getLogger(__name__)

_DAY = 86_400.0
_MICRO = 1_000_000
MOST_DELETED = 5_000
"""Rows that one transaction deletes at most, so that a writer never waits long."""

_flag = sa.Boolean(create_constraint=False)

decisions = sa.Table(
    "decisions",
    metadata,
    sa.Column("id", sa.String(48), primary_key=True),
    sa.Column("at", sa.BigInteger, nullable=False),  # microseconds since 1970
    sa.Column("tenant", sa.String(63), nullable=False),
    sa.Column("model", sa.String(128), nullable=False),
    sa.Column("mode", sa.String(16), nullable=False),
    sa.Column("source", sa.String(16), nullable=False),
    sa.Column("escalated", sa.String(16)),
    sa.Column("reviewable", _flag, nullable=False),
    sa.Column("queued", _flag, nullable=False),
    sa.Column("record", sa.Text, nullable=False),
    sa.Index(  # all that a tenant may search by: looking for what is rare reads no records
        "ix_decisions_tenant_at_id_mode_source_model_escalated",
        *("tenant", "at", "id", "mode", "source", "model", "escalated"),
    ),
    sa.Index("ix_decisions_at_id", "at", "id"),
    sa.Index("ix_decisions_queued_at_id", "queued", "at", "id"),
)

feedback = sa.Table(
    "decision_feedback",
    metadata,
    sa.Column("decision_id", sa.ForeignKey(decisions.c.id, ondelete="CASCADE"), primary_key=True),
    sa.Column("key", sa.String(8), primary_key=True),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("should_think", _flag, nullable=False),
    sa.Column("comment", sa.Text),
)

reviews = sa.Table(
    "decision_reviews",
    metadata,
    sa.Column("decision_id", sa.ForeignKey(decisions.c.id, ondelete="CASCADE"), primary_key=True),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("should_think", _flag, nullable=False),
    sa.Column("comment", sa.Text),
    sa.Column("pinned", sa.String(63)),
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """
    Which decisions are asked for; None and False: any.

    `since`, `until`: seconds since 1970, the first included, the second not. `after`: a page's own `after`.
    `reviewable`: only those that reviewers may see; `queued`: of these only those that wait for one.
    """

    tenant: str | None = None
    since: float | None = None
    until: float | None = None
    mode: Mode | None = None
    source: Source | None = None
    model: str | None = None
    escalated: bool | None = None
    reviewable: bool = False
    queued: bool = False
    after: str | None = None
    limit: int = 50


class BadCursor(ValueError):
    """`after` is none that a page has given."""


class DecisionStore:
    """Reads and writes decisions. Every method raises `DatabaseUnavailable` where the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, records: Sequence[DecisionRecord]) -> None:
        """Keep `records`; those that are kept already stay as they are."""
        rows = [
            {
                "id": record.id,
                "at": _micro(record.at),
                "tenant": record.tenant,
                "model": record.model,
                "mode": record.mode.value,
                "source": record.source.value,
                "escalated": None if record.escalated is None else record.escalated.value,
                "reviewable": record.review,
                "queued": record.review and bool(record.doubts),
                "record": record.model_dump_json(),
            }
            for record in records
        ]
        if rows:
            with self._database.writing() as connection:
                if self._database.dialect == "sqlite":
                    connection.execute(sqlite.insert(decisions).on_conflict_do_nothing(), rows)
                else:
                    connection.execute(postgresql.insert(decisions).on_conflict_do_nothing(), rows)

    def get(self, identity: str, *, tenant: str | None = None) -> Decision | None:
        """
        The decision called `identity`; None where there is none, it is another tenant's than `tenant`, or this
        release can't read it.
        """
        query = sa.select(decisions.c.record, decisions.c.id).where(decisions.c.id == identity)
        if tenant is not None:
            query = query.where(decisions.c.tenant == tenant)
        with self._database.reading() as connection:
            found = _complete(connection, connection.execute(query).all())
        return found[0] if found else None

    def page(self, wanted: Wanted) -> Page:
        """One page of decisions, newest first, but for those that this release can't read. Raises `BadCursor`."""
        columns = decisions.c
        query = sa.select(columns.record, columns.id, columns.at)
        conditions: list[Any] = []
        if wanted.tenant is not None:
            conditions.append(columns.tenant == wanted.tenant)
        if wanted.since is not None:
            conditions.append(columns.at >= _micro(wanted.since))
        if wanted.until is not None:
            conditions.append(columns.at < _micro(wanted.until))
        if wanted.mode is not None:
            conditions.append(columns.mode == wanted.mode.value)
        if wanted.source is not None:
            conditions.append(columns.source == wanted.source.value)
        if wanted.model is not None:
            conditions.append(columns.model == wanted.model)
        if wanted.escalated is not None:
            none = columns.escalated.is_(None)
            conditions.append(~none if wanted.escalated else none)
        if wanted.queued:
            conditions.append(columns.queued)
        if wanted.reviewable:
            conditions.append(columns.reviewable)
        if wanted.after is not None:
            at, identity = _read_cursor(wanted.after)
            conditions.append(sa.or_(columns.at < at, sa.and_(columns.at == at, columns.id < identity)))
        query = query.where(*conditions).order_by(columns.at.desc(), columns.id.desc()).limit(wanted.limit + 1)
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
            shown = rows[: wanted.limit]
            data = _complete(connection, shown)
        more = len(rows) > wanted.limit
        return Page(data=tuple(data), after=f"{shown[-1].at}_{shown[-1].id}" if more else None)

    def say(self, identity: str, correction: Correction, *, tenant: str, key: str) -> bool:
        """
        Keep what a tenant says of its decision, in place of what the same key has said before.

        False where the tenant has no such decision. A decision that reviewers may see is queued for them.
        """
        with self._database.writing() as connection:
            mine = sa.and_(decisions.c.id == identity, decisions.c.tenant == tenant)
            if connection.execute(sa.select(decisions.c.id).where(mine)).first() is None:
                return False
            said = {
                "decision_id": identity,
                "key": key,
                "at": _micro(time.time()),
                "should_think": correction.should_think,
                "comment": correction.comment,
            }
            connection.execute(sa.delete(feedback).where(feedback.c.decision_id == identity, feedback.c.key == key))
            connection.execute(sa.insert(feedback), said)
            connection.execute(sa.update(decisions).where(mine, decisions.c.reviewable).values(queued=True))
        return True

    def review(self, identity: str, correction: Correction, *, pinned: str | None = None) -> bool:
        """Keep a reviewer's word, in place of an earlier one; False where no reviewer may see such a decision."""
        with self._database.writing() as connection:
            open_to_review = sa.and_(decisions.c.id == identity, decisions.c.reviewable)
            if connection.execute(sa.select(decisions.c.id).where(open_to_review)).first() is None:
                return False
            connection.execute(sa.delete(reviews).where(reviews.c.decision_id == identity))
            said = {
                "decision_id": identity,
                "at": _micro(time.time()),
                "should_think": correction.should_think,
                "comment": correction.comment,
                "pinned": pinned,
            }
            connection.execute(sa.insert(reviews), said)
            connection.execute(sa.update(decisions).where(open_to_review).values(queued=False))
        return True

    def expire(self, days: Mapping[str, int], *, otherwise: int, now: float) -> int:
        """
        Delete the decisions that are older than their tenant's `days`, of other tenants than `otherwise` days.

        Returns how many they were. `now`: seconds since 1970.
        """
        columns = decisions.c
        shortest = min([otherwise, *days.values()])
        # Only tenants that have anything old: there may be a hundred thousand others.
        found = sa.select(columns.tenant).where(columns.at < _micro(now - shortest * _DAY)).distinct()
        with self._database.reading() as connection:
            tenants = list(connection.scalars(found))
        gone = 0
        for tenant in tenants:
            kept = days.get(tenant, otherwise)
            condition = sa.and_(columns.tenant == tenant, columns.at < _micro(now - kept * _DAY))
            some = sa.select(columns.id).where(condition).limit(MOST_DELETED).scalar_subquery()
            while True:
                with self._database.writing() as connection:
                    deleted = connection.execute(sa.delete(decisions).where(columns.id.in_(some))).rowcount
                gone += deleted
                if deleted < MOST_DELETED:
                    break
        return gone

    def training_rows(self, *, tenant: str | None = None, since: float | None = None) -> Iterator[TrainingRow]:
        """
        The labelled questions of tenants that opted in to both, or of `tenant`, newest first; see `training_row`.
        """
        after = None
        while True:
            page = self.page(Wanted(tenant=tenant, since=since, after=after, limit=500, reviewable=True))
            yield from (row for decision in page.data if (row := training_row(decision)) is not None)
            if page.after is None:
                return
            after = page.after


_SURE = {"review": 3.0, "feedback": 2.0, "escalated": 1.0, "judgement": 0.5}
"""How much a label counts by who set it: a person more than a model."""


def training_row(decision: Decision) -> TrainingRow | None:
    """
    What `decision` teaches, or None: its tenant opted out, or nobody said which mode would have been right.

    A reviewer's word ranks before the tenant's own (whose last word counts), that before an escalation, that before
    the model's own judgement.
    """
    question = decision.question
    if not decision.review or question is None or not question.text:
        return None
    if decision.reviewed is not None:
        tier, label = "review", decision.reviewed.should_think
    elif decision.feedback:
        tier, label = "feedback", max(decision.feedback, key=lambda said: said.at).should_think
    elif decision.escalated is not None:
        tier, label = "escalated", True
    elif decision.judgement is not None and decision.judgement is not decision.decided:
        tier, label = "judgement", decision.judgement is Mode.THINK
    else:
        return None
    return TrainingRow(
        text=question.text,
        label=1 if label else 0,
        source=f"decisions/{decision.tenant}",
        weight=_SURE[tier],
        tier=tier,
    )


def _complete(connection: sa.Connection, rows: Sequence[Any]) -> list[Decision]:
    """The decisions of `rows`, with what people have said of them, in the same order."""
    identities = [row.id for row in rows]
    if not identities:
        return []
    said: dict[str, list[Feedback]] = {}
    query = sa.select(feedback).where(feedback.c.decision_id.in_(identities)).order_by(feedback.c.at)
    for row in connection.execute(query):
        one = Feedback(key=row.key, at=row.at / _MICRO, should_think=row.should_think, comment=row.comment)
        said.setdefault(row.decision_id, []).append(one)
    judged = {
        row.decision_id: Review(
            at=row.at / _MICRO, should_think=row.should_think, comment=row.comment, pinned=row.pinned
        )
        for row in connection.execute(sa.select(reviews).where(reviews.c.decision_id.in_(identities)))
    }
    found = (_decision(row, said.get(row.id, ()), judged.get(row.id)) for row in rows)
    return [decision for decision in found if decision is not None]


def _decision(row: Any, said: Iterable[Feedback], review: Review | None) -> Decision | None:
    """A row with what people have said of it; None where its record is one that only another release can read."""
    try:
        decision = Decision.model_validate(orjson.loads(row.record))
    except ValueError as error:  # pydantic's message would hold what the record says
        _log_unreadable(row.id, type(error).__name__)
        return None
    feedback_given = tuple(said)
    doubts = (*decision.doubts, *((Doubt.FEEDBACK,) if feedback_given else ()))
    return decision.model_copy(update={"feedback": feedback_given, "reviewed": review, "doubtful": doubts})


@lru_cache(1000)  # once each, however often somebody looks
def _log_unreadable(identity: str, kind: str) -> None:
    log.error("%s is kept and can't be read: %s", identity, kind)


def _micro(seconds: float) -> int:
    return round(seconds * _MICRO)


def _read_cursor(after: str) -> tuple[int, str]:
    at, _, identity = after.partition("_")
    if not (at.isascii() and at.isdigit() and len(at) < 19 and identity.isprintable() and identity):
        raise BadCursor(after)
    return int(at), identity
