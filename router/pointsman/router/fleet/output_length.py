"""How long answers are: a running median and quartiles per tenant, model and mode.

Stands apart because it learns and the rest of placement only asks. The median is followed by stochastic
approximation on a logarithmic scale: an answer above it raises it by a fixed share, one below it lowers it by
the same, so that it settles where half of the answers are longer. One number and no history; a few absurdly long
answers move it no more than a few long ones, and no tenant's answers touch another's estimate.
"""

from __future__ import annotations

PRIOR = 256
"""Tokens that an answer is taken for before any was seen."""

STEP = 0.05
"""Share by which one answer moves the estimate once it has seen many; it stays about this close to the median."""

MOST = 1e6
"""Tokens that the estimate never exceeds."""


class OutputLength:
    """
    The running median of output tokens, thinking included. `tokens` is the estimate, at least 1; `low` and `high`
    are the quartiles beside it; `seen` is how many answers it comes from.
    """

    __slots__ = ("_exact", "high", "low", "seen", "tokens")

    def __init__(self) -> None:
        self.tokens = PRIOR
        self._exact = self.low = self.high = float(PRIOR)
        self.seen = 0

    def learn(self, tokens: int) -> None:
        """An answer of `tokens` was complete."""
        self.seen += 1
        step = max(STEP, 1.0 / self.seen)  # large steps first: 1, 0.5, 0.33, ...
        factor = 1.0 + step
        if tokens > self._exact:
            self._exact = min(self._exact * factor, MOST)
        elif tokens < self._exact:
            self._exact = max(self._exact / factor, 1.0)
        self.tokens = round(self._exact)
        # A quartile settles where the steps away from it balance: three short ones against one long one.
        half = 1.0 + step / 2
        if tokens > self.low:
            self.low = min(self.low * half, MOST)
        else:
            self.low = max(self.low / (half * half * half), 1.0)
        if tokens < self.high:
            self.high = max(self.high / half, 1.0)
        else:
            self.high = min(self.high * (half * half * half), MOST)
