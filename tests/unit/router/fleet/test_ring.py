"""The ring: everybody gets a fair share, and a change of members moves no more than it must."""

from __future__ import annotations

import subprocess
import sys
from bisect import bisect_right
from collections import Counter
from zlib import crc32

from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.router.fleet.ring import Ring

NAMES = st.lists(
    st.from_regex(r"10\.0\.[0-9]\.[0-9]{1,2}:80", fullmatch=True), min_size=1, max_size=20, unique=True
)
KEYS = [crc32(f"what is {number}?".encode()) for number in range(500)]


def owner(ring: Ring[str], key: int) -> str:
    return ring.owners[bisect_right(ring.starts, key)]


@given(names=NAMES, data=st.data())
@settings(max_examples=40)
def test_a_replica_that_leaves_moves_its_own_conversations_alone(names: list[str], data: st.DataObject) -> None:
    gone = data.draw(st.sampled_from(names))
    left = [name for name in names if name != gone]
    if not left:
        return
    before, after = Ring(names, names), Ring(left, left)
    for key in KEYS:
        if owner(before, key) != gone:
            assert owner(after, key) == owner(before, key)


@given(names=NAMES, seed=st.randoms())
@settings(max_examples=20)
def test_the_order_of_registration_does_not_matter(names: list[str], seed: object) -> None:
    turned = names[::-1]
    first, second = Ring(names, names), Ring(turned, turned)
    assert [owner(first, key) for key in KEYS] == [owner(second, key) for key in KEYS]


def test_shares_are_fair_even_for_texts_that_differ_in_one_place() -> None:
    names = [f"10.1.2.{number}:30000" for number in range(16)]
    ring = Ring(names, names)
    counts = Counter(owner(ring, crc32(f"question {number}".encode())) for number in range(16_000))
    assert len(counts) == 16
    assert max(counts.values()) < 1500
    assert min(counts.values()) > 600


def test_every_hash_has_an_owner() -> None:
    ring = Ring(["a:1", "b:1"], ["a", "b"])
    for key in (0, ring.starts[0] - 1, ring.starts[0], ring.starts[-1], 2**32 - 1):
        assert owner(ring, key) in ("a", "b")
    assert owner(ring, 2**32 - 1) == owner(ring, 0)


@given(names=NAMES, key=st.integers(0, 2**32 - 1), count=st.integers(1, 25))
def test_successors_are_different_and_begin_with_the_owner(names: list[str], key: int, count: int) -> None:
    ring = Ring(names, names)
    found = ring.successors(bisect_right(ring.starts, key), count)
    assert found[0] == owner(ring, key)
    assert len(found) == len(set(found)) == min(count, len(names))


def test_another_process_sees_the_same_ring() -> None:
    """`hash()` would not do."""
    code = "from pointsman.router.fleet.ring import Ring; print(Ring(['a:1', 'b:2'], 'ab').starts)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == str(Ring(["a:1", "b:2"], "ab").starts)
