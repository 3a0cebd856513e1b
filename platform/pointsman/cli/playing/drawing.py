"""Drawing conversations from the corpus: what is asked, in which format, of which length, with which wish.

Pure: the same seed draws the same conversations in the same order, whoever plays them and however fast.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import files
from typing import Any

import yaml

from pointsman.contracts.modes import Mode

LANGUAGES = {"en": 0.5, "zh": 0.25, "ja": 0.25}
"""Share of the conversations by language (ISO 639)."""

DOCUMENT_CHARACTERS = {"en": (500, 3500), "zh": (200, 800), "ja": (200, 800)}
"""Length of a document, from and to: what a model with 8,192 tokens of context still reads."""

STREAMS, WISHES, FAITHFUL, MESSAGES, WITH_SYSTEM, DETERMINISTIC = 0.7, 0.15, 0.8, 0.2, 0.25, 0.2
"""Shares: of turns that stream and of those whose client wishes for a mode, of wishes that are what the question
deserves; of conversations in Anthropic's format, with a system prompt, and at temperature 0."""

SYSTEM = {
    "en": "You are the assistant of a small travel agency. Be brief and kind.",
    "zh": "你是一家小旅行社的助理，请简洁友好地回答。",
    "ja": "あなたは小さな旅行会社のアシスタントです。簡潔に、丁寧に答えてください。",
}


class Format(StrEnum):
    """The wire format of a conversation."""

    CHAT = "chat"
    MESSAGES = "messages"


class Means(StrEnum):
    """How a client says which mode it wants."""

    HEADER = "header"
    EFFORT = "effort"
    WORD = "word"


@dataclass(frozen=True, slots=True)
class Wish:
    """A mode that a client asks for, and how it does."""

    mode: Mode
    means: Means


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a user."""

    text: str
    max_tokens: int
    stream: bool
    wish: Wish | None


@dataclass(frozen=True, slots=True)
class Conversation:
    """What one client says; `think` is the corpus' opinion of it, `dice` in [0, 1) are for the player."""

    language: str
    think: bool
    format: Format
    system: str | None
    temperature: float | None
    turns: tuple[Turn, ...]
    dice: tuple[float, float, float]


def conversations(seed: int) -> Iterator[Conversation]:
    """Conversations without an end."""
    corpus: dict[str, Any] = yaml.safe_load(
        files("pointsman.cli.playing").joinpath("corpus.yaml").read_text(encoding="utf-8")
    )
    draw = random.Random(seed)
    while True:
        (language,) = draw.choices(list(LANGUAGES), list(LANGUAGES.values()))
        yield _conversation(draw, corpus, language)


def _conversation(draw: random.Random, corpus: dict[str, Any], language: str) -> Conversation:
    scene = draw.choice(corpus["scenes"][language])
    blanks = {name: draw.choice(words) for name, words in corpus["words"][language].items()}
    blanks |= {"a": draw.randint(2, 9), "b": draw.randint(10, 39), "c": draw.randint(40, 99)}
    texts = [text.format_map(blanks) for text in scene["turns"]]
    if place := scene.get("document"):
        document = _document(draw, corpus["documents"][language], language).format_map(blanks)
        texts[0] = f"{document}\n\n{texts[0]}" if place == "before" else f"{texts[0]}\n\n{document}"
    count = draw.randint(1, len(texts))
    return Conversation(
        language=language,
        think=scene["think"],
        format=Format.MESSAGES if draw.random() < MESSAGES else Format.CHAT,
        system=SYSTEM[language] if draw.random() < WITH_SYSTEM else None,
        temperature=0.0 if draw.random() < DETERMINISTIC else None,
        turns=tuple(_turn(draw, text, think=scene["think"]) for text in texts[:count]),
        dice=(draw.random(), draw.random(), draw.random()),
    )


def _turn(draw: random.Random, text: str, *, think: bool) -> Turn:
    wish = None
    if draw.random() < WISHES:
        thinks = think if draw.random() < FAITHFUL else not think
        wish = Wish(Mode.THINK if thinks else Mode.NO_THINK, draw.choice(list(Means)))
    return Turn(
        text=text,
        max_tokens=draw.choice((192, 256, 384) if think else (48, 96, 160)),
        stream=draw.random() < STREAMS,
        wish=wish,
    )


def _document(draw: random.Random, paragraphs: list[str], language: str) -> str:
    length = draw.randint(*DOCUMENT_CHARACTERS[language])
    parts: list[str] = []
    while not parts or sum(map(len, parts)) < length:
        parts.append(draw.choice(paragraphs))
    return "\n\n".join(parts)
