"""A record comes back as it was, or not at all: under its own key, with the secret it was made with, unchanged."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from pointsman.contracts.ledger import Part
from pointsman.contracts.modes import Mode
from pointsman.contracts.names import Metric
from pointsman.contracts.policies import Trigger
from pointsman.contracts.pricing import Cost, Usage
from pointsman.router.metrics import Metrics
from pointsman.router.response_cache import memory, recorded
from pointsman.router.response_cache.billing import recalled
from pointsman.router.response_cache.memory import Memory
from pointsman.router.response_cache.recorded import Recorded, Seal, Wrong
from pointsman.store.response_cache import LARGEST, AnswerKey

KEY = AnswerKey("ab", "cd")
SEAL = Seal("secret")
counts = st.integers(0, 10**9)
parts = st.builds(
    Part,
    pool=st.text(max_size=4),
    mode=st.sampled_from(["think", "no_think", ""]),
    usage=st.tuples(counts, counts, counts, counts, st.booleans()).map(lambda each: Usage(*each)),
    cost=st.tuples(counts, counts, counts, counts).map(lambda each: Cost(*each)),
    price_version=st.integers(0, 9),
)
records = st.builds(
    Recorded,
    body=st.binary(max_size=2000) | st.just(b"word " * 2000),
    stream=st.booleans(),
    rid=st.text(max_size=5),
    mode=st.sampled_from(Mode),
    pool=st.text(max_size=5),
    parts=st.lists(parts, min_size=1, max_size=3).map(tuple),
    made_at=st.floats(0, 2e9),
    expires_at=st.floats(0, 2e9),
    usage_chunk=st.none() | st.just({"id": "x", "choices": []}),
    escalated=st.none() | st.sampled_from(Trigger),
    floored=st.booleans(),
    stopped=st.sampled_from(["", "repetition"]),
    judgement=st.none() | st.sampled_from(Mode),
    allowance=st.none() | counts,
    clamped=st.none() | st.just({"max_tokens": 5}),
    fingerprint=st.text("0123456789abcdef", max_size=8),
)
ONE = Recorded(b"body\nwith lines", False, "r", Mode.THINK, "p", (Part("p", "think", Usage(1), Cost(2), 0),), 1, 2)


@given(records)
def test_what_was_closed_opens_as_it_was(made: Recorded) -> None:
    entry = SEAL.closed(KEY, made)
    assert entry is not None
    assert SEAL.opened(KEY, entry) == made


@given(records, st.data())
def test_nothing_else_opens(made: Recorded, data: st.DataObject) -> None:
    entry = SEAL.closed(KEY, made)
    assert entry is not None
    at = data.draw(st.integers(0, len(entry) - 1))
    changed = bytes([*entry[:at], entry[at] ^ data.draw(st.integers(1, 255)), *entry[at + 1 :]])
    assert SEAL.opened(KEY, changed) is Wrong.FORGED
    assert SEAL.opened(KEY, entry[:at]) is Wrong.FORGED
    assert SEAL.opened(KEY, entry + b"\0") is Wrong.FORGED
    for other in (AnswerKey("ab", "ce"), AnswerKey("ac", "cd"), AnswerKey("abcd", "")):
        assert SEAL.opened(other, entry) is Wrong.FORGED
    assert Seal("another").opened(KEY, entry) is Wrong.FORGED


@given(st.binary(max_size=200))
def test_noise_opens_nothing(noise: bytes) -> None:
    assert SEAL.opened(KEY, noise) is Wrong.FORGED
    assert SEAL.opened(KEY, b"A1" + noise) is Wrong.FORGED


def test_what_another_version_wrote_or_would_burst_is_not_read() -> None:
    def sealed(data: bytes) -> bytes:
        return b"A1" + SEAL._mac(KEY, data) + data

    for head in (b"{}", b"[]", b"", b"no json", b'{"stream": false, "mode": "other"}'):
        assert SEAL.opened(KEY, sealed(b"\0" + head + b"\nbody")) is Wrong.UNREADABLE
    most = dataclasses.replace(ONE, body=b"\0" * recorded.LARGEST_BODY)
    bomb = dataclasses.replace(ONE, body=b"\0" * (recorded.LARGEST_BODY + 100_000))
    assert SEAL.opened(KEY, SEAL.closed(KEY, most) or b"") == most
    assert SEAL.opened(KEY, SEAL.closed(KEY, bomb) or b"") is Wrong.UNREADABLE
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(b"{}\n")
    assert SEAL.opened(KEY, sealed(b"\1" + unsized)) is Wrong.UNREADABLE
    assert SEAL.opened(KEY, sealed(b"\1" + b"no frame")) is Wrong.UNREADABLE
    assert SEAL.opened(KEY, sealed(b"\0" * LARGEST)) is Wrong.FORGED
    deep: dict[str, Any] = {}
    for _ in range(500):
        deep = {"id": deep}
    assert SEAL.closed(KEY, dataclasses.replace(ONE, usage_chunk=deep)) is None


@given(
    st.lists(parts, min_size=1, max_size=3).map(tuple),
    st.sampled_from([0.0, 0.1, 0.25, 1 / 3, 0.5, 1.0]),
    st.data(),
)
def test_a_share_of_each_amount_is_billed_and_never_more_than_was_set_aside(
    made: tuple[Part, ...], share: float, data: st.DataObject
) -> None:
    whole = sum(part.cost.total for part in made)
    told = recalled(made, share, None, replayed=False)
    billed = sum(part.cost.total for part in told.parts)
    amounts = sum(len(part.cost) for part in made)
    assert abs(billed - whole * share) <= amounts / 2 + whole * 1e-15
    assert told.saved == whole - billed
    assert [part.usage for part in told.parts] == [part.usage for part in made]
    if share in {0.0, 1.0}:
        assert billed == whole * share
    most = data.draw(st.integers(0, whole))
    capped = sum(part.cost.total for part in recalled(made, share, most, replayed=False).parts)
    assert capped <= most
    assert capped >= min(billed, most) - amounts


def test_memory_is_bounded_and_forgets_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr(memory, "monotonic", lambda: clock[0])
    monkeypatch.setattr(memory, "time", lambda: 5000.0)
    size = Metrics(tmp_path).cell("gauge_livesum", Metric.CACHE_BYTES, Metric.CACHE_BYTES, {})
    held = Memory(10_000, size)

    def made(length: int, seconds: float = 60) -> Recorded:
        changes: dict[str, Any] = {"body": b"x" * length, "expires_at": 5000 + seconds}
        return dataclasses.replace(ONE, **changes)

    keys = [AnswerKey("a", str(number)) for number in range(4)]
    for key in keys[:3]:
        held.put(key, made(1000))
    assert held.get(keys[0]) is not None  # which is now the one that was asked for last
    held.put(keys[3], made(1000))
    assert [held.get(key) is not None for key in keys] == [True, False, True, True]
    assert size.value == 3 * (1000 + 2048)
    held.put(keys[1], made(20_000))
    held.put(keys[1], made(1000, seconds=-1))
    assert held.get(keys[1]) is None
    held.put(keys[0], made(1000, seconds=5))
    clock[0] += 6
    assert held.get(keys[0]) is None
    held.clear()
    assert size.value == 0
