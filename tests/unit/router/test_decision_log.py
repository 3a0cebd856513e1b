"""What the data plane writes down of a decision: all that belongs there, no word that does not, within bounds."""

from __future__ import annotations

import asyncio
import hashlib
import math
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from redis.exceptions import ConnectionError as RedisAway

from pointsman.contracts.config import Config
from pointsman.contracts.config import DecisionLog as Kept
from pointsman.contracts.decisions import DecisionRecord, Doubt
from pointsman.contracts.modes import ClientSignal, Mode, ModeDecision, Source
from pointsman.contracts.names import Metric
from pointsman.contracts.policies import Candidate, Policy, PolicyDocument, Stage, Trigger
from pointsman.contracts.price_book import price_book
from pointsman.contracts.pricing import Cost, Usage
from pointsman.router import decision_log
from pointsman.router.admin.decision_reading import RecordReader
from pointsman.router.admin.pool_directory import PoolDirectory
from pointsman.router.decision_log import DecisionLog
from pointsman.router.exchange import Exchange, Leg
from pointsman.router.metrics import Metrics
from pointsman.router.policies import compile_policy
from pointsman.router.predictor import Predictor, features
from pointsman.router.snapshot import ModelView, TenantView
from support.exchanges import exchange_with

PREDICTOR = Predictor.load()
PRICES = {"think": {"input": 1, "output": 20, "reasoning": 30}, "no_think": {"input": 2, "output": 6}}
CONFIG = Config.model_validate(
    {
        "pools": [
            {"name": name, "model": "m", "modes": [mode], "engine": "simulated", "prices": PRICES[mode]}
            for name, mode in (("deep", "think"), ("fast", "no_think"))
        ],
        "tenants": [{"name": "open", "decisions": {"prompts": True}}],
    }
)
DEEP, FAST = CONFIG.pools
READER = RecordReader(PoolDirectory(CONFIG), price_book(CONFIG), {PREDICTOR.version: PREDICTOR}.get)
DOCUMENT = PolicyDocument()
TRIAL = PolicyDocument(candidate=Candidate(policy=Policy(threshold=0.9), stage=Stage.CANARY))


class FakeRedis:
    """Takes what is added, or is away."""

    def __init__(self) -> None:
        self.batches: list[bytes] = []
        self.longest: list[int] = []
        self.away = False

    async def xadd(self, name: str, fields: dict[str, bytes], *, maxlen: int, approximate: bool) -> None:
        if self.away:
            raise RedisAway
        self.batches.append(fields["batch"])
        self.longest.append(maxlen)


class FakePlace:
    """Knows how long answers are: unknown (0) or so many tokens."""

    def __init__(self, think: int = 0, no_think: int = 0) -> None:
        lengths = [SimpleNamespace(output_length=SimpleNamespace(seen=n, tokens=n)) for n in (think, no_think)]
        self._route = SimpleNamespace(think=lengths[0], no_think=lengths[1])

    def route(self, tenant: TenantView, model: ModelView) -> Any:
        return self._route


class Writing:
    """A log, what it is given, and what comes out at its other end."""

    def __init__(self, folder: Path, *, place: FakePlace | None = None, rate: int = 10_000) -> None:
        self.redis = FakeRedis()
        self.metrics = Metrics(folder)
        self.log = DecisionLog(
            cast(Any, self.redis), self.metrics, cast(Any, place or FakePlace()), secret="s", rate=rate
        )

    def unkept(self) -> float:
        return self.metrics.counter(Metric.UNKEPT_DECISIONS, {}).value

    def flush(self) -> list[DecisionRecord]:
        asyncio.run(self.log.flush())
        written, self.redis.batches = self.redis.batches, []
        return [READER.read(plain) for batch in written for plain in orjson.loads(batch)]

    def raw(self) -> str:
        asyncio.run(self.log.flush())
        return b"".join(self.redis.batches).decode()


