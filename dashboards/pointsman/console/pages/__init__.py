"""The console's pages, in the order of the navigation. A new one is a module with a `PAGE`, and a line here."""

from __future__ import annotations

from pointsman.console.page import Page
from pointsman.console.pages import (
    costs,
    decision,
    decisions,
    overview,
    playground,
    policies,
    policy,
    pool,
    pools,
    predictor,
    predictors,
    tenant,
    tenants,
)

ALL: tuple[Page, ...] = (
    overview.PAGE,
    costs.PAGE,
    decisions.PAGE,
    decision.PAGE,
    playground.PAGE,
    policies.PAGE,
    policy.PAGE,
    predictors.PAGE,
    predictor.PAGE,
    tenants.PAGE,
    tenant.PAGE,
    pools.PAGE,
    pool.PAGE,
)
