"""Kimi K2 Instruct: has no thinking, hence no switch and no tags.

Sampling as the model's card has it. Of a temperature in Anthropic's format its makers' own endpoint takes six
tenths, and clients of that format are tuned to it.
"""

from __future__ import annotations

from pointsman.contracts.modes import Mode
from pointsman.router.families.family import ModelFamily

KIMI_K2 = ModelFamily(sampling={Mode.NO_THINK: {"temperature": 0.6}}, messages_temperature=0.6)
