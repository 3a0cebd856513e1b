"""What the router has to know of a model family; each family's own file fills one of these in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pointsman.contracts.modes import Mode
from pointsman.router.families.output import Parser, Tags

Switch = Callable[[dict[str, Any], Mode, str | None], None]
"""Edits an upstream request (a chat request's JSON object) for a mode; the last argument is the client's effort."""

Sampling = Mapping[str, float]
"""Sampling fields of a request, with the values that hold where the client gives none."""


@dataclass(frozen=True, slots=True)
class ModelFamily:
    """How a family is told its mode, and how its output is read."""

    switch: Switch | None = None
    """Says the mode on the request; None where the request says nothing of it."""
    sampling: Mapping[Mode, Sampling] = field(default_factory=dict)
    """Sampling by mode, as the model's makers recommend it."""
    messages_temperature: float = 1.0
    """What a temperature is multiplied by that was given in Anthropic's format."""
    max_output: int | None = None
    """Output tokens at most, as the model's makers recommend it."""
    keeps_special_tokens: bool = False
    """Whether its tags are special tokens, which engines leave out of the text unless told otherwise."""
    tags: Tags | None = None
    """Its tags; None where its output has none, or none that a text shows."""
    read_by: Callable[[], Parser] | None = None
    """What reads its output where that is more than tags with text behind them."""
    always_parsed: bool = False
    """Whether the router parses its output even where the engine has a reasoning parser."""
    thinks_at_once: bool = False
    """Whether in mode think its output is thinking from the first token on, opened by itself or by its template."""
    prefills: Mapping[Mode, str] = field(default_factory=dict)
    """What the assistant's turn begins with where a mode is forced upon it."""
    opening: str = "<think>"
    """What opens the thinking, where the prompt has not done so."""
    closing: str = "</think>"
    """What closes thinking that was cut, and opens the answer, of a pool that `closes_thinking`."""
