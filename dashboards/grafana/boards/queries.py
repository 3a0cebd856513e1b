"""How dashboards ask Prometheus: selectors that never leave a scope, and the few sums that all of them need."""

from __future__ import annotations

from dataclasses import dataclass

RATE = "$__rate_interval"
"""The window of a rate, which Grafana chooses by the step of the picture and the interval of scrapes."""

QUANTILES = {"p50": 0.5, "p95": 0.95}

_LEDGER_LABELS = "namespace, tenant, model, mode, pool, token_class, period, estimate, kind, outcome"
"""Those of any of the ledger's gauges."""


@dataclass(frozen=True, slots=True)
class Scope:
    """
    What a dashboard may look at: `matchers` are part of every selector.

    `datasource`: UID of the data source, or the variable that holds it.
    """

    matchers: str
    datasource: str

    def of(self, metric: str, *matchers: str) -> str:
        """The series of `metric` in this scope that meet `matchers`."""
        return f"{metric}{{{', '.join((self.matchers, *matchers))}}}"

    def rate(self, metric: str, *matchers: str, window: str = RATE) -> str:
        """How fast each of these counters grows, by the second."""
        return f"rate({self.of(metric, *matchers)}[{window}])"

    def summed(self, by: str, metric: str, *matchers: str, window: str = RATE) -> str:
        """The same added up by the labels `by`, which may be none."""
        return f"{_sum(by)} ({self.rate(metric, *matchers, window=window)})"

    def quantile(self, at: float, by: str, metric: str, *matchers: str) -> str:
        """The quantile `at` of a histogram, by the labels `by`."""
        return f"histogram_quantile({at}, {self.summed(f'{by}, le', f'{metric}_bucket', *matchers)})"

    def share(self, by: str, metric: str, part: str, *matchers: str, window: str = RATE) -> str:
        """How much of what a counter counts meets `part`; 0 where none does, nothing where it counts nothing."""
        some = self.summed(by, metric, part, *matchers, window=window)
        every = self.summed(by, metric, *matchers, window=window)
        return f"({some} or 0 * {every}) / ({every} > 0)"

    def ledger(self, by: str, metric: str, *matchers: str) -> str:
        """A gauge of the ledger's, added up by the labels `by`: every ledger writer tells it alike."""
        return f"{_sum(by)} ({once(self.of(metric, *matchers))})"

    def ledger_growth(self, by: str, metric: str, *matchers: str, window: str = "1h") -> str:
        """What such a gauge has grown by in `window`, added up likewise; below 0 where it has shrunk."""
        return f"{_sum(by)} ({once(f'delta({self.of(metric, *matchers)}[{window}])')})"


def once(series: str) -> str:
    """`series` that several processes tell alike, without saying which: of two, the greater one."""
    return f"max by ({_LEDGER_LABELS}) ({series})"


def _sum(by: str) -> str:
    return f"sum by ({by})" if by else "sum"
