"""Model families: how each is told to think, or not to.

A family is one small file with a function that edits the upstream request; how its output is told apart is the
engine's reasoning parser. `plain` needs no file: the pool's own chat template decides.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pointsman.contracts.config import Family
from pointsman.contracts.modes import Mode
from pointsman.router.families import gpt_oss, template_switch

Switch = Callable[[dict[str, Any], Mode, str | None], None]
"""Edits an upstream request (a chat request's JSON object) for a mode; the last argument is the client's effort."""

SWITCHES: dict[Family, Switch] = {
    Family.QWEN3: template_switch.setting("enable_thinking"),
    Family.GLM: template_switch.setting("enable_thinking"),
    Family.DEEPSEEK: template_switch.setting("thinking"),
    Family.GRANITE: template_switch.setting("thinking"),
    Family.GPT_OSS: gpt_oss.switch,
}
"""Families whose mode is switched on the request; of the others the pool's own template decides."""
