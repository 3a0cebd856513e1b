"""What a request can cost at most is never less than what it costs, however its work is divided."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.contracts.config import Config
from pointsman.contracts.config_pools import Prices
from pointsman.contracts.limits import Budget
from pointsman.contracts.modes import Mode, ModeDecision, Source
from pointsman.contracts.policies import Policy
from pointsman.contracts.price_book import PricePeriod, price_book
from pointsman.contracts.pricing import NANO, PriceList, Usage, cost_of
from pointsman.router.admission.bounds import MOST_NANO, TEMPLATE, Bounds, cost_at_most, dearest, prompt_at_most
from pointsman.router.admission.stock import Need
from pointsman.router.exchange import Endpoint, Exchange
from pointsman.router.tenant_view import models_of
from pointsman.router.wire.fields import MOST_TOKENS
from support.exchanges import exchange_with

AT = 1_800_000_000_000
dollars = st.decimals(0, 50, places=9)
tokens = st.integers(0, 200_000)


def pool(name: str, mode: str, **more: Any) -> dict[str, Any]:
    prices = {"input": "0.0000007", "output": 2, "reasoning": "3.1234567"}
    return {"name": name, "model": "m", "modes": [mode], "engine": "simulated", "prices": prices, **more}


def bounds_of(*pools: dict[str, Any]) -> tuple[Bounds, Config]:
    config = Config.model_validate({"pools": pools})
    return Bounds(price_book(config)), config


def request(
    config: Config,
    body: dict[str, Any],
    mode: Mode,
    *,
    policy: Policy | None = None,
    endpoint: Endpoint = Endpoint.CHAT,
    needs: dict[str, str] | None = None,
) -> Exchange:
    exchange = exchange_with(body, endpoint=endpoint)
    exchange.payload = body
    exchange.max_tokens = body.get("max_tokens")
    exchange.model = models_of(config.pools)["m"]
    exchange.policy = policy or Policy()
    exchange.decision = ModeDecision(mode, Source.PREDICTOR, 0.5, 0.1, "threshold")
    exchange.needs = needs or {}
    return exchange


@given(
    st.lists(st.builds(PriceList, dollars, dollars, dollars, dollars), min_size=1, max_size=3),
    st.lists(st.tuples(tokens, tokens, tokens, tokens, st.integers(0, 2)), min_size=1, max_size=4),
)
def test_no_division_of_tokens_between_parts_pools_and_classes_costs_more(
    prices: list[PriceList], parts: list[tuple[int, int, int, int, int]]
) -> None:
    billed = sum(cost_of(Usage(*part[:4]), prices[part[4] % len(prices)]).total for part in parts)
    tokens_in = sum(part[0] + part[1] for part in parts)
    tokens_out = sum(part[2] + part[3] for part in parts)
    most = cost_at_most(dearest(prices), tokens_in, tokens_out, len(parts))
    assert billed <= most
    dear = max(price.rates[0][0] / price.rates[0][1] for price in prices)
    if tokens_in and not tokens_out and dear and len(prices) == 1 and prices[0].cached_input == prices[0].input:
        assert most <= billed + 4 * len(parts) + 1  # no more than rounding is added


@given(st.text(), st.booleans())
def test_every_token_of_a_prompt_is_a_byte_of_the_body_or_the_templates(text: str, escaped: bool) -> None:
    message = [{"role": "user", "content": text}]
    body = orjson.dumps({"messages": message})
    if escaped:
        body = orjson.dumps({"messages": message}).decode().encode("ascii", "backslashreplace")
    assert prompt_at_most(body, chat=True, structured=False) >= len(text.encode()) + TEMPLATE


def test_a_text_that_grows_when_it_is_brought_to_normal_form_counts_with_all_it_can_become() -> None:
    grows = "\N{MUSICAL SYMBOL EIGHTH NOTE}" * 10  # four bytes each, that become twelve
    assert prompt_at_most(grows.encode(), chat=False, structured=False) == 120
    assert prompt_at_most("é中文".encode(), chat=False, structured=False) == 8


def test_what_is_set_aside_for_each_kind_of_request() -> None:
    bounds, config = bounds_of(
        pool("fast", "no_think", prices={"input": 1, "output": 2}, capabilities={"context": 4096}),
        pool("deep", "think", prices={"input": 3, "output": 5, "reasoning": 7}, default_max_tokens=900),
    )
    body = {"messages": [{"role": "user", "content": "x" * 100}], "max_tokens": 50}
    size = len(orjson.dumps(body)) + TEMPLATE

    def need(mode: Mode = Mode.NO_THINK, **more: Any) -> Need:
        return bounds.of(request(config, body, mode, **more), AT, priced=True)

    calm = Policy.model_validate({"escalation": {"triggers": []}})
    restless = Policy.model_validate({"escalation": {"triggers": ["empty"]}})
    assert need(policy=calm) == Need(size, 50, size * 1000 + 50 * 2000)
    assert bounds.of(request(config, body, Mode.NO_THINK, policy=calm), AT, priced=False) == Need(size, 50, 0)
    thinking = need(Mode.THINK, policy=calm)
    assert thinking[:2] == (size, 50)
    assert thinking.nano >= size * 3000 + 50 * 7000
    assert need(policy=restless).nano == need(policy=calm).nano + thinking.nano  # and once more with thinking
    flexible = Policy.model_validate({"escalation": {"triggers": []}, "on_unavailable": "substitute"})
    assert need(policy=flexible).nano == need(Mode.THINK, policy=flexible).nano == thinking.nano  # the dearer one
    capped = Policy.model_validate({"escalation": {"triggers": []}, "max_output": {"no_think": 20}})
    assert need(policy=capped).output == 20
    body["n"] = 3
    assert need(policy=calm).output == 150
    body["messages"][0]["content"] = "x" * 50_000  # type: ignore[index]
    assert need(policy=calm).input == 4096  # more the engine does not take
    del body["max_tokens"], body["n"]
    assert need(Mode.THINK, policy=calm).output == 900
    assert need(policy=calm, needs={"images": "messages[0].content"}).input == 4096

    several = {"prompt": ["a", "b"], "best_of": 4, "n": 2, "max_tokens": 10}
    completion = bounds.of(
        request(config, several, Mode.THINK, endpoint=Endpoint.COMPLETIONS, policy=restless), AT, priced=True
    )
    length = len(orjson.dumps(several))
    assert completion == Need(length, 80, length * 3000 + 80 * 7000)  # a completion is never gone on from


def test_a_context_that_nobody_stated_bounds_nothing() -> None:
    bounds, config = bounds_of(pool("far", "no_think", engine="openai", urls=["http://127.0.0.1:1"]))
    body = {"messages": [{"role": "user", "content": "x" * 50_000}], "max_tokens": 5}
    assert bounds.of(request(config, body, Mode.NO_THINK), AT, priced=False).input > 50_000


@given(
    thought=st.integers(0, 64),
    more=st.integers(0, 64),
    cached=st.integers(0, 400),
    escalates=st.booleans(),
    closes=st.booleans(),
)
def test_an_answer_that_was_escalated_and_gone_on_from_costs_no_more(
    thought: int, more: int, cached: int, escalates: bool, closes: bool
) -> None:
    bounds, config = _BOTH
    body = {"messages": [{"role": "user", "content": "q" * 80}], "max_tokens": 64}
    exchange = request(config, body, Mode.NO_THINK if escalates else Mode.THINK, policy=_RESTLESS)
    need = bounds.of(exchange, AT, priced=True)
    prices = price_book(config)
    prompt = need.input
    fresh = max(0, prompt - cached)
    billed = 0
    if escalates:
        billed += cost_of(Usage(prompt, 0, 0, 64), prices.at("fast", AT).prices).total
    first = Usage(fresh, prompt - fresh, thought, 0 if closes else 64 - thought)
    billed += cost_of(first, prices.at("deep", AT).prices).total
    if closes:
        rest = min(more, 64 - thought)
        billed += cost_of(Usage(prompt + 2 * thought, 0, 0, rest), prices.at("deep", AT).prices).total
    assert billed <= need.nano


_RESTLESS = Policy.model_validate({"escalation": {"triggers": ["empty"]}})
_BOTH = bounds_of(
    pool("fast", "no_think", prices={"input": Decimal("0.123456789"), "output": "1.7"}),
    pool("deep", "think", family="qwen3", engine="vllm", urls=["http://127.0.0.1:1"], chat_template=None),
)


def test_a_price_that_changed_is_the_one_that_counts() -> None:
    config = Config.model_validate({"pools": [pool("fast", "no_think", prices={"input": 1, "output": 2})]})
    book = price_book(config)
    bounds = Bounds(book)
    body = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 1}
    exchange = request(config, body, Mode.NO_THINK)
    before = bounds.of(exchange, AT, priced=True).nano
    book.replace([PricePeriod("fast", 1, AT + 1, None, Prices.model_validate({"input": 10, "output": 20}))])
    assert bounds.of(exchange, AT, priced=True).nano == before
    assert bounds.of(exchange, AT + 1, priced=True).nano == 10 * before


@pytest.mark.parametrize("structured", [False, True])
def test_tools_make_a_prompt_longer(structured: bool) -> None:
    assert (prompt_at_most(b"x" * 1000, chat=True, structured=structured) > 2000) is structured


def test_no_request_needs_more_than_a_budget_can_hold_and_a_nano_dollar() -> None:
    """A thousand may wait, and Redis counts exactly up to 2**53, orjson up to 2**63."""
    dear = {"prices": {"input": 1_000_000, "output": 1_000_000, "reasoning": 1_000_000}}
    bounds, config = bounds_of(pool("fast", "no_think", **dear), pool("deep", "think", **dear))
    body = {"messages": [{"role": "user", "content": "x"}], "max_tokens": MOST_TOKENS, "n": 16}
    prompts = {"prompt": ["x"] * 1000, "max_tokens": MOST_TOKENS, "n": 16}
    largest = int(Budget(hard_usd=Decimal(1_000_000)).hard_usd or 0) * NANO
    for mode in Mode:
        chat = bounds.of(request(config, body, mode), AT, priced=True)
        completion = bounds.of(request(config, prompts, mode, endpoint=Endpoint.COMPLETIONS), AT, priced=True)
        assert chat.nano == completion.nano == MOST_NANO == largest + 1
