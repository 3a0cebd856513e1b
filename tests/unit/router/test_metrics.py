"""Counters in files: what is added is what a scrape reads, exactly, from any number of processes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.parser import text_string_to_metric_families

from pointsman.contracts.names import Metric
from pointsman.contracts.pricing import NANO, Cost, Usage
from pointsman.router import metrics as metrics_module
from pointsman.router.metrics import LATENCY_BUCKETS, OTHERS, Metrics
from support.gateway import sample_sum


def page(folder: Path) -> str:
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=str(folder))
    return generate_latest(registry).decode()


def test_a_number_can_be_read_as_soon_as_it_has_changed(tmp_path: Path) -> None:
    account = Metrics(tmp_path).account("t", "m", "think", "p")
    for count in range(1, 4):
        account.ended(200)
        assert sample_sum(page(tmp_path), Metric.REQUESTS, tenant="t", status="200") == count


def test_numbers_stay_right_while_their_file_grows(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path)
    tenants = 300
    for _ in range(3):
        for index in range(tenants):
            account = metrics.account(f"t{index}", "m", "think", "p")
            account.spent(Usage(1, 2, 3, 4), Cost(5, 6, 7, 8))
            account.ended(200)
    text = page(tmp_path)
    assert sum(path.stat().st_size for path in tmp_path.glob("counter*")) > 1 << 17, "the file never grew"
    assert {sample_sum(text, Metric.REQUESTS, tenant=f"t{index}") for index in (0, 1, 150, 299)} == {3}
    assert sample_sum(text, Metric.TOKENS) == 3 * tenants * (1 + 2 + 3 + 4)
    assert round(sample_sum(text, Metric.COST) * NANO) == 3 * tenants * (5 + 6 + 7 + 8)


def test_of_too_many_tenants_the_later_ones_are_counted_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics_module, "MAX_TENANTS", 2)
    metrics = Metrics(tmp_path)
    for _ in range(2):
        for tenant in ("", "a", "b", "c", "d"):
            account = metrics.account(tenant, "m", "think", "p")
            account.spent(Usage(1, 2, 3, 4), Cost(5, 6, 7, 8))
            account.ended(200)
            metrics.counter(Metric.REPLAYS, {"tenant": tenant}).add(1)
    text = page(tmp_path)
    for name, one in ((Metric.REQUESTS, 2), (Metric.TOKENS, 20), (Metric.REPLAYS, 2)):
        assert {tenant: sample_sum(text, name, tenant=tenant) for tenant in ("", "a", "b", "c", "d", OTHERS)} == {
            "": one,
            "a": one,
            "b": one,
            "c": 0,
            "d": 0,
            OTHERS: 2 * one,
        }
    assert round(sample_sum(text, Metric.COST, tenant=OTHERS) * NANO) == 4 * 26
    assert {tenant for tenant, *_ in metrics._accounts} == {"", "a", "b", OTHERS}


@settings(max_examples=40)
@given(
    amounts=st.lists(
        st.tuples(*[st.tuples(st.integers(0, 10**6), st.integers(0, 10**12)) for _ in range(4)]), max_size=20
    )
)
def test_tokens_and_dollars_are_exact(
    tmp_path_factory: pytest.TempPathFactory, amounts: list[tuple[tuple[int, int], ...]]
) -> None:
    folder = tmp_path_factory.mktemp("metrics")
    metrics = Metrics(folder)
    account = metrics.account("t", "m", "think", "p")
    for classes in amounts:
        tokens, nano = zip(*classes, strict=True)
        account.spent(Usage(*tokens), Cost(*(cost if count else 0 for count, cost in classes)))
        assert nano
    text = page(folder)
    for index, name in enumerate(("input", "cached_input", "reasoning", "answer")):
        told = sum(classes[index][0] for classes in amounts)
        paid = sum(classes[index][1] for classes in amounts if classes[index][0])
        assert sample_sum(text, Metric.TOKENS, token_class=name) == told
        assert round(sample_sum(text, Metric.COST, token_class=name) * NANO) == paid


@settings(max_examples=40)
@given(seconds=st.lists(st.floats(0, 1000), max_size=30))
def test_a_histogram_counts_each_value_once_in_its_bucket(
    tmp_path_factory: pytest.TempPathFactory, seconds: list[float]
) -> None:
    folder = tmp_path_factory.mktemp("metrics")
    account = Metrics(folder).account("t", "m", "think", "p")
    for value in seconds:
        account.latencies.first_byte.observe(value)
    samples = [sample for family in text_string_to_metric_families(page(folder)) for sample in family.samples]
    told = {(sample.name, sample.labels.get("le")): sample.value for sample in samples}
    assert told[f"{Metric.TTFT}_count", None] == len(seconds)
    assert told[f"{Metric.TTFT}_sum", None] == pytest.approx(sum(seconds))
    for bound in LATENCY_BUCKETS:
        assert told[f"{Metric.TTFT}_bucket", str(float(bound))] == sum(value <= bound for value in seconds)


def test_sums_survive_a_restart_and_add_up_over_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for pid in (101, 102, 101):
        monkeypatch.setattr(os, "getpid", lambda pid=pid: pid)
        metrics = Metrics(tmp_path)
        metrics.account("t", "m", "think", "p").spent(Usage(answer=5), Cost(answer=7))
        metrics.in_flight.add(1)
        metrics.close()
    assert sample_sum(page(tmp_path), Metric.TOKENS) == 15
    assert round(sample_sum(page(tmp_path), Metric.COST) * NANO) == 21
    assert Metric.IN_FLIGHT not in page(tmp_path)


def test_labels_with_odd_characters_survive(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path)
    metrics.account('a"b\\c', "m\n", "think", "p").ended(200)
    assert sample_sum(page(tmp_path), Metric.REQUESTS, tenant='a"b\\c', model="m\n") == 1


def test_gauges_of_a_killed_process_are_dropped_and_its_counters_kept(tmp_path: Path) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "getpid", lambda: dead.pid)
        killed = Metrics(tmp_path)
    killed.in_flight.add(3)
    killed.account("t", "m", "think", "p").ended(200)
    Metrics(tmp_path)
    assert sample_sum(page(tmp_path), Metric.IN_FLIGHT) == 0
    assert sample_sum(page(tmp_path), Metric.REQUESTS) == 1
