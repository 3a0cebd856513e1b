"""gpt-oss: always reasons a little; `reasoning_effort` says how much, and `low` stands for not thinking."""

from __future__ import annotations

from typing import Any

from pointsman.contracts.modes import Mode

_LEVELS = ("low", "medium", "high")


def switch(request: dict[str, Any], mode: Mode, effort: str | None) -> None:
    """Set `reasoning_effort`: `low` for no_think; for think the client's own level, else `medium`."""
    if mode is Mode.NO_THINK:
        request["reasoning_effort"] = "low"
    else:
        request["reasoning_effort"] = effort if effort in _LEVELS else "high" if effort == "xhigh" else "medium"
