"""What an answer costs that was made for another request: a share of what it cost then.

Apart from the parts that move answers around, so that the one place that makes money out of them is short.
"""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from functools import lru_cache

from pointsman.contracts.ledger import Part
from pointsman.contracts.pricing import Cost
from pointsman.router.exchange import Recalled


@lru_cache(1024)
def exact(share: float) -> Fraction:
    """`share` as it is written in the configuration: 0.1 is a tenth, which no binary number is."""
    return Fraction(Decimal(repr(share)))


def recalled(parts: tuple[Part, ...], share: float, most: int | None, *, replayed: bool) -> Recalled:
    """
    What is billed for work that cost what `parts` say: `share` of each amount, rounded half-even.

    Where that is more than `most` nano-dollars, which were set aside for the request at today's prices, each amount
    is cut down in proportion.
    """
    cost = sum(part.cost.total for part in parts)
    billed = tuple(part._replace(cost=_share_of(part.cost, share)) for part in parts)
    total = sum(part.cost.total for part in billed)
    if most is not None and total > most:
        billed = tuple(
            part._replace(cost=Cost(*(amount * most // total for amount in part.cost))) for part in billed
        )
        total = sum(part.cost.total for part in billed)
    return Recalled(billed, cost - total, replayed)


def _share_of(cost: Cost, share: float) -> Cost:
    if share == 0:
        return Cost()
    if share == 1:
        return cost
    rate = exact(share)
    return Cost(*(round(amount * rate) for amount in cost))
