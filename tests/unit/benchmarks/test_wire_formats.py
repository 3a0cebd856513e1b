"""The benchmark of wire formats runs, and a format costs something, and no more than it may by far."""

from __future__ import annotations

import pytest

from benchmarks import wire_formats


def test_each_format_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    wire_formats.main(rounds=10)
    _, *rows = capsys.readouterr().out.splitlines()
    assert len(rows) == len(wire_formats.BODIES)
    for row in rows:
        path, *figures = row.split()
        whole, stream, chunk, of_several = map(float, figures)
        assert path in set(wire_formats.BODIES)
        assert 0 < whole < 6 * 60
        assert 0 < stream < 6 * 60
        assert 0 < chunk < 4 * 6
        assert 0 < of_several < 4 * 6
