"""What a client of OpenAI's format wishes for: a mode, an effort, a budget for thinking.

Stands beside the request's other fields because the same wish comes by many ways: OpenAI's own field, the objects
of other platforms that clients send here too, the switches of chat templates, headers, the model's name, and a word
at the end of the question. Which wish counts is not decided here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pointsman.contracts.modes import ClientSignal, Mode
from pointsman.contracts.names import Header
from pointsman.router.exchange import Exchange
from pointsman.router.wire.fields import wrong

EFFORTS: Mapping[str, Mode | None] = {
    "none": Mode.NO_THINK,
    "minimal": Mode.NO_THINK,
    "low": Mode.THINK,
    "medium": Mode.THINK,
    "high": Mode.THINK,
    "xhigh": Mode.THINK,
    "max": Mode.THINK,
    "auto": None,
}
"""What an effort wishes for; `auto` is no wish."""

EFFORT_FIELDS = ("reasoning_effort", "reasoning.effort", "output_config.effort")
"""Where an effort may stand. Where several do, the first says how much."""

THINKING_TYPES: Mapping[str, Mode | None] = {
    "enabled": Mode.THINK,
    "disabled": Mode.NO_THINK,
    "adaptive": None,
    "auto": None,
}
"""What `thinking.type` wishes for."""

TEMPLATE_SWITCHES = ("enable_thinking", "thinking")
"""The fields of `chat_template_kwargs` that a client may set; the family's own switch is set by the router."""

MODE_WORDS: Mapping[str, Mode | None] = {"think": Mode.THINK, "no_think": Mode.NO_THINK, "auto": None}
"""Values of the header `x-pointsman-mode`, and what they wish for."""

PROMPT_WORDS: Mapping[str, Mode] = {"/think": Mode.THINK, "/no_think": Mode.NO_THINK}
"""Words that are a wish where they end a user message."""

LARGEST_BUDGET = 100_000_000
"""Thinking tokens that the header may ask for at most."""

_MODE, _THINKING_BUDGET = Header.MODE.encode(), Header.THINKING_BUDGET.encode()
_FIELDS = frozenset({"reasoning_effort", "reasoning", "thinking", "output_config", "chat_template_kwargs"})
_ENDS = frozenset({"k", *(chr(code) for code in range(0x3001) if chr(code).isspace())})
"""What a text that ends with a wish ends with."""
_NOTHING: dict[str, Any] = {}
_SWITCHED = {True: Mode.THINK, False: Mode.NO_THINK}


def read(exchange: Exchange, alias: Mode | None) -> None:
    """
    Fill the exchange's `signals`, `effort` and `thinking_budget`, and take the wish out of the user's words.

    The wishes stand in the order header, model alias, fields, user's words. `alias` is the mode of a model name
    `NAME:think` or `NAME:no_think`; whether words are wishes is asked of the policy that holds. Raises
    `InvalidRequest` where a header is not what it must be.
    """
    payload, headers = exchange.payload, exchange.headers
    found: list[ClientSignal] = []
    word = headers.get(_MODE)
    if word is not None and (mode := _mode_word(word)) is not None:
        found.append(ClientSignal(Header.MODE, mode))
    if alias is not None:
        found.append(ClientSignal("model", alias))
    if not _FIELDS.isdisjoint(payload):
        found.extend(_in_fields(exchange))
    asked = headers.get(_THINKING_BUDGET)
    if asked is not None:
        budget = _budget(asked)
        known = exchange.thinking_budget
        exchange.thinking_budget = budget if known is None or budget < known else known
    messages = payload.get("messages")
    if messages is not None and _may_end_in_wish(messages) and exchange.policy.wish_in_prompt:
        wish = _taken_out(messages)
        if wish is not None:
            found.append(wish)
    if found:
        exchange.signals = tuple(found)


def _in_fields(exchange: Exchange) -> Iterator[ClientSignal]:
    """The wishes for a mode in fields of the body; efforts and budgets are put where they belong."""
    payload = exchange.payload
    reasoning = payload.get("reasoning", _NOTHING)
    thinking = payload.get("thinking", _NOTHING)
    efforts = (
        payload.get("reasoning_effort"),
        reasoning.get("effort"),
        payload.get("output_config", _NOTHING).get("effort"),
    )
    for name, effort in zip(EFFORT_FIELDS, efforts, strict=True):
        if effort is not None and (mode := EFFORTS[effort]) is not None:
            exchange.effort = exchange.effort or effort
            yield ClientSignal(name, mode)
    if (enabled := reasoning.get("enabled")) is not None:
        yield ClientSignal("reasoning.enabled", _SWITCHED[enabled])
    if thinking and (mode := THINKING_TYPES[thinking["type"]]) is not None:
        yield ClientSignal("thinking.type", mode)
    for name, value in payload.get("chat_template_kwargs", _NOTHING).items():
        yield ClientSignal(f"chat_template_kwargs.{name}", _SWITCHED[value])
    budgets = (thinking.get("budget_tokens"), reasoning.get("max_tokens"))
    exchange.thinking_budget = min((budget for budget in budgets if budget is not None), default=None)


def _mode_word(header: bytes) -> Mode | None:
    word = header.decode("latin-1").strip().lower()
    if word not in MODE_WORDS:
        raise wrong(Header.MODE, "one of " + ", ".join(MODE_WORDS))
    return MODE_WORDS[word]


def _budget(header: bytes) -> int:
    digits = header.strip()
    budget = int(digits) if digits.isdigit() and len(digits) <= len(str(LARGEST_BUDGET)) else 0
    if not 1 <= budget <= LARGEST_BUDGET:
        raise wrong(Header.THINKING_BUDGET, f"an integer from 1 to {LARGEST_BUDGET}")
    return budget


def _may_end_in_wish(messages: list[dict[str, Any]]) -> bool:
    """Whether it is worth looking at each message, as nearly never; this is asked for every request."""
    try:
        for message in messages:
            text = message["content"]
            if type(text) is not str or text[-1:] in _ENDS:
                return True
    except KeyError:  # a call of tools without a word
        return True
    return False


def _taken_out(messages: list[dict[str, Any]]) -> ClientSignal | None:
    """
    The wish at the end of the last user message, or None. The word is taken out of that message, and of earlier
    ones: it was a wish there once, is none now, and the model must neither obey nor repeat it. So a conversation
    also begins for the engine as it began before.
    """
    wish: ClientSignal | None = None
    last = True
    for index in range(len(messages) - 1, -1, -1):
        message = messages[index]
        if message["role"] != "user":
            continue
        content = message["content"]
        if type(content) is str:
            found = _wish_ending(content)
            if found is not None:
                message["content"], mode = found
        else:
            found = None
            for part in reversed(content):
                if part["type"] == "text":
                    found = _wish_ending(part["text"])
                    if found is not None:
                        part["text"], mode = found
                    break
        if last and found is not None:
            wish = ClientSignal(f"messages[{index}].content", mode)
        last = False
    return wish


def _wish_ending(text: str) -> tuple[str, Mode] | None:
    """`text` without the wish that it ends with, and the wish; None where it ends with none."""
    if not text.endswith("think"):
        if not text[-1:].isspace():
            return None
        text = text.rstrip()
    for word, mode in PROMPT_WORDS.items():
        if text.endswith(word):
            rest = text[: -len(word)]
            if not rest or rest[-1].isspace():
                return rest.rstrip(), mode
    return None
