"""What a request can cost at most: tokens of prompt and output, and nano-dollars, over all its parts.

Stands below the step `admit`, which sets so much aside; `settle` can't bill more. The router has no tokenizer: a
token is at least a byte of the prompt, so the bytes of the request bound the prompt, whatever the language. Pure;
what all requests of one policy, model and mode have in common is worked out once.

A request may be worked on in several parts, each billed (`relay.py`): an answer without thinking that is thrown
away and asked for once more with thinking; thinking that is closed, after which the prompt is read once more
together with what was thought. An attempt that failed before its first byte is billed nothing.
"""

from __future__ import annotations

import unicodedata
from fractions import Fraction
from typing import NamedTuple

from pointsman.contracts.config import Pool
from pointsman.contracts.modes import Mode
from pointsman.contracts.policies import Policy
from pointsman.contracts.price_book import PriceBook
from pointsman.contracts.pricing import PriceList
from pointsman.router import families
from pointsman.router.admission.allowance import Need
from pointsman.router.exchange import Endpoint, Exchange
from pointsman.router.pipeline.limits import context_of, output_ceiling, prompts_and_choices
from pointsman.router.snapshot import ModelView

TEMPLATE = 256
"""Tokens that a chat template puts in of its own accord: a system prompt, the marks around each turn."""

TOOLS_TEMPLATE = 1024
"""Tokens that it adds where there are tools or a schema: the instructions for calling them."""

TOOLS_BYTES = 2
"""Times that the bytes of such a request count: templates write its JSON anew, with spaces and line ends."""

NORMAL_FORM = 3
"""Times that UTF-8 can grow when a tokenizer brings it to normal form (NFC)."""

MOST_TARIFFS = 10_000
"""Triples of policy, model and mode that are remembered; with more, all are forgotten and worked out anew."""

_CHAT, _THINK, _NO_THINK = Endpoint.CHAT, Mode.THINK, Mode.NO_THINK  # slow to look up by way of their classes


class Rates(NamedTuple):
    """The dearest nano-dollars a token of prompt and of output, as exact fractions (numerator, denominator)."""

    input: tuple[int, int]
    output: tuple[int, int]

    @property
    def whole(self) -> bool:
        """Whether nothing is ever rounded."""
        return self.input[1] == 1 and self.output[1] == 1


def dearest(prices: list[PriceList]) -> Rates:
    """The dearest of each: whichever of `prices` a request is billed by, and however its tokens are divided."""
    fresh = max(Fraction(*rate) for price in prices for rate in price.rates[:2])
    said = max(Fraction(*rate) for price in prices for rate in price.rates[2:4])
    return Rates(fresh.as_integer_ratio(), said.as_integer_ratio())


