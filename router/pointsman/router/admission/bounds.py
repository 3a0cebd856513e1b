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
from pointsman.contracts.policies import Policy, WhenUnavailable
from pointsman.contracts.price_book import PriceBook
from pointsman.contracts.pricing import PriceList
from pointsman.router import families
from pointsman.router.admission.stock import BOUNDLESS, Need
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

MOST_NANO = 10**15 + 1
"""Nano-dollars that are set aside at most: more than any budget can hold, so that none bears what may cost more."""

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
    """
    What requests of one policy to one model in one mode have in common; its prices hold from `since` to `until`.

    `then`: the same in mode think, where an answer may be asked for once more in it. `instead`: the same in the
    other mode, where a request may be answered in that.
    """

    __slots__ = (
        "_prices",
        "_rates",
        "ceiling",
        "changes",
        "context",
        "default",
        "images",
        "instead",
        "per_input",
        "per_output",
        "policy",
        "reread",
        "since",
        "then",
        "until",
    )

    def __init__(
        self, policy: Policy, model: ModelView, mode: Mode, prices: PriceBook, at: int, *, alone: bool = False
    ) -> None:
        pools = model.pools[mode]
        self.policy = policy
        self.ceiling = max(output_ceiling(policy, pool, mode) for pool in pools)
        self.default = max(pool.default_max_tokens for pool in pools)
        contexts = [context_of(pool) for pool in pools]
        self.context = max(BOUNDLESS if context is None else context for context in contexts)
        self.images = max(pool.capabilities.context for pool in pools)
        self.reread = max(_reread(pool) for pool in pools) if mode is _THINK else 0
        self.changes = prices.changes
        spans = [prices.span(pool.name, at) for pool in pools]
        self.since, self.until = max(since for since, _ in spans), min(until for _, until in spans)
        rates = dearest([prices.at(pool.name, at).prices for pool in pools])
        self._rates = None if rates.whole else rates
        self.per_input, self.per_output = rates.input[0], rates.output[0]
        self.then: Tariff | None = None
        self.instead: Tariff | None = None
        if alone:
            return
        if mode is _NO_THINK and policy.escalation.triggers and _THINK in model.modes:
            self.then = Tariff(policy, model, _THINK, prices, at, alone=True)
        if policy.on_unavailable is WhenUnavailable.SUBSTITUTE and mode.other in model.modes:
            self.instead = Tariff(policy, model, mode.other, prices, at, alone=True)
        for other in (self.then, self.instead):
            if other is not None:
                self.since, self.until = max(self.since, other.since), min(self.until, other.until)

    def nano(self, prompt: int, tokens_in: int, asked: int | None, tokens_out: int, *, single: bool) -> int:
        """
        Nano-dollars of all that may be asked for a chat: `tokens_in` are those of its `prompt` that a context
        holds, `tokens_out` those of its answers, of each of which the client has `asked` so many.
        """
        parts = 1
        if self.reread and single:
            parts = 2
            # What was thought is read as text again, of which no more than twice the tokens can be made.
            second = prompt + 2 * tokens_out + TEMPLATE if self.reread == _ALL else prompt
            tokens_in += min(second, self.context)
        if self._rates is None:
            nano = tokens_in * self.per_input + tokens_out * self.per_output
        else:
            nano = cost_at_most(self._rates, tokens_in, tokens_out, parts)
        if self.then is not None:
            nano += self._by(self.then, prompt, asked, tokens_out, single=single)
        if self.instead is not None:
            nano = max(nano, self._by(self.instead, prompt, asked, tokens_out, single=single))
        return nano

    def _by(self, other: Tariff, prompt: int, asked: int | None, tokens_out: int, *, single: bool) -> int:
        """Nano-dollars of the same chat by the tariff of the `other` mode."""
        choices = 1 if single else tokens_out // min(asked or self.default, self.ceiling)
        again = min(asked or other.default, other.ceiling) * choices
        return other.nano(prompt, min(prompt, other.context), asked, again, single=single)

    def of_completion(self, tokens_in: int, tokens_out: int) -> int:
        """Nano-dollars of a completion, which is never gone on from and never asked for once more."""
        if self._rates is None:
            return tokens_in * self.per_input + tokens_out * self.per_output
        return cost_at_most(self._rates, tokens_in, tokens_out, 1)


class Bounds:
    """Works out what requests need. `prices` are those of the pools."""

    def __init__(self, prices: PriceBook) -> None:
        self._prices = prices
        self._tariffs: dict[tuple[int, str, Mode], Tariff] = {}

    def of(self, exchange: Exchange, at: int, *, priced: bool) -> Need:
        """
        What `exchange`, which is decided and came at `at` (milliseconds since 1970), uses at most.

        The tokens are those of its main part; the money is of all parts that may come. Where it does not matter
        what requests cost (`priced`), the money is 0.
        """
        model, decision, policy = exchange.model, exchange.decision, exchange.policy
        assert model is not None
        assert decision is not None
        tariff = self._tariffs.get((id(policy), model.name, decision.mode))
        if (
            tariff is None
            or tariff.policy is not policy
            or tariff.changes != self._prices.changes
            or not tariff.since <= at < tariff.until
        ):
            tariff = self._new_tariff(policy, model, decision.mode, at)
        asked, context, needs = exchange.max_tokens, tariff.context, exchange.needs
        tokens_out = asked or tariff.default
        if tokens_out > tariff.ceiling:
            tokens_out = tariff.ceiling
        chat = exchange.engine_endpoint is _CHAT
        structured = bool(needs) and ("tools" in needs or "json_schema" in needs)
        prompt = prompt_at_most(exchange.body, chat=chat, structured=structured)
        if needs and "images" in needs:
            prompt += tariff.images
        single = True
        if not chat or "n" in exchange.payload:
            prompts, choices = prompts_and_choices(exchange)
            tokens_out *= prompts * choices
            context *= prompts
            single = choices == 1
        tokens_in = prompt if prompt < context else context  # noqa: FURB136 - a call costs more
        if not priced:
            return Need(tokens_in, tokens_out, 0)
        if chat:
            nano = tariff.nano(prompt, tokens_in, asked, tokens_out, single=single)
        else:
            nano = tariff.of_completion(tokens_in, tokens_out)
        return Need(tokens_in, tokens_out, nano if nano < MOST_NANO else MOST_NANO)  # noqa: FURB136 - a call costs more

    def _new_tariff(self, policy: Policy, model: ModelView, mode: Mode, at: int) -> Tariff:
        if len(self._tariffs) >= MOST_TARIFFS:
            self._tariffs.clear()
        tariff = self._tariffs[id(policy), model.name, mode] = Tariff(policy, model, mode, self._prices, at)
        return tariff


_PROMPT, _ALL = 1, 2
"""What is read again when thinking is closed: the prompt alone, or what was thought as well."""


def _reread(pool: Pool) -> int:
    if families.closing(pool, "") is not None:
        return _ALL
    return _PROMPT if Mode.NO_THINK in pool.modes else 0
