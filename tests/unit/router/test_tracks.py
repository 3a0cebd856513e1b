"""What is remembered of conversations' tracks, and for how long."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from pointsman.contracts.modes import Mode, ModeDecision, Source
from pointsman.router import tracks
from pointsman.router.exchange import Exchange
from pointsman.router.tracks import FRESH, SLOTS, Tracks
from support.exchanges import exchange_with


def answered(conversation: int, mode: Mode) -> Exchange:
    exchange = exchange_with({})
    exchange.conversation = conversation
    exchange.decision = ModeDecision(mode, Source.PREDICTOR, 0.5, 0.5, "threshold")
    return exchange


@pytest.mark.parametrize("conversation", [1, 77, SLOTS, 0xFFFFFFFF])
@pytest.mark.parametrize("mode", Mode)
def test_every_worker_and_its_successor_know(tmp_path: Path, conversation: int, mode: Mode) -> None:
    one, other = Tracks(tmp_path / "tracks"), Tracks(tmp_path / "tracks")
    assert one.last(conversation) is None
    one.note(answered(conversation, mode), 200)
    assert one.last(conversation) is other.last(conversation) is mode
    assert Tracks(tmp_path / "tracks").last(conversation) is mode
    other.note(answered(conversation, mode.other), 200)
    assert one.last(conversation) is mode.other


def test_a_newer_conversation_takes_the_place_of_an_older_one(tmp_path: Path) -> None:
    table = Tracks(tmp_path / "tracks")
    table.note(answered(7, Mode.THINK), 200)
    table.note(answered(7 + SLOTS, Mode.NO_THINK), 200)
    assert table.last(7) is None
    assert table.last(7 + SLOTS) is Mode.NO_THINK


def test_what_no_engine_has_answered_is_not_noted(tmp_path: Path) -> None:
    table = Tracks(tmp_path / "tracks")
    table.note(answered(7, Mode.THINK), 503)
    table.note(answered(0, Mode.THINK), 200)  # of no conversation
    recalled = answered(7, Mode.THINK)
    recalled.recalled = cast(Any, object())
    table.note(recalled, 200)
    assert table.last(7) is None
    assert table.last(0) is None


def test_a_track_is_forgotten_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table, now = Tracks(tmp_path / "tracks"), 1_800_000_000.0
    monkeypatch.setattr(tracks, "time", lambda: now)
    table.note(answered(7, Mode.THINK), 200)
    now += FRESH
    assert table.last(7) is Mode.THINK
    now += 1
    assert table.last(7) is None
