"""What came of the traffic so far: counted as clients see it, told as one line or one JSON object.

Dollars are summed as the decimals that the answers told, and so can be held against the bill to the last digit.
"""

from __future__ import annotations

import json
from collections import Counter, deque
from dataclasses import dataclass, field
from decimal import Decimal
from time import monotonic

from pointsman.cli.playing.asking import Told
from pointsman.contracts.modes import Mode

WINDOW = 10.0
"""Seconds over which rates on the line are means."""


@dataclass(slots=True)
class Tally:
    """Counts; `running` are requests without an answer yet, `problems` errors by their code."""

    begun: float = field(default_factory=monotonic)
    asked: int = 0
    running: int = 0
    cut: int = 0
    """Requests that were given up at the end."""
    answered: Counter[str] = field(default_factory=Counter)
    """Whole answers by mode."""
    problems: Counter[str] = field(default_factory=Counter)
    feedback: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: Decimal = Decimal(0)
    _recent: deque[tuple[float, int]] = field(default_factory=deque)

    def took(self, told: Told) -> None:
        """Count an answer, or what came instead of one."""
        if told.code is None:
            self.answered[told.mode or "?"] += 1
        else:
            self.problems[told.code] += 1
        self.input_tokens += told.input_tokens
        self.output_tokens += told.output_tokens
        if told.cost_usd is not None:
            self.cost += Decimal(told.cost_usd)
        self._recent.append((monotonic(), told.output_tokens))

    def line(self) -> str:
        """All of it at a glance."""
        now = monotonic()
        while self._recent and self._recent[0][0] < now - WINDOW:
            self._recent.popleft()
        span = max(1.0, min(WINDOW, now - self.begun))
        minutes, seconds = divmod(int(now - self.begun), 60)
        parts = [
            f"{minutes:02}:{seconds:02}",
            f"{len(self._recent) / span:.1f} answers/s",
            f"{sum(tokens for _, tokens in self._recent) / span:.0f} tokens/s",
            f"{self.running} running",
            *(f"{self.answered[mode.value]} {mode.value}" for mode in Mode),
            f"${self.cost:f}",
        ]
        if self.problems:
            parts.append("not answered: " + ", ".join(f"{n} {code}" for code, n in self.problems.most_common(3)))
        return " · ".join(parts)

    def as_json(self) -> str:
        """The counts at the end, as one object."""
        return json.dumps(
            {
                "seconds": round(monotonic() - self.begun, 3),
                "asked": self.asked,
                "answered": dict(self.answered),
                "problems": dict(self.problems),
                "cut": self.cut,
                "feedback": self.feedback,
                "input_tokens": self.input_tokens,
                "output_tokens": self.output_tokens,
                "cost_usd": f"{self.cost:f}",
            }
        )
