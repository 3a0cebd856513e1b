"""A pool as an application of Ray Serve: how many replicas, on which resources, watched how closely.

`build_pool` is an application builder as Ray Serve knows them, so a pool can also be started by Ray's own tools
from its arguments alone. It runs in the process that deploys, which needs no SGLang.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict
from ray import serve
from ray.serve import Application
from ray.serve.config import AutoscalingConfig

from pointsman.contracts.config import Pool
from pointsman.serving import engine_args
from pointsman.serving.replica import STOP_WITHIN, PoolReplica

_HEALTH_PERIOD = 2.0
"""Seconds between two looks of Ray Serve at a replica."""

_HEALTH_TIMEOUT = 30.0
"""Seconds a replica has to answer such a look; a busy machine is no reason to replace an engine."""

_START_TRIES = 3
"""Starts of a replica that may fail before its pool counts as failed."""


class PoolArgs(BaseModel):
    """What `build_pool` needs to know. `host`: the address that replicas listen on and register."""

    model_config = ConfigDict(extra="forbid")

    pool: Pool
    redis_url: str
    host: str = "127.0.0.1"


def build_pool(args: PoolArgs) -> Application:
    """
    The Ray Serve application of one pool. Its replicas find the instance's secret in their environment.

    A replica on one node takes all its accelerators in one actor, so they are always on the same machine. On
    several nodes it takes a placement group with a bundle on each; unproven.
    """
    pool = args.pool
    options: dict[str, Any] = {
        "name": pool.name,
        "max_ongoing_requests": pool.max_ongoing_requests,
        "health_check_period_s": _HEALTH_PERIOD,
        "health_check_timeout_s": _HEALTH_TIMEOUT,
        "graceful_shutdown_timeout_s": STOP_WITHIN + 5,
        "graceful_shutdown_wait_loop_s": 0.1,
        # No CPUs are claimed: how many engines share the processors of a machine is the configuration's business.
        "ray_actor_options": {"num_cpus": 0, "runtime_env": {"env_vars": engine_args.environment(pool)}},
        "max_constructor_retry_count": _START_TRIES,
    }
    if pool.nodes > 1:
        assert pool.gpu is not None, "the configuration refuses several nodes without accelerators"
        options["placement_group_bundles"] = [{"CPU": 1, "GPU": pool.gpu.per_node}] * pool.nodes
        options["placement_group_strategy"] = "STRICT_SPREAD"
    elif pool.gpu is not None:
        options["ray_actor_options"]["num_gpus"] = pool.gpu.per_node
    if pool.autoscaling is None:
        options["num_replicas"] = pool.replicas
    else:
        options["autoscaling_config"] = AutoscalingConfig(
            min_replicas=pool.autoscaling.min_replicas, max_replicas=pool.autoscaling.max_replicas
        )
    deployment = serve.deployment(PoolReplica).options(**options)
    return deployment.bind(pool, args.redis_url, args.host)
