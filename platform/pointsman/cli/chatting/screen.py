"""What the user sees of an answer: on a terminal as it comes, or as one JSON object a question.

Answers are a stranger's text: control characters are taken out before they reach a terminal.
"""

from __future__ import annotations

import json
import sys
import unicodedata
from dataclasses import asdict
from decimal import Decimal
from typing import Protocol

from rich.console import Console
from rich.text import Text

from pointsman.cli.chatting.client import Kind, Reply, Track
from pointsman.cli.chatting.target import ChatError
from pointsman.contracts.modes import Mode, Source

_COLOURS = {Mode.THINK.value: "magenta", Mode.NO_THINK.value: "green"}


class Screen(Protocol):
    """Where a conversation is shown."""

    def wait(self) -> None:
        """A question is on its way."""

    def begin(self, track: Track) -> None:
        """The answer's headers are here."""

    def piece(self, kind: Kind, text: str) -> None:
        """A piece of thinking or of the answer."""

    def end(self, reply: Reply, *, stopped: bool) -> None:
        """The answer is complete, or was stopped by the user."""

    def failed(self, error: ChatError) -> None:
        """There is no answer, or no whole one."""

    def note(self, text: str) -> None:
        """A word of the program itself."""


class TerminalScreen:
    """
    For people: the track first, thinking dimmed and apart, then the answer, then tokens and cost.

    Where stdout is no terminal it gets the answers alone; all else goes to stderr.
    """

    def __init__(self) -> None:
        self._answers = Console(highlight=False, soft_wrap=True)
        self._about = (
            self._answers if self._answers.is_terminal else Console(stderr=True, highlight=False, soft_wrap=True)
        )
        self._last: Kind | None = None
        self._waiting = self._about.status("waiting for the first token", spinner="dots")

    def wait(self) -> None:
        if self._about.is_terminal:
            self._waiting.start()

    def begin(self, track: Track) -> None:
        self._waiting.stop()
        self._last = None
        line = Text()
        line.append(track.mode or "?", style=f"bold {_COLOURS.get(track.mode or '', '')}")
        line.append(f"  pool {track.pool or '?'}, {why(track)}", style="dim")
        self._about.print(line)

    def piece(self, kind: Kind, text: str) -> None:
        if self._last is Kind.THINKING and kind is Kind.ANSWER:
            self._about.print("\n")
        self._last = kind
        console = self._about if kind is Kind.THINKING else self._answers
        console.print(Text(printable(text), style="dim italic" if kind is Kind.THINKING else ""), end="")

    def end(self, reply: Reply, *, stopped: bool) -> None:
        self._finish_line()
        self._about.print(Text(("stopped; " if stopped else "") + bill(reply), style="dim"))

    def failed(self, error: ChatError) -> None:
        self._waiting.stop()
        self._finish_line()
        self._about.print(Text(printable(error.message), style="red"))

    def note(self, text: str) -> None:
        self._waiting.stop()
        self._about.print(Text(text, style="dim"))

    def _finish_line(self) -> None:
        if self._last is not None:
            (self._about if self._last is Kind.THINKING else self._answers).print()
        self._last = None


class JsonScreen:
    """For scripts: one JSON object a line and question; notes go to stderr."""

    def wait(self) -> None:
        pass

    def begin(self, track: Track) -> None:
        pass

    def piece(self, kind: Kind, text: str) -> None:
        pass

    def end(self, reply: Reply, *, stopped: bool) -> None:
        value = asdict(reply)
        track = value.pop("track")
        self._print({**track, **value, "stopped": stopped})

    def failed(self, error: ChatError) -> None:
        self._print({"error": {"message": error.message, "code": error.code}})

    def note(self, text: str) -> None:
        print(text, file=sys.stderr)

    def _print(self, value: dict[str, object]) -> None:
        print(json.dumps(value, ensure_ascii=False), flush=True)


def why(track: Track) -> str:
    """In words, who chose the mode of an answer, and by what."""
    probability, threshold = track.probability, track.threshold
    match track.source:
        case Source.CLIENT:
            return "as you asked"
        case Source.PREDICTOR:
            side = "at or above" if track.mode == Mode.THINK else "below"
            return f"predicted: P(think) {probability} is {side} {threshold}"
        case Source.DEFAULT:
            return f"by default: P(think) is {probability}" if probability else "by default: no prediction"
    return f"chosen by {track.source or 'nobody knows whom'}"


def bill(reply: Reply) -> str:
    """Tokens by class, cost and times of an answer, as far as they are known."""
    usage, parts = reply.usage, []
    if usage:
        thinking = usage.get("reasoning_tokens") or 0
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
        prompt = f"{usage.get('prompt_tokens', 0)} prompt" + (f" ({cached} cached)" if cached else "")
        answer = usage.get("completion_tokens", 0) - thinking
        parts.append(f"{prompt} + {thinking} thinking + {answer} answer tokens")
    if reply.cost_usd is not None:
        parts.append(f"${reply.cost_usd}")
    if reply.finish_reason == "length":
        parts.append("cut at the token limit")
    if reply.first_token_after is not None and reply.seconds:
        parts.append(f"{reply.seconds:.1f} s, the first token after {reply.first_token_after:.1f} s")
    return " · ".join(parts) or "no usage"


def total(costs: list[str]) -> str:
    """The sum of `costs` in dollars, exactly."""
    return f"{sum(map(Decimal, costs), Decimal(0)):f}"


def printable(text: str) -> str:
    """`text` without the characters that a terminal obeys; line feeds and tabs stay."""
    return "".join(
        letter for letter in text if letter in "\n\t" or unicodedata.category(letter) not in ("Cc", "Cs")
    )
