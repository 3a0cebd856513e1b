"""Models about which nothing is known but what the pool says: its chat template alone decides.

Where that template opens the thinking in the prompt (`template_opens_thinking`, as `builtin:think` does), what
comes up to `</think>` is thinking, and `</think>` closes it.
"""

from __future__ import annotations

from pointsman.router.families.family import ModelFamily

PLAIN = ModelFamily()
