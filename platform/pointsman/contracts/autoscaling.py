"""What Ray Serve is told of the autoscaling of a pool.

In the contracts because two rooms tell it: the application of a pool says it where Pointsman starts Ray itself, and
the operator in what it writes for KubeRay, where it replaces what the application says. Pure, and knows nothing of
Ray but the names of its fields.
"""

from __future__ import annotations

from typing import Any

from pointsman.contracts.config_pools import Autoscaling, Pool

POLICY = "pointsman.serving.demand_policy:DemandPolicy"
"""Where Ray's controller finds what decides how many replicas there are."""

USUAL_LOAD = 0.75
"""Share of a replica's places that are to be taken, where the pool does not say how many."""


def autoscaling_fields(pool: Pool, bounds: Autoscaling, revision: str = "") -> dict[str, Any]:
    """Fields of Ray Serve's `AutoscalingConfig` for a `revision` of `pool`, which is scaled within `bounds`."""
    requests = target_requests(pool, bounds)
    return {
        "min_replicas": bounds.min_replicas,
        "max_replicas": bounds.max_replicas,
        "target_ongoing_requests": requests,
        "upscale_delay_s": bounds.upscale_delay,
        "downscale_delay_s": bounds.downscale_delay,
        "downscale_to_zero_delay_s": bounds.downscale_to_zero_delay,
        "policy": {
            "policy_function": POLICY,
            "policy_kwargs": {
                "pool": pool.name,
                "revision": revision,
                "target_requests": requests,
                "target_tokens": bounds.target_tokens,
            },
        },
    }


def target_requests(pool: Pool, bounds: Autoscaling) -> float:
    """Requests that each replica of `pool` is to have."""
    if bounds.target_requests is not None:
        return bounds.target_requests
    return max(1.0, USUAL_LOAD * pool.max_ongoing_requests)
