"""The predictor as a function: range, batches, explanations, any input, and what a call costs."""

from __future__ import annotations

import math
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.router.predictor import Evidence, Predictor, artefact, latency

_PREDICTOR = Predictor.load()
_ANY_TEXT = st.text(alphabet=st.characters(exclude_categories=()), max_size=1500)
"""Any code points at all, lone surrogates, NUL and non-characters among them."""


@given(_ANY_TEXT)
@settings(deadline=None)
def test_any_text_has_a_probability(text: str) -> None:
    assert 0 <= _PREDICTOR.probability(text) <= 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "\0",
        "\0" * 5000,
        "\ud800",
        "\udfff" * 700,
        "\ufffe" * 700,
        "😀" * 1000,
        "a" * 8_000_000,
        "\n" * 10_000,
        "</document>" * 2000,
        "<document>" * 1000 + "</document>" * 1000,
        "\u202e\u200b\ufeff",
        "ﷺ" * 900,
    ],
    ids=lambda text: f"{len(text)} of {text[:1]!a}",
)
def test_odd_texts_have_a_probability(text: str) -> None:
    probability = _PREDICTOR.probability(text)
    assert 0 <= probability <= 1
    assert math.isclose(_PREDICTOR.probabilities([text, "x"])[0], probability, abs_tol=1e-6)
    _PREDICTOR.explain(text)


@given(st.lists(_ANY_TEXT | st.sampled_from(latency.texts(50)), max_size=9))
@settings(deadline=None)
def test_a_batch_says_what_single_calls_say(texts: list[str]) -> None:
    batch = _PREDICTOR.probabilities(texts)
    assert batch == pytest.approx([_PREDICTOR.probability(text) for text in texts], abs=1e-6)


def test_long_batches_are_cut_without_a_seam() -> None:
    texts = latency.texts(300)
    batch = _PREDICTOR.probabilities(texts)
    assert batch == pytest.approx([_PREDICTOR.probability(text) for text in texts], abs=1e-6)


def test_a_batch_costs_less_than_its_calls() -> None:
    plain = Predictor(artefact.read(None), compiled=False)  # of the compiled kernel there are no batches
    texts = [f"{number}: what is the capital of country number {number}?" for number in range(64)]
    single = min(_seconds(lambda: [plain.probability(text) for text in texts]) for _ in range(7))
    batch = min(_seconds(lambda: plain.probabilities(texts)) for _ in range(7))
    assert batch < single / 1.5


@given(_ANY_TEXT)
@settings(deadline=None)
def test_the_evidence_adds_up_to_the_log_odds(text: str) -> None:
    evidence = _PREDICTOR.explain(text)
    assert all(isinstance(each, Evidence) for each in evidence)
    log_odds = math.fsum(each.contribution for each in evidence)
    assert 1 / (1 + math.exp(-log_odds)) == pytest.approx(_PREDICTOR.probability(text), abs=1e-4)


def test_the_evidence_names_what_it_saw() -> None:
    evidence = _PREDICTOR.explain("Prove that pi is irrational.", limit=100)
    named = {each.feature: each.contribution for each in evidence}
    assert sum(named[feature] for feature in named if "proof" in feature) > 0
    assert any("irrational" in feature for feature in named)
    sizes = [abs(each.contribution) for each in evidence[:-1]]
    assert sizes == sorted(sizes, reverse=True)
    short = _PREDICTOR.explain("Prove that pi is irrational.", limit=3)
    assert [each.feature for each in short] == [*(each.feature for each in evidence[:3]), "everything else"]


def test_threads_may_share_a_predictor() -> None:
    texts = latency.texts(200)
    expected = [_PREDICTOR.probability(text) for text in texts]
    wrong: list[str] = []

    def work() -> None:
        for text, probability in zip(texts, expected, strict=True):
            if _PREDICTOR.probability(text) != probability:
                wrong.append(text)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_cost_does_not_grow_with_the_text() -> None:
    base = "The committee met on Friday. Prove that n is even.\nWhat did it cost? "
    short, long = base * 100, base * 100_000
    times = {
        text: [_seconds(lambda text=text: _PREDICTOR.probability(text)) for _ in range(60)]
        for text in (short, long)
    }
    assert min(times[long]) < 3 * min(times[short])


def test_a_call_costs_a_small_multiple_of_the_fixed_kernel() -> None:
    ratios = []
    for _ in range(5):
        figures = latency.measure(_PREDICTOR, count=300)
        ratios.append(figures["latency_us"]["p50"] / figures["kernel_us"]["p50"])
    assert min(ratios) < 8


def test_latency_texts_are_distinct_and_of_the_stated_lengths() -> None:
    texts = latency.texts(500)
    assert len(set(texts)) == 500
    assert min(map(len, texts)) == 20
    assert max(map(len, texts)) == 20_000


def _seconds(call: object) -> float:
    assert callable(call)
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin
