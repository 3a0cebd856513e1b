"""gpt-oss: always reasons a little; `reasoning_effort` says how much, and `low` stands for not thinking.

Its output is not one text but several channels. SGLang and vLLM tell them apart by their tokens; an engine that
gives them as text is read here. Thinking that was cut can't be closed by text.

Sampling as its makers' README has it.
"""

from __future__ import annotations

from typing import Any

from pointsman.contracts.modes import Mode
from pointsman.router.families.channels import CHANNEL_TAGS, ChannelParser
from pointsman.router.families.family import ModelFamily

_LEVELS = {"low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}
"""The levels that the model knows, by the words that clients use."""
_SAMPLING = {"temperature": 1.0, "top_p": 1.0}


def switch(request: dict[str, Any], mode: Mode, effort: str | None) -> None:
    """Set `reasoning_effort`: `low` for no_think; for think the client's own level, else `medium`."""
    if mode is Mode.NO_THINK:
        request["reasoning_effort"] = "low"
    else:
        request["reasoning_effort"] = _LEVELS.get(effort or "", "medium")


GPT_OSS = ModelFamily(
    switch=switch,
    sampling={Mode.THINK: _SAMPLING, Mode.NO_THINK: _SAMPLING},
    tags=CHANNEL_TAGS,
    read_by=ChannelParser,
)
