"""The table of weights: what is packed is found again, what is not weighs nothing, a full bucket keeps the best."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pointsman.router.predictor.table import CELLS, EMPTY, MARK_BITS, WAYS, Table, packed

_MARKS = 1 << MARK_BITS
_NEAR = st.integers(0, 3 * _MARKS - 1)
"""Cells of three buckets."""
_WEIGHTS = st.dictionaries(
    _NEAR | st.integers(0, CELLS - 1), st.floats(-3, 3).filter(lambda weight: abs(weight) > 1e-9), max_size=40
)


def _packed(weights: dict[int, float], strengths: dict[int, float] | None = None) -> Table:
    cells = np.array(sorted(weights), np.int64)
    said = np.array([weights[cell] for cell in cells.tolist()], float)
    strong = np.abs(said) if strengths is None else np.array([strengths[cell] for cell in cells.tolist()])
    return packed(cells, said, strong)


@given(_WEIGHTS)
def test_what_a_bucket_has_room_for_is_found_again(weights: dict[int, float]) -> None:
    table = _packed(weights)
    largest = max(map(abs, weights.values()), default=0.0)
    for bucket in {cell // _MARKS for cell in weights}:
        cells = [cell for cell in weights if cell // _MARKS == bucket]
        found = dict(zip(cells, table.weights_of(np.array(cells)).tolist(), strict=True))
        lost = [cell for cell in cells if found[cell] == 0]
        kept = [cell for cell in cells if found[cell] != 0]
        assert len(kept) <= WAYS
        for cell in kept:
            # A step is 1/127 of the root of the largest weight, half of it at most is lost.
            assert abs(found[cell] - weights[cell]) <= largest / 127 + 1e-6
            assert found[cell] * weights[cell] > 0
        for cell in lost:
            tiny = abs(weights[cell]) <= largest / 127**2
            assert tiny or (len(kept) == WAYS and all(abs(weights[each]) >= abs(weights[cell]) for each in kept))


@given(_WEIGHTS, st.lists(_NEAR | st.integers(0, CELLS - 1), min_size=1))
def test_what_was_never_packed_weighs_nothing(weights: dict[int, float], others: list[int]) -> None:
    table = _packed(weights)
    strangers = np.array([cell for cell in others if cell not in weights] or [CELLS - 1 if not weights else 0])
    if not set(strangers.tolist()) & set(weights):
        assert not table.weights_of(strangers).any()


@given(_WEIGHTS)
def test_what_is_held_packs_into_the_same_table(weights: dict[int, float]) -> None:
    table = _packed(weights)
    cells, held = table.held()
    assert (np.diff(cells) > 0).all()
    assert (table.weights_of(cells) == held).all()
    again = packed(cells, held.astype(float), np.ones(len(cells)))
    assert np.allclose(again.weights_of(cells), held, atol=1e-6)


def test_room_is_what_a_bucket_has_left() -> None:
    full = _packed({_MARKS + mark: 1.0 + mark for mark in range(WAYS)})
    asked = np.array([_MARKS, _MARKS + WAYS, 2 * _MARKS])
    assert full.has_room_for(asked).tolist() == [True, False, True]
    assert EMPTY.has_room_for(asked).all()


def test_what_is_strong_stays_whatever_it_weighs() -> None:
    weights = {mark: 1.0 + mark for mark in range(WAYS + 1)}
    table = _packed(weights, {mark: float("inf") if mark == 0 else weight for mark, weight in weights.items()})
    assert table.weights_of(np.arange(WAYS + 1)).astype(bool).tolist() == [True, False, *[True] * (WAYS - 1)]


def test_steps_are_told_apart_near_nothing_and_far_from_it() -> None:
    steps = Table(EMPTY.entries, 2.0).steps()
    assert steps.shape == (256,)
    assert (steps[0], steps[127], steps[255]) == (0, 2, -2)
    assert 0 < steps[1] < 2 / 10_000
    assert (np.diff(steps[:128]) > 0).all()