def cost_at_most(rates: Rates, tokens_in: int, tokens_out: int, parts: int) -> int:
    """
    Nano-dollars that so many tokens cost at most, however they are divided between classes, in `parts` parts.

    Each of a part's four classes is rounded for itself, by half a nano-dollar at most.
    """
    (per_input, a), (per_output, b) = rates
    if a == 1 and b == 1:
        return tokens_in * per_input + tokens_out * per_output
    return -(-tokens_in * per_input // a) - (-tokens_out * per_output // b) + 2 * parts


def prompt_at_most(body: bytes, *, chat: bool, structured: bool) -> int:
    """
    Tokens that the prompt of a request with this `body` has at most, whatever the tokenizer, images apart.

    `structured`: there are tools or a schema, which templates write out anew.
    """
    size = len(body)
    if not body.isascii() and not unicodedata.is_normalized("NFC", body.decode("utf-8", "replace")):
        size *= NORMAL_FORM
    if structured:
        return TOOLS_BYTES * size + TEMPLATE + TOOLS_TEMPLATE
    return size + TEMPLATE if chat else size


class Tariff:
    """What requests of one policy to one model in one mode have in common."""

    __slots__ = (
        "_lists",
        "_pools",
        "_prices",
        "ceiling",
        "context",
        "default",
        "images",
        "policy",
        "rates",
        "reread",
    )

    def __init__(self, policy: Policy, model: ModelView, mode: Mode, prices: PriceBook, at: int) -> None:
        pools = model.pools[mode]
        self.policy = policy
        self._pools = tuple(pool.name for pool in pools)
        self._prices = prices
        self.ceiling = max(output_ceiling(policy, pool, mode) for pool in pools)
        self.default = max(pool.default_max_tokens for pool in pools)
        contexts = [context_of(pool) for pool in pools]
        self.context = None if None in contexts else max(context for context in contexts if context is not None)
        self.images = max(pool.capabilities.context for pool in pools)
        self.reread = max(_reread(pool) for pool in pools) if mode is _THINK else 0
        self._lists: list[PriceList] = []
        self.rates = Rates((0, 1), (0, 1))
        self.look(at)

    def look(self, at: int) -> None:
        """Know the prices that held at `at` (milliseconds since 1970)."""
        lists = [self._prices.at(name, at).prices for name in self._pools]
        self._lists = lists
        self.rates = dearest(lists)

    def holds(self, at: int) -> bool:
        """Whether the prices are still the ones that were looked at."""
        price_at = self._prices.at
        return all(price_at(name, at).prices is known for name, known in zip(self._pools, self._lists, strict=True))


class Bounds:
    """Works out what requests need. `prices` are those of the pools."""

    def __init__(self, prices: PriceBook) -> None:
        self._prices = prices
        self._tariffs: dict[tuple[int, str, bool], Tariff] = {}

    def of(self, exchange: Exchange, at: int, *, priced: bool) -> Need:
        """
        What `exchange`, which is decided and came at `at` (milliseconds since 1970), uses at most.

        The tokens are those of its main part; the money is of all parts that may come. Where it does not matter
        what requests cost (`priced`), the money is 0.
        """
        model = exchange.model
        assert model is not None
        tariff = self._tariff(exchange.policy, model, exchange.mode, at)
        chat = exchange.endpoint is _CHAT
        prompts, choices = prompts_and_choices(exchange)
        needs = exchange.needs
        structured = bool(needs) and ("tools" in needs or "json_schema" in needs)
        prompt = prompt_at_most(exchange.body, chat=chat, structured=structured)
        if "images" in needs:
            prompt += tariff.images
        tokens_in = _within(prompt, tariff.context, prompts)
        tokens_out = min(exchange.max_tokens or tariff.default, tariff.ceiling) * choices * prompts
        if not priced:
            return Need(tokens_in, tokens_out, 0)
        single = chat and choices == 1
        nano = self._all_parts(exchange, tariff, prompt, tokens_in, tokens_out, single=single)
        if chat and exchange.mode is _NO_THINK and exchange.policy.escalation.triggers and _THINK in model.modes:
            thinking = self._tariff(exchange.policy, model, _THINK, at)
            again_in = _within(prompt, thinking.context, 1)
            again_out = min(exchange.max_tokens or thinking.default, thinking.ceiling) * choices
            nano += self._all_parts(exchange, thinking, prompt, again_in, again_out, single=single)
        return Need(tokens_in, tokens_out, nano)

    def _all_parts(
        self, exchange: Exchange, tariff: Tariff, prompt: int, tokens_in: int, tokens_out: int, *, single: bool
    ) -> int:
        """Nano-dollars of an answer in the tariff's mode, and of going on from thinking that was closed."""
        if not tariff.reread or not single:
            return cost_at_most(tariff.rates, tokens_in, tokens_out, 1)
        # What was thought is read as text again, of which no more than twice the tokens can be made.
        second = _within(prompt + (2 * tokens_out + TEMPLATE if tariff.reread == _ALL else 0), tariff.context, 1)
        return cost_at_most(tariff.rates, tokens_in + second, tokens_out, 2)

    def _tariff(self, policy: Policy, model: ModelView, mode: Mode, at: int) -> Tariff:
        key = (id(policy), model.name, mode is _THINK)
        tariff = self._tariffs.get(key)
        if tariff is None or tariff.policy is not policy:
            if len(self._tariffs) >= MOST_TARIFFS:
                self._tariffs.clear()
            tariff = self._tariffs[key] = Tariff(policy, model, mode, self._prices, at)
        elif not tariff.holds(at):
            tariff.look(at)
        return tariff


_PROMPT, _ALL = 1, 2
"""What is read again when thinking is closed: the prompt alone, or what was thought as well."""


def _reread(pool: Pool) -> int:
    if families.closing(pool, "") is not None:
        return _ALL
    return _PROMPT if Mode.NO_THINK in pool.modes else 0


def _within(tokens: int, context: int | None, prompts: int) -> int:
    return tokens if context is None else min(tokens, context * prompts)
