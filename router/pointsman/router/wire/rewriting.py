"""Engines' answers, made into what clients expect: thinking in `reasoning_content`, the answer in `content`.

Stands between the engine's answer and the client only where it has to: where the router itself tells thinking from
the answer (see `families/`), where an engine calls the field `reasoning` (newer vLLM), and where an answer goes on
from thinking that was cut. All else passes untouched. Nothing but these fields is changed: tool calls and finish
reasons stay with the text they came with. Where tags are taken out of the text, their tokens are taken out of the
log-probabilities.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from pointsman.contracts.config import Engine, Pool
from pointsman.contracts.modes import Mode
from pointsman.contracts.pricing import Usage
from pointsman.router.families import (
    ANSWER,
    REASONING,
    Kind,
    OutputParser,
    Parser,
    Piece,
    TagFreeTokens,
    joined,
    parser_of,
    parses,
    tags_of,
)


class MalformedOutput(Exception):
    """The engine's answer is not of the form of an answer; says which field, never what is in it."""


class Rewritten(NamedTuple):
    """What a whole answer turned out to hold."""

    judgement: Mode | None
    """The mode that the model itself judged right, where it said so."""
    reasoning: int
    """Characters of thinking, of all choices together."""
    answer: int
    """Characters of answer, tool calls included, of all choices together."""


def needed(pool: Pool, mode: Mode) -> bool:
    """Whether chat answers of `pool` in `mode` have to pass through here."""
    return parses(pool) or (mode is Mode.THINK and pool.engine is Engine.VLLM)


class StreamRewriter:
    """
    Rewrites the chunks of one streamed chat answer of `pool` in `mode`.

    `forced` and `constrained` are what `families.prefill` was asked with. `continued`: the stream goes on from
    `families.closing`, so that all of it is answer. `reasoning` and `answer` count the chunks with such output, one
    with both for both; an engine sends a chunk for each token. `judgement` is the mode that the model itself judged
    right, where it has said so.
    """

    __slots__ = (
        "_choices",
        "_constrained",
        "_forced",
        "_head",
        "_mode",
        "_pool",
        "answer",
        "continued",
        "judgement",
        "reasoning",
    )

    def __init__(
        self, pool: Pool, mode: Mode, *, forced: bool = True, constrained: bool = False, continued: bool = False
    ) -> None:
        self._pool = pool
        self._mode = mode
        self._forced = forced
        self._constrained = constrained
        self._choices: dict[int, _Choice] = {}
        self._head: dict[str, Any] = {}
        self.continued = continued
        self.judgement: Mode | None = None
        self.reasoning = 0
        self.answer = 0

    def feed(self, chunk: dict[str, Any]) -> list[dict[str, Any]]:
        """
        The chunks to send for `chunk`: none where all of its text is held back, several where it holds a border.

        Raises `MalformedOutput`.
        """
        choices = _list(chunk.get("choices"), "choices")
        if not choices:
            return [chunk]
        self._head = chunk
        rewritten = [chunk | {"choices": [choice]} for found in choices for choice in self._rewrite(found)]
        if "usage" in chunk:
            for earlier in rewritten[:-1]:
                earlier["usage"] = None
        return rewritten

    def finish(self) -> list[dict[str, Any]]:
        """What was held back, where the stream ends without saying why."""
        head = self._head | {"usage": None} if "usage" in self._head else self._head
        bare = [_bare(index, piece) for index, choice in self._choices.items() for piece in joined(choice.finish())]
        bare += [
            {"index": index, "delta": {}, "logprobs": left, "finish_reason": None}
            for index, choice in self._choices.items()
            if (left := choice.cleared(None, ended=True)) is not None
        ]
        return [head | {"choices": [choice]} for choice in bare]

    def _rewrite(self, found: Any) -> list[dict[str, Any]]:
        """The choices, in chunks of their own, that stand for one choice of a chunk."""
        found = _dict(found, "choices[]")
        index = found.get("index", 0)
        if type(index) is not int:
            raise MalformedOutput("choices[].index")
        choice = self._choices.get(index)
        if choice is None:
            parser = parser_of(
                self._pool,
                self._mode,
                forced=self._forced,
                constrained=self._constrained,
                continued=self.continued,
            )
            choice = self._choices[index] = _Choice(self._pool, parser, self.continued)
        delta = dict(_dict(found.get("delta"), "choices[].delta"))
        pieces = choice.feed(delta)
        ended = bool(found.get("finish_reason"))  # some engines say "" until there is one
        if choice.parser is not None and (
            found.get("logprobs") is not None or (ended and choice.tokens is not None)
        ):
            found = found | {"logprobs": choice.cleared(found.get("logprobs"), ended=ended)}
        kinds: set[Kind | None] = {piece.kind for piece in pieces} or {choice.last}
        self.reasoning += REASONING in kinds
        self.answer += ANSWER in kinds or bool(delta.get("tool_calls"))
        if self.judgement is None:
            self.judgement = choice.judgement
        if ended:
            pieces += choice.finish()
        pieces = joined(pieces)
        if pieces:
            delta[pieces[-1].kind.value] = pieces[-1].text
        elif choice.last is not None and not (ended or found.get("logprobs") or any(delta.values())):
            return []
        return [_bare(index, piece) for piece in pieces[:-1]] + [found | {"delta": delta}]


