"""Commands do not start a thread of NumPy's for each core of a machine that has other work."""

from __future__ import annotations

import os

import pytest

from pointsman.cli.main import main


@pytest.mark.parametrize(("given", "there"), [(None, "1"), ("4", "4")])
def test_one_thread_is_enough_unless_more_are_asked_for(
    given: str | None, there: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", given or "")
    if given is None:
        monkeypatch.delenv("OPENBLAS_NUM_THREADS")
    monkeypatch.setattr("sys.argv", ["pointsman", "--help"])
    with pytest.raises(SystemExit):
        main()
    assert os.environ["OPENBLAS_NUM_THREADS"] == there
