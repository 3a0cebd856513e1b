"""The arithmetic of the gateway benchmark: medians, what is added, what counts as merged, and the verdicts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from benchmarks.gateway.figures import (
    STREAM_32,
    UNARY_1,
    UNARY_32,
    Figure,
    Row,
    Verdict,
    disturbance,
    figure,
    ratio,
    row,
    verdicts,
)
from benchmarks.gateway.matrix import plan, rows
from benchmarks.gateway.report import judgement, matrix, warning
from benchmarks.gateway.tools import Cell
from benchmarks.wire_formats import Cost

RUST = ("smg", "vllm-router", "sglang-router")


def sample(**change: Any) -> dict[str, Any]:
    """One of 1,000 answers in 2 s, half of that on the gateway's CPU."""
    return {
        "subject": "pointsman",
        "repeat": 0,
        "kind": "unary",
        "connections": 32,
        "size": 512,
        "seconds": 2.0,
        "answers": 1000,
        "tokens": 0,
        "chunks": 0,
        "token_reads": 0,
        "cpu": 1.0,
        "helper_cpu": 0.1,
        "waited": 0.4,
        "rss": 1 << 20,
        "errors": {"status": 0, "reset": 0},
        "latency": {"p50": 500.0, "p90": 600.0, "p99": 900.0, "max": 1000.0},
        "first_token": {"p50": 400.0, "p90": 500.0, "p99": 800.0, "max": 900.0},
        "gap": None,
        "delay": None,
        **change,
    }


def stream(**change: Any) -> dict[str, Any]:
    times = {"p50": 10.0, "p90": 20.0, "p99": 1000.0, "max": 2000.0}
    counts = {"kind": "stream", "answers": 90, "tokens": 6400, "chunks": 6700, "token_reads": 3200}
    return sample(**{**counts, "gap": times, "delay": times, **change})


def line(found: list[Verdict], start: str) -> Verdict:
    (one,) = [verdict for verdict in found if verdict.line.startswith(start)]
    return one


def measured(throughput: float, **change: Any) -> Row:
    """A row without errors, at so many answers a second, which took all of its core."""
    base = row([sample()], {}, 64)
    taken = {"throughput": figure([throughput]), "cpu": figure([1e6 / throughput]), "busy": figure([1.0])}
    return replace(base, **{**taken, **change})


def test_a_figure_is_the_median_between_the_lowest_and_the_highest() -> None:
    assert figure([5, 1, 4]) == Figure(4, 1, 5)
    assert figure([4, 1, None, 3, 2]) == Figure(2.5, 1, 4)
    assert figure([None]) is None


def test_throughput_and_cpu_are_per_second_and_per_answer() -> None:
    found = row([sample()], {}, 64)
    assert found.throughput == Figure(500, 500, 500)
    assert found.cpu == Figure(1000, 1000, 1000)
    assert found.helper_cpu == Figure(100, 100, 100)
    assert found.busy == Figure(0.5, 0.5, 0.5)
    assert found.waited == Figure(0.2, 0.2, 0.2)


def test_streams_are_counted_by_their_tokens() -> None:
    found = row([stream()], {}, 64)
    assert found.throughput == Figure(50, 50, 50)
    assert found.cpu == Figure(10_000, 10_000, 10_000)
    assert found.chunks == Figure(6700 / 6400, 6700 / 6400, 6700 / 6400)
    assert found.reads == Figure(0.5, 0.5, 0.5)


def test_what_a_gateway_adds_is_told_against_direct_in_the_same_repeat() -> None:
    slow = {"p50": 300.0, "p90": 0.0, "p99": 400.0, "max": 0.0}
    fast = {"p50": 100.0, "p90": 0.0, "p99": 100.0, "max": 0.0}
    direct = {0: sample(latency=slow), 1: sample(latency=fast)}
    found = row([sample(), sample(repeat=1), sample(repeat=2)], direct, 64)
    assert found.added_p50 == Figure(300, 200, 400)
    assert found.added_p99 == Figure(650, 500, 800)


def test_nothing_answered_is_no_figure_and_no_division_by_zero() -> None:
    empty = sample(answers=0, latency=None, first_token=None, errors={"status": 7, "reset": 1})
    found = row([empty], {0: sample()}, 64)
    assert found.throughput == Figure(0, 0, 0)
    assert found.cpu is None
    assert found.added_p50 is None
    assert found.errors == 8


