"""The measurement of the hot path goes all the way: a request that is refused would be cheap."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from benchmarks import hot_path
from benchmarks.hot_path import KINDS, HotPath


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_answered_and_settled(kind: str, tmp_path: Path) -> None:
    path = HotPath(tmp_path)
    hot_path._round(path, kind, 3)
    written = path._client_side.written
    if kind == "unary":
        head, _, body = written.partition(b"\r\n\r\n")
        assert b"x-pointsman-mode-source: predictor" in head
        assert orjson.loads(body)["usage"]["completion_tokens"] == hot_path.TOKENS
    else:
        assert b'"completion_tokens":64' in written
    assert path._plane.ledger._spool.number == 3


def test_tenants_ask_in_turn(tmp_path: Path) -> None:
    path = HotPath(tmp_path, tenants=5, asking=3)
    hot_path._round(path, "unary", 9)
    assert len(path._plane.snapshot.tenants.views) == 3
    assert len(path._plane.snapshot.tenants.entries()) == 5


def test_replicas_are_asked_in_turn(tmp_path: Path) -> None:
    path = HotPath(tmp_path, replicas=3)
    asked = set()
    for _ in range(60):
        path._client.data_received(path.request(stream=False))
        (connection,) = path._in_use
        path._in_use.clear()
        asked.add(connection)
        for data in hot_path._UNARY:
            connection.data_received(data)
    assert len(asked) >= 3


def test_no_question_is_asked_twice(tmp_path: Path) -> None:
    path = HotPath(tmp_path)
    assert len({path.request(stream=False) for _ in range(100)}) == 100
