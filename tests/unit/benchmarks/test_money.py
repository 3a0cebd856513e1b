"""The benchmark of admission and settlement runs, and they cost something, and no more than they may by far."""

from __future__ import annotations

import pytest

from benchmarks import money


def test_each_kind_of_tenant_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    money.main(rounds=5)
    _, unlimited, limited = capsys.readouterr().out.splitlines()
    for row, kind in ((unlimited, "without limits"), (limited, "limits and budgets")):
        assert row.startswith(kind)
        admit, settle, headers, shipping, together = map(float, row.removeprefix(kind).split()[:5])
        assert 0 < admit < 5 * money.BOUND
        assert 0 < settle < 5 * money.BOUND
        assert (headers > 0) is (kind == "limits and budgets")
        assert 0 < shipping < 5 * money.BOUND
        assert together == pytest.approx(admit + settle + headers + shipping, abs=0.03)
