"""Money: nothing is lost between classes, nothing is rounded twice, and what is printed reads back."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.contracts.pricing import Cost, PriceList, TokenClass, Usage, cost_of, dollars

tokens = st.integers(0, 10**9)
prices = st.decimals(min_value=0, max_value=1_000_000, places=9, allow_nan=False)
usages = st.builds(Usage, tokens, tokens, tokens, tokens)
price_lists = st.builds(PriceList, prices, prices, prices, prices)


def amount(count: int, price: Decimal, kind: TokenClass = TokenClass.ANSWER) -> int:
    """Nano-dollars for `count` tokens of one class at `price`, when all other classes are empty and free."""
    prices = PriceList(**{each.value: price if each is kind else Decimal(0) for each in TokenClass})
    nano: int = getattr(cost_of(Usage(**{kind.value: count}), prices), kind)
    return nano


@pytest.mark.parametrize(
    ("count", "price", "nano"),
    [
        (0, "5", 0),
        (1, "1", 1_000),
        (1_000_000, "1", 1_000_000_000),
        (1_000_000, "0.000000001", 1),
        (1, "0.0004", 0),
        (1, "0.0005", 0),
        (3, "0.0005", 2),
        (1, "0.0006", 1),
        (1, "0.0015", 2),
        (1, "0.0025", 2),
        (12_345, "0.02", 246_900),
    ],
)
def test_amounts_worked_out_by_hand(count: int, price: str, nano: int) -> None:
    assert amount(count, Decimal(price)) == nano


@given(tokens, prices)
def test_an_amount_is_the_exact_product_rounded_half_even_once(count: int, price: Decimal) -> None:
    exact = Fraction(count) * Fraction(price) * 1000
    assert amount(count, price) == round(exact)  # Fraction rounds half to even
    assert amount(count, price) >= 0


@given(tokens, st.decimals(min_value=0, max_value=1_000_000, places=3, allow_nan=False))
def test_three_decimals_never_round(count: int, price: Decimal) -> None:
    assert Fraction(amount(count, price)) == Fraction(count) * Fraction(price) * 1000


@given(usages, price_lists)
def test_the_total_is_the_sum_of_the_classes(usage: Usage, price_list: PriceList) -> None:
    cost = cost_of(usage, price_list)
    by_class = {kind: amount(getattr(usage, kind), getattr(price_list, kind), kind) for kind in TokenClass}
    assert {kind: getattr(cost, kind) for kind in TokenClass} == by_class
    assert cost.total == sum(by_class.values())


@given(usages)
def test_the_classes_add_up_to_the_engines_totals(usage: Usage) -> None:
    assert usage.prompt_tokens + usage.completion_tokens == sum(getattr(usage, kind) for kind in TokenClass)


@given(tokens, tokens, prices)
def test_more_tokens_never_cost_less(first: int, second: int, price: Decimal) -> None:
    low, high = sorted((first, second))
    assert amount(low, price) <= amount(high, price)


@given(st.integers(-(10**24), 10**24))
def test_dollars_read_back_as_the_same_amount(nano: int) -> None:
    text = dollars(nano)
    assert Decimal(text).scaleb(9) == nano
    assert len(text.partition(".")[2]) == 9


@pytest.mark.parametrize(
    ("nano", "text"),
    [(0, "0.000000000"), (1500, "0.000001500"), (-1, "-0.000000001"), (10**9, "1.000000000")],
)
def test_dollars_have_all_nine_places(nano: int, text: str) -> None:
    assert dollars(nano) == text


def test_free_is_free() -> None:
    free = PriceList(*[Decimal(0)] * 4)
    assert cost_of(Usage(1, 2, 3, 4), free) == Cost(0, 0, 0, 0)


@given(st.integers(0, 10**9))
def test_the_rounding_does_not_depend_on_the_ambient_context(count: int) -> None:
    import decimal

    price = Decimal("0.1234565")
    with decimal.localcontext() as context:
        context.rounding = decimal.ROUND_UP
        rounded_up = amount(count, price)
    assert rounded_up == int((count * price * 1000).to_integral_value(rounding=ROUND_HALF_EVEN))