@pytest.mark.parametrize(("chunks", "merged"), [(6700, False), (6370, False), (6360, True), (100, True)])
def test_merged_is_more_than_a_twentieth_below_direct(chunks: int, merged: bool) -> None:
    assert row([stream(chunks=chunks)], {0: stream()}, 64).merged is merged


def test_a_row_without_streams_is_not_merged() -> None:
    assert not row([sample()], {0: sample()}, 64).merged


def test_samples_are_grouped_by_cell_and_subject_with_direct_of_the_same_cell() -> None:
    other = {"p50": 50.0, "p90": 0.0, "p99": 50.0, "max": 0.0}
    found = rows(
        [
            sample(subject="direct", latency=other),
            sample(),
            sample(subject="direct", connections=1),
            sample(connections=1),
        ],
        64,
    )
    assert list(found) == [UNARY_32, UNARY_1]
    own = found[UNARY_32]["pointsman"]
    assert own.added_p50
    assert own.added_p50.median == 450
    single = found[UNARY_1]["pointsman"]
    assert single.added_p50
    assert single.added_p50.median == 0


def test_cpu_is_compared_within_each_repeat() -> None:
    base = [sample(repeat=number, cpu=cpu) for number, cpu in enumerate((1.0, 2.0, 4.0))]
    more = [sample(repeat=number, cpu=cpu) for number, cpu in enumerate((1.1, 2.0, 6.0))]
    changed = ratio(more, base, 64)
    assert changed
    assert (changed.median, changed.low, changed.high) == pytest.approx((1.1, 1.0, 1.5))


@pytest.mark.parametrize(("own", "reached"), [(1000, True), (999, False)])
def test_throughput_is_judged_against_the_peer(own: float, reached: bool) -> None:
    found = verdicts({UNARY_32: {"pointsman": measured(own), "smg": measured(1000)}}, {}, None, None, RUST)
    assert line(found, "unary at 32 connections, against smg").holds is reached
    assert line(found, "unary at 32 connections, against LiteLLM").holds is None


def test_streams_are_judged_against_the_best_rust_peer() -> None:
    peers = {"smg": measured(100), "vllm-router": measured(400), "litellm": measured(9000)}
    for own, reached in ((800, True), (799, False)):
        found = verdicts({STREAM_32: {"pointsman": measured(own), **peers}}, {}, None, None, RUST)
        judged = line(found, "streams at 32")
        assert judged.holds is reached
        assert "vllm-router" in judged.got


@pytest.mark.parametrize(
    ("throughput", "idle", "verdict"),
    [(799, "pointsman", None), (800, "pointsman", True), (799, "vllm-router", False), (800, "vllm-router", None)],
)
def test_throughput_that_the_load_may_have_set_is_not_judged(
    throughput: float, idle: str, verdict: bool | None
) -> None:
    there = {"pointsman": measured(throughput), "vllm-router": measured(400)}
    there[idle] = replace(there[idle], busy=figure([0.84]))
    judged = line(verdicts({STREAM_32: there}, {}, None, None, RUST), "streams at 32")
    assert judged.holds is verdict
    assert ("load" in judged.got) is (verdict is None)


@pytest.mark.parametrize(("cpu", "reached"), [(1250.0, True), (1251.0, False)])
def test_streams_per_core_are_judged_by_the_cpu_of_the_gateway(cpu: float, reached: bool) -> None:
    own = measured(400, cpu=figure([cpu]), helper_cpu=figure([1250.0]), busy=figure([0.5]))
    peers = {"smg": measured(300), "vllm-router": measured(350, cpu=figure([2500.0]))}
    judged = line(verdicts({STREAM_32: {"pointsman": own, **peers}}, {}, None, None, RUST), "streams per core")
    assert judged.holds is reached
    assert "400/s of vllm-router" in judged.got
    assert "400/s with helpers" in judged.got


def test_merged_chunks_are_not_let_pass() -> None:
    chunks = Figure(0.5, 0.5, 0.5)
    for merged in (True, False):
        own = measured(800, chunks=chunks, merged=merged)
        found = verdicts({STREAM_32: {"pointsman": own}}, {}, None, None, RUST)
        assert line(found, "chunks of streams").holds is not merged
    assert line(verdicts({}, {}, None, None, RUST), "chunks of streams").holds is None


