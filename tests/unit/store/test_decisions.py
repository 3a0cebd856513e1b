"""Decisions in real databases: kept once, found by page and by filter, corrected, judged, and deleted in time."""

from __future__ import annotations

import lzma
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import pointsman.store.decisions
from pointsman.contracts.decisions import Correction, Doubt
from pointsman.contracts.modes import Mode, Source
from pointsman.contracts.policies import Trigger
from pointsman.router.predictor import corpus
from pointsman.store.database import Database
from pointsman.store.decisions import BadCursor, DecisionStore, Wanted, decisions
from support.records import NOW, identity, record

DAY = 86_400.0


@pytest.fixture
def store(database: Database) -> DecisionStore:
    return DecisionStore(database)


def ids(store: DecisionStore, **wanted: Any) -> list[str]:
    return [decision.id for decision in store.page(Wanted(**wanted)).data]


def test_a_decision_is_kept_once_and_comes_back_as_it_was(store: DecisionStore) -> None:
    made = record(1, usage={"input": 1, "cached_input": 2, "reasoning": 3, "answer": 4}, clamped={"max_tokens": 9})
    store.add([])
    store.add([made, record(2)])
    store.add([record(3), record(1, status=500)])  # a batch that is written twice, after a crash
    kept = store.get(identity(1))
    assert kept is not None
    assert kept.model_dump(include=set(type(made).model_fields)) == made.model_dump()
    assert len(ids(store)) == 3


def test_another_tenants_decision_is_none(store: DecisionStore) -> None:
    store.add([record(1, tenant="a"), record(2, tenant="b")])
    assert store.get(identity(1), tenant="b") is None
    assert store.get(identity(1), tenant="a") is not None
    assert ids(store, tenant="a") == [identity(1)]
    assert not store.say(identity(1), Correction(should_think=True), tenant="b", key="k")
    decision = store.get(identity(1))
    assert decision is not None
    assert not decision.feedback


