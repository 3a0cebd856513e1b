"""The script of one answer: every token the simulated engine is going to say, fixed before the first is said.

Stands between the request and the clock: what is said depends on the prompt alone, when it is said on the
speeds alone, so that equal requests have equal answers at any load. Pure: no socket, no clock, no configuration
but what it is handed.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from pointsman.serving.simulated import tokens

END_OF_TURN = 2
"""Token id that a natural stop reports as `matched_stop`; the id of `<|im_end|>` in SmolLM2."""

THINK_END_TEXT = "</think>"

_VOCABULARY = """
    points train track signal lever switch yard route line crew guard brake rail siding depot cargo steam engine
    coach timber bridge tunnel valley river summit grade curve clear ahead slow stop start north south east west
    early late first last left right open close then while after before under over
"""
_WORDS = tuple(f" {word}" for word in _VOCABULARY.split())
"""Each is one token."""


class Kind(StrEnum):
    """What a token belongs to."""

    THINKING = "thinking"
    THINK_END = "think_end"
    """The mark that closes the thinking: counted as a reasoning token, never shown."""
    ANSWER = "answer"
    CALL = "call"
    """The name of a tool that is called."""
    ARGUMENTS = "arguments"
    """A piece of the arguments of the call before it."""
    END = "end"
    """The mark that ends the turn: counted as a completion token, never shown."""


class Call(NamedTuple):
    """One call of a tool: its name, and its arguments as JSON."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Token:
    """One token: the text that it adds to what the client sees, and the text that the model said."""

    kind: Kind
    text: str
    said: str


@dataclass(frozen=True, slots=True)
class Wish:
    """
    What a request asks of one answer.

    `source`: the text that determines the words; `prompt_tokens`: the prompt's length, named in the answer;
    `index`: which of several answers to the same prompt; `thinking`: tokens of thinking, or None where the
    answer has none; `thinking_budget`: tokens of thinking at most; `answer`: tokens the answer has if nothing
    cuts it; `limit`: tokens at most, thinking and marks included; `stop`: strings that end the answer;
    `endless`: go on to `limit`; `json_object`: answer with a JSON object; `value`: answer with this JSON; `calls`:
    answer with these calls of tools.
    """

    source: str
    prompt_tokens: int
    index: int
    limit: int
    answer: int
    thinking: int | None = None
    thinking_budget: int | None = None
    stop: tuple[str, ...] = ()
    endless: bool = False
    json_object: bool = False
    value: str | None = None
    calls: tuple[Call, ...] = ()


@dataclass(frozen=True, slots=True)
class Script:
    """The tokens of one answer and why it ends: `finish_reason` as OpenAI names it, `matched_stop` as SGLang."""

    tokens: tuple[Token, ...]
    finish_reason: str
    matched_stop: int | str | None
    reasoning_tokens: int = field(init=False)

    def __post_init__(self) -> None:
        thought = sum(token.kind in (Kind.THINKING, Kind.THINK_END) for token in self.tokens)
        object.__setattr__(self, "reasoning_tokens", thought)

    @property
    def completion_tokens(self) -> int:
        return len(self.tokens)

    def text(self, *kinds: Kind) -> str:
        """What the client sees of the tokens of these kinds."""
        return "".join(token.text for token in self.tokens if token.kind in kinds)


def write(wish: Wish) -> Script:
    """The script that answers `wish`."""
    dice = _dice(wish)
    said: list[Token] = []
    if wish.thinking is not None:
        length = wish.thinking
        if wish.thinking_budget is not None:
            length = min(length, max(wish.thinking_budget, 0))
        opening = f"{tokens.MARK} No model runs here. A prompt of {wish.prompt_tokens} tokens."
        said += _shown(Kind.THINKING, _prose(opening, length, dice))
        said.append(Token(Kind.THINK_END, "", THINK_END_TEXT))
    length = max(wish.limit - len(said), 0) if wish.endless else wish.answer
    if wish.calls:
        for call in wish.calls:
            said.append(Token(Kind.CALL, call.name, call.name))
            said += _shown(Kind.ARGUMENTS, tokens.split(call.arguments))
    elif wish.value is not None:
        said += _shown(Kind.ANSWER, tokens.split(wish.value))
    elif wish.json_object:
        said += _shown(Kind.ANSWER, _json_object(length, dice))
    else:
        opening = f"{tokens.MARK} No model wrote this answer to {wish.prompt_tokens} tokens."
        said += _shown(Kind.ANSWER, _prose(opening, length, dice))
    if not wish.endless:
        said.append(Token(Kind.END, "", ""))
    kept = said[: wish.limit]
    if stopped := _at_stop(kept, wish.stop):
        return stopped
    if kept and kept[-1].kind is Kind.END:
        return Script(tuple(kept), "tool_calls", None) if wish.calls else Script(tuple(kept), "stop", END_OF_TURN)
    return Script(tuple(kept), "length", None)


def _dice(wish: Wish) -> random.Random:
    digest = hashlib.blake2b(f"{wish.index}\0{wish.source}".encode("utf-8", "replace"), digest_size=8)
    return random.Random(int.from_bytes(digest.digest()))


def pick(source: str, span: tuple[int, int]) -> int:
    """A whole number in `span`, both ends included, that `source` alone determines."""
    digest = hashlib.blake2b(source.encode("utf-8", "replace"), digest_size=8, person=b"length").digest()
    return span[0] + int.from_bytes(digest) % (span[1] - span[0] + 1)


def _prose(opening: str, length: int, dice: random.Random) -> list[str]:
    words = tokens.split(opening)
    missing = length - len(words)
    if missing > 0:
        filler = dice.choices(_WORDS, k=missing)
        filler[9::10] = ["."] * len(filler[9::10])
        words += filler
    return words[:length]


def _json_object(length: int, dice: random.Random) -> list[str]:
    head, tail = tokens.split('{"simulated": true, "text": "'), tokens.split('"}')
    return head + _prose(tokens.MARK, max(length - len(head) - len(tail), 1), dice) + tail


def _shown(kind: Kind, texts: list[str]) -> list[Token]:
    return [Token(kind, text, text) for text in texts]


def _at_stop(said: list[Token], stop: tuple[str, ...]) -> Script | None:
    """`said` up to the token that completes the first stop string, the string itself taken out; else None."""
    whole = "".join(token.said for token in said)
    found = [(at + len(string), at, string) for string in stop if (at := whole.find(string)) >= 0]
    if not found or not said:
        return None
    ends, begins, matched = min(found)
    kept: list[Token] = []
    position = 0
    for token in said:
        shown = token.text[: max(begins - position, 0)]
        kept.append(Token(token.kind, shown, token.said))
        position += len(token.said)
        if position >= ends:
            break
    return Script(tuple(kept), "stop", matched)
