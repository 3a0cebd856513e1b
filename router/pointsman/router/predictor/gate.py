"""Whether a tenant's predictor may hold: better for the tenant than the base, and no worse for everybody.

Stands after adaptation. Both judgements are of the same rows by both predictors, so that only rows count on which
they differ: those that the new one puts right (`fixed`) and those that it spoils (`broken`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from pointsman.router.predictor.corpus import Row
from pointsman.router.predictor.evaluation import auroc
from pointsman.router.predictor.model import Predictor
from pointsman.router.predictor.tenant_rows import TenantRow

CHANCE = 0.05
"""How likely chance alone may be to make a predictor look better that is not."""

SPARED = 0.005
"""Share of the base's rows that may be lost beside what chance explains: the base has learnt from these very rows,
and any other predictor judges a few of them worse."""

_DEVIATIONS = 1.645
"""Standard deviations that chance alone exceeds one time in twenty."""


class Comparison(NamedTuple):
    """
    Two predictors on the same rows. Accuracies are at a threshold of 0.5, losses mean log losses in nats, rows
    counted by their weights; `fixed` and `broken` are numbers of rows.
    """

    rows: int
    accuracy_base: float
    accuracy: float
    auroc_base: float
    auroc: float
    loss_base: float
    loss: float
    fixed: int
    broken: int


class Gate(NamedTuple):
    """The verdict: `reason` says why in a sentence, whichever it is."""

    passed: bool
    reason: str
    tenant: Comparison
    base_set: Comparison

    def as_json(self) -> dict[str, Any]:
        """The verdict as a report holds it."""
        return {
            "passed": self.passed,
            "reason": self.reason,
            "tenant": self.tenant._asdict(),
            "base_set": self.base_set._asdict(),
        }


def judge(new: Predictor, base: Predictor, held_out: Sequence[TenantRow], base_set: Sequence[Row]) -> Gate:
    """Whether `new` may hold in place of `base`, by a tenant's rows that it has not seen, and by everybody's."""
    return verdict(compare(new, base, held_out), compare(new, base, base_set))


def compare(new: Predictor, base: Predictor, rows: Sequence[TenantRow] | Sequence[Row]) -> Comparison:
    """Both predictors on `rows`, which hold both labels."""
    texts = [row.text for row in rows]
    think = np.array([row.think for row in rows])
    weights = np.array([row.weight for row in rows])
    before, after = (np.array(predictor.probabilities(texts)) for predictor in (base, new))
    was_right, is_right = (before >= 0.5) == think, (after >= 0.5) == think

    def loss(probabilities: Any) -> float:
        of_label = np.clip(np.where(think, probabilities, 1 - probabilities), 1e-12, 1)
        return float(np.average(-np.log(of_label), weights=weights))

    return Comparison(
        rows=len(rows),
        accuracy_base=round(float(np.average(was_right, weights=weights)), 4),
        accuracy=round(float(np.average(is_right, weights=weights)), 4),
        auroc_base=round(auroc(think, before, weights), 4),
        auroc=round(auroc(think, after, weights), 4),
        loss_base=round(loss(before), 4),
        loss=round(loss(after), 4),
        fixed=int((is_right & ~was_right).sum()),
        broken=int((was_right & ~is_right).sum()),
    )


def verdict(tenant: Comparison, base_set: Comparison) -> Gate:
    """The verdict on two comparisons."""
    told = (
        f"of {tenant.rows} held-out queries of the tenant it puts {tenant.fixed} right and spoils {tenant.broken}"
    )
    lost = base_set.broken - base_set.fixed
    most = base_set.rows * SPARED + _DEVIATIONS * math.sqrt(base_set.broken + base_set.fixed)
    if lost > most:
        reason = (
            f"It is worse on the base set: of {base_set.rows} rows it spoils {base_set.broken} and puts "
            f"{base_set.fixed} right, {lost} lost where {most:.0f} may be."
        )
        return Gate(False, reason, tenant, base_set)
    chance = _chance(tenant.fixed, tenant.broken)
    if chance > CHANCE:
        reason = f"It is not better for the tenant: {told}, which chance alone does in {chance:.0%} of cases."
        return Gate(False, reason, tenant, base_set)
    reason = f"It is better for the tenant, and no worse on the base set: {told}."
    return Gate(True, reason, tenant, base_set)


def _chance(fixed: int, broken: int) -> float:
    """How likely as many rows or more are put right where each that changes is as likely to be spoilt."""
    changed = fixed + broken
    return math.fsum(math.comb(changed, number) / 2**changed for number in range(fixed, changed + 1))