@pytest.mark.parametrize(("p50", "p99", "reached"), [(350, 1500, (True, True)), (351, 1501, (False, False))])
def test_added_latency_is_judged_in_microseconds(p50: float, p99: float, reached: tuple[bool, bool]) -> None:
    own = measured(1, added_p50=Figure(p50, p50, p50), added_p99=Figure(p99, p99, p99))
    found = verdicts({UNARY_1: {"pointsman": own}}, {}, None, None, RUST)
    got = (line(found, "added latency at 1 connection, p50"), line(found, "added latency at 1 connection, p99"))
    assert tuple(verdict.holds for verdict in got) == reached


@pytest.mark.parametrize(
    ("change", "reached"), [(1.0, True), (1.09, True), (0.91, True), (1.11, False), (0.8, False)]
)
def test_scaling_may_change_by_a_tenth_either_way(change: float, reached: bool) -> None:
    found = verdicts({}, {"1,000 tenants against 1": Figure(change, change, change)}, None, None, RUST)
    assert line(found, "CPU per request, 1,000 tenants").holds is reached


def test_a_crowd_of_streams_is_judged_by_errors_memory_and_gaps() -> None:
    good = {"streams": 4000, "errors": 0, "rss": 2**30, "added_gap_p99": 50_000.0}
    bad = {"streams": 4000, "errors": 1, "rss": 2**30 + 1, "added_gap_p99": 50_001.0}
    for crowd, reached in ((good, True), (bad, False)):
        found = [
            verdict for verdict in verdicts({}, {}, crowd, None, RUST) if verdict.line.startswith("4000 streams")
        ]
        assert [verdict.holds for verdict in found] == [reached] * 3


@pytest.mark.parametrize(("added", "reached"), [(5000.0, True), (-20.0, True), (5001.0, False), (None, None)])
def test_a_page_may_hold_tokens_up_by_five_milliseconds(added: float | None, reached: bool | None) -> None:
    found = verdicts({}, {}, None, {"page": "/metrics", "added_gap_p99": added}, RUST)
    assert line(found, "/metrics asked for during streams").holds is reached


@pytest.mark.parametrize(
    ("cost", "reached"), [(Cost(60, 60, 6, 6), [True, True]), (Cost(1, 61, 1, 7), [False, False])]
)
def test_anthropics_format_is_judged_by_its_dearest_figures(cost: Cost, reached: list[bool]) -> None:
    found = verdicts({}, {}, None, None, RUST, cost)
    assert [verdict.holds for verdict in found if verdict.line.startswith("Anthropic's format")] == reached


def test_a_run_on_a_busy_machine_says_so() -> None:
    assert disturbance([sample(), sample(waited=0.0)]) == 0.1
    assert disturbance([]) == 0
    assert "quiet machine" in warning(0.1)
    assert "was quiet" in warning(0.01)


def test_errors_of_any_cell_are_a_verdict() -> None:
    cells = {UNARY_1: {"pointsman": measured(1)}, UNARY_32: {"pointsman": measured(1, errors=2)}}
    assert line(verdicts(cells, {}, None, None, RUST), "errors of pointsman").holds is False


def test_the_tables_show_spread_errors_merging_and_idle_cores() -> None:
    merging = row([stream(chunks=100, errors={"reset": 3})], {0: stream()}, 64)
    shown = matrix({STREAM_32: {"smg": merging}})
    assert "smg *" in shown
    assert "merged" in shown
    assert "50 (50 .. 50)" in shown
    assert shown.splitlines()[2].split()[-1] == "3"
    assert "NO" in judgement([Verdict("a line", "much", "little", False)])


def test_the_whole_matrix_is_planned_and_a_quick_one_is_shorter() -> None:
    whole = plan(quick=False, repeats=None, seconds=None, streams=4000)
    cells = {visit.cell for visit in whole.visits}
    unary = {Cell("unary", count, size) for count in (1, 32, 256) for size in (512, 8192, 65536)}
    assert cells == unary | {Cell("stream", count, 512) for count in (1, 32, 256)}
    assert whole.scaling_repeats == 7
    quick = plan(quick=True, repeats=None, seconds=None, streams=4000)
    assert {UNARY_1, UNARY_32, STREAM_32} <= {visit.cell for visit in quick.visits} < cells
    spent = [sum(visit.repeats * visit.seconds for visit in item.visits) for item in (quick, whole)]
    assert spent[0] < spent[1] / 3