def decided(
    question: str | None = None, *, kept: Kept | None = None, document: PolicyDocument = DOCUMENT, **fields: Any
) -> Exchange:
    """A request that was decided and answered without thinking."""
    exchange = exchange_with({"model": "m", "messages": [{"role": "user", "content": question or "x"}]})
    exchange.request_id, exchange.rid, exchange.key = "req-1", "ab" * 16, bytes(range(32))
    policy = compile_policy(document, version="7")
    exchange.tenant = TenantView("demo", {}, policy, "salt", kept or Kept())
    exchange.ruling, exchange.arm = policy, policy.present
    exchange.policy = policy.present.policy
    exchange.model = ModelView("m", {Mode.THINK: (DEEP,), Mode.NO_THINK: (FAST,)}, frozenset(Mode))
    exchange.question = question
    exchange.pool, exchange.usage, exchange.cost = FAST, Usage(10, 5, 0, 20), Cost(1, 2, 3, 4)
    probability = PREDICTOR.probability(question) if question else None
    exchange.decision = ModeDecision(Mode.NO_THINK, Source.PREDICTOR, 0.5, probability, "threshold")
    exchange.predictor = PREDICTOR
    for name, value in fields.items():
        setattr(exchange, name, value)
    return exchange


def test_a_record_says_what_was_decided_and_how_it_ended(tmp_path: Path) -> None:
    writing = Writing(tmp_path, place=FakePlace(think=300, no_think=100))
    exchange = decided("Prove it.", signals=(ClientSignal("model", Mode.THINK),), clamped={"max_tokens": 64})
    writing.log.note(exchange, 200, 1.5)
    (record,) = writing.flush()
    said = record.model_dump(mode="json", exclude={"evidence", "question", "at"})
    assert said == {
        "id": "dec-" + "ab" * 16,
        "request_id": "req-1",
        "tenant": "demo",
        "key": "00010203",
        "model": "m",
        "endpoint": "/v1/chat/completions",
        "mode": "no_think",
        "source": "predictor",
        "detail": "threshold",
        "rule": "",
        "probability": PREDICTOR.probability("Prove it."),
        "threshold": 0.5,
        "overruled": False,
        "wishes": [{"field": "model", "mode": "think"}],
        "policy_version": "7",
        "arm": "present",
        "stage": None,
        "shadow": None,
        "predictor": PREDICTOR.version,
        "pool": "fast",
        "status": 200,
        "error": None,
        "escalated": None,
        "floored": False,
        "stopped": "",
        "clamped": {"max_tokens": 64},
        "judgement": None,
        "usage": {"input": 10, "cached_input": 5, "reasoning": 0, "answer": 20, "estimated": False},
        "cost": 10,
        # 15 input tokens at 1 dollar, 200 thoughts at 30 and an answer of 100 at 20, per million
        "other_mode_cost_estimated": 15_000 + 200 * 30_000 + 100 * 20_000,
        "cost_shown": True,
        "first_byte": None,
        "duration": 1.5,
        "review": False,
    }
    score = sum(each.contribution for each in record.evidence)
    assert record.probability is not None
    assert math.isclose(1 / (1 + math.exp(-score)), record.probability, abs_tol=1e-6)
    assert exchange.body == b""
    assert not exchange.payload


def test_the_parts_of_the_work_are_added_up_and_a_trial_says_who_held(tmp_path: Path) -> None:
    writing = Writing(tmp_path)
    policy = compile_policy(TRIAL, version="8")
    leg = Leg(FAST, Mode.NO_THINK, Usage(1, 2, 3, 4, estimated=True))
    exchange = decided("x", legs=(leg,), pool=DEEP, escalated=Trigger.EMPTY, floored=True, stopped="repetition")
    exchange.judgement = Mode.THINK
    exchange.arm = policy.candidate
    exchange.decision = ModeDecision(Mode.THINK, Source.PREDICTOR, 0.9, 0.99, "threshold", shadow=Mode.NO_THINK)
    writing.log.note(exchange, 200, 1.0)
    (record,) = writing.flush()
    assert record.usage is not None
    assert tuple(record.usage.model_dump().values()) == (11, 7, 3, 24, True)
    assert (record.policy_version, record.by_candidate, record.stage) == ("8", True, Stage.CANARY)
    assert record.shadow is Mode.NO_THINK
    assert (record.escalated, record.floored, record.stopped) == (Trigger.EMPTY, True, "repetition")
    assert record.judgement is Mode.THINK
    assert record.doubts == (Doubt.JUDGEMENT, Doubt.ESCALATED)
    assert record.other_mode_cost_estimated is None


