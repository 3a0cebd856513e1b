"""Families whose chat template takes a switch: qwen3 and glm `enable_thinking`, deepseek and granite `thinking`."""

from __future__ import annotations

from typing import Any

from pointsman.contracts.modes import Mode
from pointsman.router.families.family import Switch


def setting(name: str) -> Switch:
    """A switch that sets `chat_template_kwargs[name]` to whether the model shall think."""

    def switch(request: dict[str, Any], mode: Mode, effort: str | None) -> None:
        request["chat_template_kwargs"] = {name: mode is Mode.THINK}

    return switch
