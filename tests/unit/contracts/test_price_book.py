"""Prices in time: no moment has two, none has the wrong one, and what would make it so is refused by its field."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.contracts.config import Config
from pointsman.contracts.config_pools import Prices
from pointsman.contracts.price_book import EVER, Overlap, PriceBook, PricePeriod, check_overlap, twins_of
from pointsman.contracts.pricing import CacheClass, Cost, PriceList, Unpriced, Usage, charge_of

BASE = Prices.model_validate({"input": 1, "output": 2}).price_list()
moments = st.integers(0, 12)


def period(version: int, since: int, until: int | None) -> PricePeriod:
    return PricePeriod("p", version, since, until, Prices.model_validate({"input": version, "output": version}))


def own_price(since: int) -> PriceList:
    return Prices.model_validate({"input": 100 + since, "output": 1}).price_list()


@given(st.lists(st.tuples(moments, st.none() | moments), max_size=8), st.sets(moments, max_size=3))
def test_of_what_is_let_in_each_moment_has_the_one_price_that_the_words_say(
    wanted: list[tuple[int, int | None]], changes: set[int]
) -> None:
    """The words: a period holds to its end; one without an end, to the next beginning; else the own price."""
    let_in: list[PricePeriod] = []
    for since, until in wanted:
        if until is not None and until <= since:
            continue
        try:
            check_overlap(since, until, let_in)
        except Overlap:
            continue
        let_in.append(period(len(let_in) + 1, since, until))
    own = [(since, own_price(since)) for since in sorted(changes, reverse=True)]
    if changes:
        book = PriceBook({}, let_in)
        book.configure({"p": (*own, (EVER, BASE))})
    else:
        book = PriceBook({"p": BASE}, let_in)
    for moment in range(-1, 14):
        bounded = [each for each in let_in if each.until is not None and each.since <= moment < each.until]
        assert len(bounded) <= 1
        begun = sorted((each for each in let_in if each.since <= moment), key=lambda each: each.since)
        latest = begun[-1] if begun else None
        expected = latest.version if latest is not None and (latest.until is None or moment < latest.until) else 0
        assert not bounded or bounded[0].version == expected
        priced = book.at("p", moment)
        assert priced.version == expected
        holding = next((prices for since, prices in own if moment >= since), BASE)
        assert priced.prices.input == (expected or holding.input)
        since, until = book.span("p", moment)
        assert since <= moment < until
        assert all(book.at("p", other) == priced for other in range(-1, 14) if since <= other < until)
        assert book.at("p", moment).prices is priced.prices


@pytest.mark.parametrize(
    ("since", "until", "field"),
    [
        (5, None, "effective_from"),  # begins when version 1 does
        (7, None, "effective_from"),  # while version 1, which has an end, holds
        (7, 8, "effective_from"),
        (3, 6, "effective_until"),
        (20, 25, "effective_until"),  # within version 2, which has no end
        (12, 16, "effective_until"),
    ],
)
def test_overlaps_are_refused_by_field(since: int, until: int | None, field: str) -> None:
    others = [period(1, 5, 10), period(2, 15, None), period(3, 7, 7)]  # the last was taken back
    with pytest.raises(Overlap) as refused:
        check_overlap(since, until, others)
    assert refused.value.field == field


@pytest.mark.parametrize(("since", "until"), [(1, 5), (10, 15), (10, None), (1, None), (16, None)])
def test_neighbours_and_successors_are_no_overlaps(since: int, until: int | None) -> None:
    check_overlap(since, until, [period(1, 5, 10), period(2, 15, None)])


def test_pools_that_must_agree_change_together() -> None:
    def pool(name: str, model: str, *modes: str) -> dict[str, object]:
        prices = {"input": 1, "output": 2}
        return {
            "name": name,
            "model": model,
            "modes": modes,
            "family": "qwen3",
            "engine": "simulated",
            "prices": prices,
        }

    config = Config.model_validate(
        {
            "pools": [
                pool("a", "m", "no_think"),
                pool("b", "m", "think", "no_think"),
                pool("c", "m", "think"),
                pool("d", "other", "think"),
            ]
        }
    )
    assert twins_of(config.pools, "a") == twins_of(config.pools, "c") == ("a", "b", "c")
    assert twins_of(config.pools, "d") == ("d",)


def test_context_caches_by_hand() -> None:
    hosted = Prices.model_validate(
        {
            "input": "0.20",
            "cached_input": 0,
            "output": 1,
            "cache_creation": "1.00",
            "cache_storage": "0.15",
            "cache_call": "0.0015",
        }
    ).price_list()
    # 12,000 tokens put in, kept for ten minutes, called three times.
    usage = Usage(cache_creation=12_000, cache_storage=120_000, cache_call=3)
    assert charge_of(usage, hosted) == Cost(
        cache_creation=12_000_000, cache_storage=18_000_000, cache_call=4_500_000
    )
    assert charge_of(usage, hosted).total == 34_500_000
    for each in CacheClass:
        with pytest.raises(Unpriced) as refused:
            charge_of(Usage(**{each.value: 1}), BASE)
        assert refused.value.cache_class is each
    assert charge_of(Usage(input=5), BASE) == Cost()


@given(st.integers(0, 10**12), st.decimals(0, 1_000, places=9))
def test_a_charge_is_rounded_half_even_once(count: int, price: object) -> None:
    from fractions import Fraction

    prices = PriceList(BASE.input, BASE.input, BASE.input, BASE.input, price, price, price)  # type: ignore[arg-type]
    cost = charge_of(Usage(cache_creation=count, cache_storage=count, cache_call=count), prices)
    exact = Fraction(count) * Fraction(str(price))
    assert cost.cache_creation == cost.cache_storage == round(exact * 1000)
    assert cost.cache_call == round(exact * 10**9)