def test_pages_show_each_decision_once_newest_first_whatever_comes_in_between(store: DecisionStore) -> None:
    """Many at the same microsecond, so that a page ends among them; new ones arrive while somebody reads."""
    store.add([record(number, at=NOW + number // 7) for number in range(50)])
    seen: list[str] = []
    after = None
    while True:
        page = store.page(Wanted(after=after, limit=6))
        seen += [decision.id for decision in page.data]
        store.add([record(1000 + len(seen), at=NOW + 500)])
        after = page.after
        if after is None:
            break
    assert seen == [identity(number) for number in sorted(range(50), key=lambda n: (n // 7, n), reverse=True)]
    assert store.page(Wanted(tenant="nobody")).after is None


@pytest.mark.parametrize(
    "after", ["", "x", "1", "_", "1_", "-1_dec", "1e3_dec", "9" * 40 + "_dec", "١_dec", "1_\0"]
)
def test_a_cursor_that_no_page_gave_is_refused(store: DecisionStore, after: str) -> None:
    with pytest.raises(BadCursor):
        store.page(Wanted(after=after))


def test_filters_narrow_each_by_itself_and_all_together(store: DecisionStore) -> None:
    store.add(
        [
            record(1, mode="think", source="client", escalated="empty"),
            record(2, model="other"),
            record(3, source="default", tenant="b"),
        ]
    )
    first, second, third = map(identity, (1, 2, 3))
    assert ids(store, mode=Mode.THINK) == [first]
    assert ids(store, source=Source.DEFAULT) == [third]
    assert ids(store, model="other") == [second]
    assert ids(store, escalated=True) == [first]
    assert ids(store, escalated=False) == [third, second]
    assert ids(store, since=NOW + 2) == [third, second]
    assert ids(store, until=NOW + 2) == [first]
    assert ids(store, since=NOW + 1, until=NOW + 3, mode=Mode.NO_THINK, tenant="demo") == [second]
    assert ids(store, mode=Mode.THINK, source=Source.DEFAULT) == []


def test_a_later_word_of_the_same_key_replaces_the_earlier(store: DecisionStore) -> None:
    store.add([record(1)])
    for key, should_think in (("a", True), ("b", True), ("a", False)):
        assert store.say(identity(1), Correction(should_think=should_think, comment=key), tenant="demo", key=key)
    decision = store.get(identity(1))
    assert decision is not None
    assert {(said.key, said.should_think, said.comment) for said in decision.feedback} == {
        ("a", False, "a"),
        ("b", True, "b"),
    }
    assert decision.doubtful == (Doubt.FEEDBACK,)


@pytest.mark.parametrize(
    ("fields", "doubts"),
    [
        ({}, ()),
        ({"probability": 0.46}, (Doubt.NEAR_THRESHOLD,)),
        ({"probability": 0.54, "mode": "think", "source": "saturation"}, (Doubt.NEAR_THRESHOLD,)),
        ({"probability": 0.44}, ()),
        ({"probability": 0.5, "source": "client"}, ()),
        ({"probability": None, "source": "default"}, ()),
        ({"judgement": "think"}, (Doubt.JUDGEMENT,)),
        ({"judgement": "no_think"}, ()),
        ({"mode": "think", "escalated": "judge", "judgement": "think"}, (Doubt.JUDGEMENT, Doubt.ESCALATED)),
        ({"mode": "think", "escalated": "empty", "probability": 0.49}, (Doubt.NEAR_THRESHOLD, Doubt.ESCALATED)),
    ],
)
def test_what_is_doubtful_waits_for_a_reviewer_and_nothing_else(
    store: DecisionStore, fields: dict[str, Any], doubts: tuple[Doubt, ...]
) -> None:
    store.add([record(1, **fields), record(2, **fields, review=False)])
    waiting = store.page(Wanted(queued=True, reviewable=True)).data
    assert [decision.doubtful for decision in waiting] == ([doubts] if doubts else [])


def test_a_review_takes_a_decision_out_of_the_queue_and_feedback_puts_it_back(store: DecisionStore) -> None:
    store.add([record(1), record(2, review=False)])
    assert ids(store, queued=True) == []
    for number in (1, 2):
        store.say(identity(number), Correction(should_think=True), tenant="demo", key="k")
    assert ids(store, queued=True) == [identity(1)]
    assert store.review(identity(1), Correction(should_think=False, comment="no"), pinned="rule")
    assert ids(store, queued=True) == []
    decision = store.get(identity(1))
    assert decision is not None
    assert decision.reviewed is not None
    assert (decision.reviewed.should_think, decision.reviewed.comment, decision.reviewed.pinned) == (
        False,
        "no",
        "rule",
    )
    store.say(identity(1), Correction(should_think=True), tenant="demo", key="k")
    assert ids(store, queued=True) == [identity(1)]
    assert not store.review(identity(2), Correction(should_think=True))
    assert not store.review(identity(3), Correction(should_think=True))


def test_each_tenants_decisions_go_when_their_days_are_over_with_all_that_was_said(
    store: DecisionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pointsman.store.decisions.MOST_DELETED", 3)
    now = NOW + 100 * DAY
    ages = {"week": (6.9, 7.1), "month": (29.0, 30.5), "gone": (1.9, 2.1)}
    store.add(
        [
            record(100 * row + number, tenant=tenant, at=now - age * DAY)
            for row, (tenant, both) in enumerate(ages.items())
            for age in both
            for number in range(10 * int(age), 10 * int(age) + 8)
        ]
    )
    assert len(ids(store, limit=200)) == 48
    old = ids(store, tenant="week", limit=200)[-1]
    store.say(old, Correction(should_think=True), tenant="week", key="k")
    assert store.expire({"week": 7, "month": 30}, otherwise=2, now=now) == 24
    left = store.page(Wanted(limit=200)).data
    assert {decision.tenant: now - decision.at < 29.5 * DAY for decision in left} == dict.fromkeys(ages, True)
    assert len(left) == 24
    assert store.get(old) is None
    assert store.expire({"week": 7, "month": 30}, otherwise=2, now=now) == 0
    store.add([record(0, id=old)])
    again = store.get(old)
    assert again is not None
    assert not again.feedback


def test_training_rows_come_from_who_opted_in_labelled_by_who_knows_best(store: DecisionStore) -> None:
    def asked(text: str | None) -> dict[str, Any]:
        return {"question": {"characters": 9, "sha256": "0" * 64, "text": text}}

    store.add(
        [
            record(1, **asked("nobody said")),
            record(2, **asked("judged"), judgement="think"),
            record(3, **asked("escalated"), mode="think", escalated=Trigger.EMPTY),
            record(4, **asked("fed back"), judgement="think"),
            record(5, **asked("reviewed"), judgement="think"),
            record(6, **asked(None), judgement="think"),
            record(7, **asked("not for reviewers"), judgement="think", review=False),
            record(8, **asked("judged alike"), judgement="no_think"),
        ]
    )
    for number in (4, 5):
        store.say(identity(number), Correction(should_think=False), tenant="demo", key="k")
    store.review(identity(5), Correction(should_think=True))
    rows = {row.text: (row.label, row.tier) for row in store.training_rows()}
    assert rows == {
        "judged": (1, "judgement"),
        "escalated": (1, "escalated"),
        "fed back": (0, "feedback"),
        "reviewed": (1, "review"),
    }
    weights = [
        row.weight
        for tier in ("judgement", "escalated", "feedback", "review")
        for row in store.training_rows()
        if row.tier == tier
    ]
    assert weights == sorted(weights)
    assert [row.text for row in store.training_rows(since=NOW + 5)] == ["reviewed"]


def test_what_is_exported_is_what_training_reads(store: DecisionStore, tmp_path: Path) -> None:
    store.add(
        [
            record(
                number,
                tenant=f"tenant-{number % 3}",
                question={"characters": 1, "sha256": "0" * 64, "text": f"question {number}"},
                judgement="think" if number % 2 else None,
                **({} if number % 2 else {"mode": "think", "escalated": "empty"}),
            )
            for number in range(6)
        ]
    )
    store.say(identity(0), Correction(should_think=False), tenant="tenant-0", key="k")
    lines = b"".join(row.model_dump_json().encode() + b"\n" for row in store.training_rows())
    (tmp_path / corpus.ROWS_FILE).write_bytes(lzma.compress(lines))
    rows = [row for row in corpus.load(tmp_path).rows if row.source.startswith("decisions/")]
    assert {(row.text, row.think, row.source) for row in rows} == {
        (f"question {number}", number != 0, f"decisions/tenant-{number % 3}") for number in range(6)
    }
    assert {row.tier for row in rows} == {"judgement", "escalated", "feedback"}


def test_what_another_release_wrote_is_left_out_and_nowhere_quoted(
    store: DecisionStore, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    pointsman.store.decisions._log_unreadable.cache_clear()  # it tells of each but once, on whichever database
    said = {"characters": 9, "sha256": "0" * 64, "text": "our merger"}
    store.add([record(number, tenant="a", question=said, review=True) for number in range(3)])
    with database.writing() as connection:
        row = sa.update(decisions).where(decisions.c.id == identity(1))
        connection.execute(row.values(record='{"source": "oracle", "question": {"text": "our merger"}}'))
    assert store.get(identity(1)) is None
    assert ids(store, tenant="a") == [identity(2), identity(0)]
    assert list(store.training_rows()) == []
    assert "can't be read: ValidationError" in caplog.text
    assert "merger" not in caplog.text