@pytest.mark.parametrize(
    ("think", "no_think", "mode", "cost"),
    [
        (0, 0, Mode.NO_THINK, None),
        (0, 50, Mode.NO_THINK, None),
        (80, 0, Mode.NO_THINK, 15_000 + 80 * 20_000),
        (80, 100, Mode.NO_THINK, 15_000 + 80 * 20_000),
        (80, 50, Mode.THINK, 15 * 2_000 + 50 * 6_000),
        (80, 0, Mode.THINK, None),
    ],
)
def test_what_the_other_mode_would_have_cost_is_told_once_something_is_known_of_it(
    tmp_path: Path, think: int, no_think: int, mode: Mode, cost: int | None
) -> None:
    writing = Writing(tmp_path, place=FakePlace(think, no_think))
    decision = ModeDecision(mode, Source.DEFAULT, 0.5, None, "")
    writing.log.note(decided("x", decision=decision), 200, 1.0)
    (record,) = writing.flush()
    assert record.other_mode_cost_estimated == cost


WORDS = st.lists(st.from_regex(r"[b-df-hj-np-tv-z]{6,12}", fullmatch=True), min_size=1, max_size=30)
"""Words without a vowel: what a record says by itself has none of them."""


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=WORDS, glue=st.sampled_from([" ", "\n", ". ", " prove that ", "?\nthink carefully about "]))
@example(words=["qwrtpsdf"] * 900, glue=" ")
def test_no_word_of_a_question_is_written_down_without_the_tenants_leave(
    tmp_path: Path, words: list[str], glue: str
) -> None:
    writing = Writing(tmp_path)
    question = glue.join(words)
    writing.log.note(decided(question), 200, 1.0)
    raw = writing.raw()
    kept = READER.read(orjson.loads(raw)[0]).model_dump_json()
    for text in (raw, kept):
        assert not any(word in text for word in words)
        assert hashlib.sha256(question.encode()).hexdigest() not in text  # which a guess could be held against
    assert {each["feature"] for each in orjson.loads(kept)["evidence"]} <= set(features.EVIDENCE_NAMES)


def test_a_tenant_that_keeps_prompts_finds_its_words(tmp_path: Path) -> None:
    writing = Writing(tmp_path)
    question = "Prove that the square root of 2 is irrational."
    long = "Which of these? " * 900
    for asked in (question, long):
        writing.log.note(decided(asked, kept=Kept(prompts=True)), 200, 1.0)
    record, longer = writing.flush()
    assert record.question is not None
    assert (record.question.text, record.question.language) == (question, "en")
    assert record.question.characters == len(question)
    assert any(each.feature == "“Prove”" for each in record.evidence)
    assert [each.contribution for each in record.evidence] == pytest.approx(
        [each.contribution for each in PREDICTOR.explain(question)]
    )
    assert longer.question is not None
    assert longer.question.characters == len(long)
    assert longer.question.text is not None
    assert 4000 <= len(longer.question.text) <= 4001
    score = sum(each.contribution for each in longer.evidence)
    assert 1 / (1 + math.exp(-score)) == pytest.approx(PREDICTOR.probability(long), abs=1e-6)


def test_equal_questions_of_one_tenant_have_one_hash_and_no_others(tmp_path: Path) -> None:
    writing = Writing(tmp_path)
    for question, name in (
        ("a?", "x"),
        ("a?", "x"),
        ("b?", "x"),
        ("a?", "y"),
        ("a?" * 3000, "x"),
        ("a?" * 3001, "x"),
    ):
        exchange = decided(question)
        assert exchange.tenant is not None
        exchange.tenant.name = name
        writing.log.note(exchange, 200, 1.0)
    hashes = [record.question.sha256 for record in writing.flush() if record.question]
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 5
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in hashes)


@pytest.mark.parametrize("document", [DOCUMENT, TRIAL])
def test_who_keeps_nothing_is_noted_for_a_policy_on_trial_only_and_without_the_question(
    tmp_path: Path, document: PolicyDocument
) -> None:
    writing = Writing(tmp_path)
    writing.log.note(decided("Prove it.", kept=Kept(keep=False, prompts=True), document=document), 200, 1.0)
    records = writing.flush()
    assert [record.kept for record in records] == ([] if document is DOCUMENT else [False])
    assert not any(record.question or record.evidence for record in records)


def test_redis_away_is_waited_out_up_to_a_bound_then_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decision_log, "MOST_WAITING", 5_000)
    writing = Writing(tmp_path)
    writing.redis.away = True
    for _ in range(20):
        writing.log.note(decided("x"), 200, 1.0)
        assert writing.flush() == []
    kept = 20 - writing.unkept()
    assert 4 <= kept <= 10
    writing.redis.away = False
    assert len(writing.flush()) == kept
    writing.log.note(decided("x"), 200, 1.0)
    assert len(writing.flush()) == 1
    assert writing.unkept() == 20 - kept


