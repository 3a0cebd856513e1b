"""The spool: what was written is there whatever kills its process, and goes only when it may."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pointsman.contracts.errors import LedgerFull
from pointsman.contracts.ledger import Outcome, Part
from pointsman.contracts.modes import Mode, ModeDecision, Source
from pointsman.contracts.pricing import Cost, Usage
from pointsman.router.exchange import Exchange
from pointsman.router.ledger import Ledger, records
from pointsman.router.ledger.adoption import seal
from pointsman.router.ledger.spool import FIRST, INTENT, SEGMENT, SETTLEMENT, Folder, Segment, Spool, other_folders
from pointsman.router.metrics import Metrics
from pointsman.router.snapshot import ModelView, TenantView
from support.exchanges import exchange_with

LARGE = 1 << 40


def spool(path: Path, name: str = "run", *, most: int = LARGE) -> Spool:
    return Spool(Folder.fresh(path, name), most=most)


def settled(spool: Spool) -> list[bytes]:
    return [record for segment in spool.segments for kind, record in segment.records() if kind == SETTLEMENT]


def intent(identity: str, *, at: int = 5) -> bytes:
    return records.intent(identity, at, "acme", "0123abcd", "req-1", "model", "think", True, 77)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_process_that_dies_at_any_byte_leaves_whole_records(tmp_path: Path, data: st.DataObject) -> None:
    """Whatever part of the last record was stored: those before it are read, and no half one."""
    folder = tmp_path / "segments"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    written = data.draw(st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=20))
    segment = Segment.make(folder / "00000001.segment")
    segment.use(0)
    last = FIRST
    for record in written:
        last = segment.at
        assert segment.append(SETTLEMENT, record)
    segment.close()
    image = bytearray(segment.path.read_bytes())
    cut = data.draw(st.integers(min_value=0, max_value=len(written[-1])))
    image[last : last + 8] = b"\0" * 8  # the word that is stored last
    image[last + 8 + cut :] = b"\0" * (SEGMENT - last - 8 - cut)
    segment.path.write_bytes(image)
    found = Segment.read(segment.path)
    assert found is not None
    assert [record for _, record in found.records()] == written[:-1]
    assert found.count == len(written) - 1
    found.close()


def test_sigkill_loses_nothing_that_was_written(tmp_path: Path) -> None:
    told, tells = os.pipe()
    child = os.fork()
    if child == 0:
        one = spool(tmp_path)
        for number in range(10**9):
            one.append(SETTLEMENT, b"%d" % number * 100)
            os.write(tells, b"%d\n" % number)
    os.close(tells)
    with os.fdopen(told, "rb") as heard:
        for _ in range(5000):
            last = heard.readline()
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        last = ([last, *heard.read().splitlines(keepends=True)])[-1]
    folder = Folder.dead(tmp_path / "run")
    assert folder is not None
    again = Spool(folder, most=LARGE)
    again.take_over()
    found = settled(again)
    assert found == [b"%d" % number * 100 for number in range(len(found))]
    assert int(last) < len(found) <= int(last) + 2
    assert len(again.segments) > 1
    assert again.number == len(found)


def test_one_adopts_and_only_the_dead(tmp_path: Path) -> None:
    one = spool(tmp_path, "one")
    one.append(INTENT, intent("a"))
    assert Folder.dead(tmp_path / "one") is None
    one.close()
    one.folder.release()  # as the end of its process does
    first = Folder.dead(tmp_path / "one")
    assert first is not None
    assert Folder.dead(tmp_path / "one") is None
    first.delete()
    assert Folder.dead(tmp_path / "one") is None
    stray = tmp_path / ".never"
    stray.mkdir()
    (stray / "lock").touch()
    assert other_folders(tmp_path, "own") == []
    assert stray.exists()
    os.utime(stray, (time.time() - 3600,) * 2)
    assert other_folders(tmp_path, "own") == []
    assert not stray.exists()


def test_what_was_intended_and_not_settled_is_lost_and_bills_nothing(tmp_path: Path) -> None:
    one = spool(tmp_path)
    for name in "abc":
        one.append(INTENT, intent(name))
    part = Part("pool", "think", Usage(1, 2, 3, 4, True), Cost(5, 6, 7, 8), 9)
    one.append(SETTLEMENT, records.settlement(intent("b"), 6, "no_think", 200, "answered", "hit", [part]))
    one.close()
    one.folder.release()
    for lost in (2, 0):  # whoever took over may have been killed: the next one finds nothing more to do
        folder = Folder.dead(tmp_path / "run")
        assert folder is not None
        again = Spool(folder, most=LARGE)
        assert seal(again) == lost
        entries = [
            records.entry_of(records.loads(record), router="run", number=number)
            for number, record in enumerate(settled(again))
        ]
        assert [(entry.id, entry.outcome, entry.total) for entry in entries] == [
            ("b", Outcome.ANSWERED, 26),
            ("a", Outcome.LOST, 0),
            ("c", Outcome.LOST, 0),
        ]
        assert entries[0].parts == (part,)
        assert (entries[0].mode, entries[0].cache, entries[1].mode, entries[1].status) == (
            "no_think",
            "hit",
            "think",
            502,
        )
        assert again.number == 3
        again.close()
        folder.release()


def test_a_damaged_record_leaves_the_others_their_numbers(tmp_path: Path) -> None:
    one = spool(tmp_path)
    for number in range(3):
        one.append(SETTLEMENT, b"%d" % number * 20)
    path = one.segments[0].path
    one.close()
    image = bytearray(path.read_bytes())
    image[image.index(b"1" * 20)] ^= 1
    path.write_bytes(image)
    found = Segment.read(path)
    assert found is not None
    assert [record for _, record in found.records()] == [b"0" * 20, b"", b"2" * 20]
    assert found.count == 3
    found.close()


def test_segments_go_when_all_is_committed_and_nothing_in_them_is_open(tmp_path: Path) -> None:
    one = spool(tmp_path)
    first = one.append(INTENT, b"x")
    first.open += 1
    while len(one.segments) < 4:
        one.append(SETTLEMENT, b"y" * 4000)
    ends = [segment.first + segment.count for segment in one.segments]
    one.forget(ends[0])
    assert len(one.segments) == 4  # an intent in the first is open
    one.forget(ends[1])
    assert [segment.first for segment in one.segments] == [0, ends[1], ends[2]]
    first.open -= 1
    one.forget(ends[3])
    assert [segment.first for segment in one.segments] == [ends[2]]
    one.sweep()
    assert len(one.folder.segments()) == 1
    one.close()


def test_a_segment_that_is_written_to_again_says_nothing_of_before(tmp_path: Path) -> None:
    one = Spool(Folder.fresh(tmp_path, "run"), most=LARGE, spares=1)
    while len(one.segments) < 3:
        one.append(SETTLEMENT, b"y" * 4000)
    one.forget(one.segments[1].first + one.segments[1].count)
    one.sweep()
    assert (len(one.segments), one.prepared, len(one.folder.segments())) == (1, 1, 2)
    while one.prepared:
        one.append(SETTLEMENT, b"z")
    numbers, last = one.number, one.segments[-1].first
    one.close()
    one.folder.release()
    folder = Folder.dead(tmp_path / "run")
    assert folder is not None
    again = Spool(folder, most=LARGE)
    again.take_over()
    assert (again.number, again.segments[-1].first) == (numbers, last)
    assert settled(again)[-1] == b"z"
    again.close()


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "spool", cast(Any, _NoRedis()), Metrics(tmp_path / "metrics"), most=8 * SEGMENT)


class _NoRedis:
    def register_script(self, text: str) -> None:
        return None


def decided(number: int) -> Exchange:
    exchange = exchange_with({"model": "m"})
    exchange.rid = f"{number:032x}"
    exchange.request_id = f"{number:0128x}"  # as long as a client's own may be
    exchange.tenant = cast(TenantView, type("Tenant", (), {"name": "t" * 63}))
    exchange.model = ModelView("m" * 128, {}, frozenset())
    exchange.decision = ModeDecision(Mode.THINK, Source.CLIENT, 0.5, None, "model")
    return exchange


def test_a_full_spool_lets_nobody_in_and_has_room_for_all_who_are(ledger: Ledger) -> None:
    running: list[Exchange] = []

    def let_in_as_many_as_there_is_room_for() -> None:
        while len(running) < 100_000:
            exchange = decided(len(running))
            ledger.intend(exchange)
            running.append(exchange)

    with pytest.raises(LedgerFull):
        let_in_as_many_as_there_is_room_for()
    assert len(running) > 500
    assert ledger.trouble() is not None
    parts = tuple(
        Part("p" * 63, Mode.NO_THINK, Usage(10**9, 10**9, 10**9, 10**9), Cost(*[10**15] * 4), 9) for _ in range(4)
    )
    for exchange in running:
        exchange.parts = parts
        ledger.settle(exchange, 200)
    assert ledger.waiting == len(running)
    refused = decided(0)
    ledger.settle(refused, 503)  # which was never let in
    assert ledger.waiting == len(running)


def test_the_time_of_a_request_is_the_same_however_often_it_is_asked(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange = decided(1)
    at = ledger.at(exchange)
    assert abs(at - time.time() * 1000) < 5000
    monkeypatch.setattr(ledger, "_since", 0.0)  # the clock was set back
    assert ledger.at(exchange) == at