def rewrite_answer(
    answer: dict[str, Any],
    pool: Pool,
    mode: Mode,
    *,
    forced: bool = True,
    constrained: bool = False,
    continued: bool = False,
) -> Rewritten:
    """Rewrite a whole chat answer in place; arguments as of `StreamRewriter`. Raises `MalformedOutput`."""
    judgement: Mode | None = None
    reasoning = said = 0
    for found in _list(answer.get("choices"), "choices"):
        message = _dict(_dict(found, "choices[]").get("message"), "choices[].message")
        parser = parser_of(pool, mode, forced=forced, constrained=constrained, continued=continued)
        choice = _Choice(pool, parser, continued)
        pieces = choice.feed(message) + choice.finish()
        if parser is not None and found.get("logprobs") is not None:
            found["logprobs"] = choice.cleared(found["logprobs"], ended=True)
        thought = "".join(text for kind, text in pieces if kind is REASONING)
        content = "".join(text for kind, text in pieces if kind is ANSWER)
        message["reasoning_content"] = thought or None
        message["content"] = content or (None if message.get("tool_calls") else "")
        reasoning += len(thought)
        said += len(content) + _length(message.get("tool_calls"))
        if judgement is None:
            judgement = choice.judgement
    return Rewritten(judgement, reasoning, said)


def split_output(usage: Usage, reasoning: int, answer: int) -> Usage:
    """
    `usage` with its output divided between thinking and answer as `reasoning` to `answer`, which count anything.

    What an engine has counted itself is left as it is. The sum stays the same, and of two tokens or more neither
    class gets all where both have a count.
    """
    output = usage.completion_tokens
    if usage.reasoning or not reasoning or not output:
        return usage
    share = round(output * reasoning / (reasoning + answer)) if answer else output
    if answer:
        share = min(max(share, 1), max(output - 1, 1))
    return usage._replace(reasoning=share, answer=output - share)


class _Choice:
    """One choice of an answer: its parser, until it turns out that the engine has one itself."""

    __slots__ = ("_aside", "_continued", "_pool", "last", "parser", "tokens")

    def __init__(self, pool: Pool, parser: Parser | None, continued: bool) -> None:
        self.parser = parser
        self._pool = pool
        self._continued = continued
        self._aside: OutputParser | None = None  # takes the tags out of what the engine itself calls thinking
        self.tokens: TagFreeTokens | None = None
        self.last: Kind | None = None

    @property
    def judgement(self) -> Mode | None:
        """The mode that the model itself judged right, where it has said so."""
        if self.parser is None or self.parser.judgement is not None or self._aside is None:
            return None if self.parser is None else self.parser.judgement
        return self._aside.judgement

    def feed(self, message: dict[str, Any]) -> list[Piece]:
        """Take the text out of `message`, a delta or a whole message, and tell its kinds."""
        thought = _text(message.pop("reasoning_content", None), "reasoning_content")
        other = _text(message.pop("reasoning", None), "reasoning")
        said = _text(message.pop("content", None), "content")
        thought = thought or other  # some versions of vLLM say it under both names
        if self._continued:
            said, thought = thought + said, ""
        parser = self.parser
        if parser is None:
            pieces = [Piece(kind, text) for kind, text in ((REASONING, thought), (ANSWER, said)) if text]
            self.last = pieces[-1].kind if pieces else None
            return pieces
        pieces = []
        self.last = None
        if thought:
            parser.begin_answer()  # the engine tells them apart itself: what it calls content is no thinking
            if self._aside is None:
                self._aside = OutputParser(tags_of(self._pool), thinking=True)
            pieces += _as_thinking(self._aside.feed(thought))
            self.last = REASONING
        if said:
            if self._aside is not None:
                pieces += _as_thinking(self._aside.finish())
            told = parser.feed(said)
            self.last = told[-1].kind if told else parser.kind
            pieces += told
        return joined(pieces)

    def cleared(self, logprobs: Any, *, ended: bool) -> dict[str, Any] | None:
        """
        The log-probabilities of the tokens that are known to be text, once `logprobs` have come; None for none.

        `ended`: nothing more is to come.
        """
        entries = _dict(logprobs, "logprobs").get("content") if logprobs is not None else None
        tokens = self.tokens
        if tokens is None:
            if not entries:
                return None
            tokens = self.tokens = TagFreeTokens(tags_of(self._pool))
        kept = tokens.feed(
            [_dict(entry, "logprobs.content[]") for entry in _list(entries or [], "logprobs.content")]
        )
        if ended:
            kept += tokens.finish()
        return {"content": kept} if kept else None

    def finish(self) -> list[Piece]:
        """What was held back, now that the output has ended."""
        aside = [] if self._aside is None else _as_thinking(self._aside.finish())
        return aside + ([] if self.parser is None else self.parser.finish())


def _as_thinking(pieces: list[Piece]) -> list[Piece]:
    return [Piece(REASONING, text) for _, text in pieces]


def _bare(index: int, piece: Piece) -> dict[str, Any]:
    """A choice of a chunk that says `piece` and nothing else."""
    return {"index": index, "delta": {piece.kind.value: piece.text}, "logprobs": None, "finish_reason": None}


def _length(calls: Any) -> int:
    """Characters of tool calls."""
    functions = (
        [call.get("function") for call in calls if isinstance(call, dict)] if isinstance(calls, list) else ()
    )
    texts = [text for function in functions if isinstance(function, dict) for text in function.values()]
    return sum(len(text) for text in texts if isinstance(text, str))


def _text(value: Any, field: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise MalformedOutput(field)
    return value


def _dict(value: Any, field: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise MalformedOutput(field)
    return value


def _list(value: Any, field: str) -> list[Any]:
    if not isinstance(value, list):
        raise MalformedOutput(field)
    return value