def test_more_notes_than_can_be_written_down_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decision_log, "MOST_NOTES", 70)
    writing = Writing(tmp_path)
    for _ in range(100):
        writing.log.note(decided("x"), 200, 1.0)
    assert writing.unkept() == 30
    assert len(writing.flush()) == 70


def test_above_the_rate_no_record_is_kept_but_of_policies_on_trial(tmp_path: Path) -> None:
    writing = Writing(tmp_path, rate=5)
    trial = compile_policy(TRIAL, version="8")
    for _ in range(60):
        writing.log.note(decided("x"), 200, 1.0)
        writing.log.note(decided("x", arm=trial.present), 200, 1.0)
    assert writing.unkept() == 10
    assert len(writing.flush()) == 50 + 60
    asyncio.run(asyncio.sleep(0.5))
    assert writing.flush() == []  # a round renews what may be kept
    for _ in range(10):
        writing.log.note(decided("x"), 200, 1.0)
    assert 2 <= len(writing.flush()) <= 9


def test_one_tenants_flood_does_not_push_out_the_records_of_others(tmp_path: Path) -> None:
    writing = Writing(tmp_path, rate=30)

    def ask(tenant: str, times: int) -> None:
        for _ in range(times):
            exchange = decided("x")
            assert exchange.tenant is not None
            exchange.tenant = replace(exchange.tenant, name=tenant)
            writing.log.note(exchange, 200, 1.0)

    for _ in range(50):
        ask("flood", 40)
        ask("calm", 1)
        ask("busy", 3)
    kept = Counter(record.tenant for record in writing.flush())
    assert kept["calm"] == 50
    assert kept["busy"] >= 75  # at least an even share
    assert sum(kept.values()) <= 2 * 300
    ask("flood", 1000)
    assert len(writing.flush()) == 0  # what others had beyond the rate is made up for first


def test_what_cannot_be_written_down_is_counted_and_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    writing = Writing(tmp_path)
    for number in range(5):
        writing.log.note(decided("our merger", rid=f"{number:032x}"), 200, 1.0)
    writing.log.note(decided("our merger", cost=Cost(2**70, 0, 0, 0)), 200, 1.0)  # beyond what JSON holds here
    assert [record.id[-1] for record in writing.flush()] == ["0", "1", "2", "3", "4"]
    assert writing.unkept() == 1
    assert "can't be written down" in caplog.text
    assert "merger" not in caplog.text


def test_the_stream_is_bounded_by_its_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decision_log, "MOST_IN_REDIS", 100_000)
    writing = Writing(tmp_path)
    for _ in range(4):
        writing.log.note(decided("x"), 200, 1.0)
        size = len(writing.raw().encode()) // len(writing.redis.batches)
    assert writing.redis.longest[-1] == pytest.approx(100_000 / size, rel=0.1)


def test_a_record_of_another_version_is_refused_by_name() -> None:
    for wrong in ({}, {"id": 1}, {"evidence": [[10_000, 0.5]], "features": features.VERSION}, {"usage": [1]}):
        with pytest.raises((LookupError, TypeError, ValueError)):
            READER.read(wrong)


def test_evidence_of_a_router_with_other_features_has_no_names_here(tmp_path: Path) -> None:
    writing = Writing(tmp_path)
    writing.log.note(decided("Prove it."), 200, 1.0)
    (plain,) = orjson.loads(writing.raw())
    assert READER.read(plain).evidence
    assert READER.read({**plain, "features": "1-other"}).evidence == ()


def test_cancelled_while_redis_is_slow_it_ends(tmp_path: Path) -> None:
    writing = Writing(tmp_path)

    async def swallow(*_: Any, **__: Any) -> None:
        with pytest.raises(asyncio.CancelledError):  # as redis-py does
            await asyncio.sleep(30)
        raise RedisAway

    async def cancelled() -> None:
        cast(Any, writing.redis).xadd = swallow
        writing.log.note(decided("x"), 200, 1.0)
        task = asyncio.create_task(writing.log.run())
        await asyncio.sleep(decision_log.INTERVAL + 0.1)
        task.cancel()
        await asyncio.wait_for(asyncio.gather(task, return_exceptions=True), 2)
        assert task.cancelled()

    asyncio.run(cancelled())
