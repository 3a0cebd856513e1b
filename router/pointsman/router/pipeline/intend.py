"""Note in the ledger what is about to be worked on.

Stands after everything that may refuse a request for free, and before everything that makes an engine work.
"""

from __future__ import annotations

from pointsman.router.exchange import Exchange
from pointsman.router.ledger import Ledger
from pointsman.router.pipeline.outcome import Outcome


class Intend:
    """Sets `intended`. Raises `LedgerFull`."""

    name = "intend"

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def __call__(self, exchange: Exchange) -> Outcome:
        self._ledger.intend(exchange)
        return Outcome.NEXT
