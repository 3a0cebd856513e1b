"""Log-probabilities of an answer's own tokens, as OpenAI's Responses tell them.

Stands beside `responses_face.py` because an engine tells one list for all of its output, where that format has them
at each piece of a message's text, and none for what was thought or called. Which tokens an answer is made of is
found by their bytes: an engine tells them with a piece of text or before it, and it may hold text back.
"""

from __future__ import annotations

from typing import Any


class AnswersTokens:
    """The tokens whose text has not been told yet, in their order."""

    __slots__ = ("_tokens", "taken")

    def __init__(self) -> None:
        self._tokens: list[dict[str, Any]] = []
        self.taken: list[dict[str, Any]] = []
        """All that `take` has returned."""

    def add(self, logprobs: Any) -> None:
        """Tokens of a choice's `logprobs`; what has no known shape is left out."""
        content = logprobs.get("content") if type(logprobs) is dict else None
        if type(content) is list:
            self._tokens += [_entry(token) for token in content if _is_token(token)]

    def skip(self, text: str) -> None:
        """Drop the tokens up to the end of `text`, which is no part of the answer."""
        span = self._span(text)
        self._tokens = [] if span is None else self._tokens[span[1] :]

    def take(self, text: str) -> list[dict[str, Any]]:
        """
        The tokens of `text`, which is a piece of the answer. Those before it are no part of one.

        Where `text` is not to be found in them (a character may be in several tokens), all that there are.
        """
        first, end = self._span(text) or (0, len(self._tokens))
        found, self._tokens = self._tokens[first:end], self._tokens[end:]
        self.taken += found
        return found

    def _span(self, text: str) -> tuple[int, int] | None:
        """The places of the first and after the last of the tokens that hold `text`."""
        wanted = text.encode()
        at = b"".join(bytes(token["bytes"]) for token in self._tokens).find(wanted)
        if at < 0 or not wanted:
            return None
        first, begun = None, 0
        for place, token in enumerate(self._tokens):
            ended = begun + len(token["bytes"])
            if first is None and ended > at:
                first = place
            if ended >= at + len(wanted):
                assert first is not None
                return first, place + 1
            begun = ended
        return None


def _is_token(token: Any) -> bool:
    return type(token) is dict and type(token.get("token")) is str and type(token.get("logprob")) in (int, float)


def _entry(token: dict[str, Any]) -> dict[str, Any]:
    others = token.get("top_logprobs")
    return {
        **_scored(token),
        "top_logprobs": [_scored(other) for other in others if _is_token(other)] if type(others) is list else [],
    }


def _scored(token: dict[str, Any]) -> dict[str, Any]:
    written = token.get("bytes")
    if type(written) is not list or not all(type(byte) is int and 0 <= byte < 256 for byte in written):
        written = list(token["token"].encode("utf-8", "replace"))
    return {"token": token["token"], "bytes": written, "logprob": token["logprob"]}
