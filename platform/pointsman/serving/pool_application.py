"""A pool as an application of Ray Serve: how many replicas, on which resources, watched how closely.

`build_pool` is an application builder as Ray Serve knows them, so a pool can also be started by Ray's own tools
from its arguments alone. It runs in the process that deploys, which needs no SGLang.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.serve import Application

from pointsman.contracts.config import Engine, Pool
from pointsman.contracts.config_types import Revision
from pointsman.serving import engine_args
from pointsman.serving.autoscaling import autoscaling_config
from pointsman.serving.replica import NOTICED, ServedReplica, Standing
from pointsman.serving.sglang_replica import SglangReplica
from pointsman.serving.simulated.replica import SimulatedReplica

_HEALTH_PERIOD = 2.0
"""Seconds between two looks of Ray Serve at a replica."""

_HEALTH_TIMEOUT = 30.0
"""Seconds a replica has to answer such a look; a busy machine is no reason to replace an engine."""

_START_TRIES = 3
"""Starts of a replica that may fail before its pool counts as failed."""


_REPLICAS: dict[Engine, type[ServedReplica]] = {
    Engine.SGLANG: SglangReplica,
    Engine.SIMULATED: SimulatedReplica,
}


Port = Annotated[int, Field(ge=1, le=65535)]


class PoolArgs(BaseModel):
    """What `build_pool` needs to know. Ray writes it down: what is secret is in the environment."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    pool: Pool
    """The pool; its engine is `sglang` or `simulated`."""
    redis_url: str | None = None
    """Where replicas register. Default: as the environment of each says, which may hold a password."""
    host: str | None = None
    """The address that replicas listen on and register. Default: the one by which Ray knows their node."""
    revision: Revision = ""
    """What replicas register as, so that routers can tell those of an upgrade from the others. Default: nothing."""
    drain_timeout: Annotated[float, Field(ge=0, le=86_400)] = 120.0
    """Seconds that running answers get when a replica is stopped in order. Default: 120."""
    ports: tuple[Port, Port] | None = None
    """First and last port that replicas may listen on, for a network that opens no others. Default: any."""


def build_pool(args: PoolArgs | dict[str, Any]) -> Application:
    """
    The Ray Serve application of one pool. Its replicas find the instance's secret in their environment; where it
    is scaled by demand, the Serve controller finds the store in its own. `args` may be a `PoolArgs` as a mapping,
    which is what Ray's own tools have of it. Raises pydantic's `ValidationError` where that makes no sense.

    A replica on one node takes all its accelerators in one actor, so they are always on the same machine. On
    several nodes it takes a placement group with a bundle on each; unproven.
    """
    args = PoolArgs.model_validate(args)
    pool = args.pool
    options: dict[str, Any] = {
        "name": pool.name,
        "max_ongoing_requests": pool.max_ongoing_requests,
        "health_check_period_s": _HEALTH_PERIOD,
        "health_check_timeout_s": _HEALTH_TIMEOUT,
        "graceful_shutdown_timeout_s": args.drain_timeout + NOTICED + 5,
        "graceful_shutdown_wait_loop_s": 0.1,
        # No CPUs are claimed: how many engines share the processors of a machine is the configuration's business.
        "ray_actor_options": {"num_cpus": 0},
        "max_constructor_retry_count": _START_TRIES,
    }
    if pool.engine is Engine.SGLANG:
        options["ray_actor_options"]["runtime_env"] = {"env_vars": engine_args.environment(pool)}
    if pool.nodes > 1:
        assert pool.gpu is not None, "the configuration refuses several nodes without accelerators"
        options["placement_group_bundles"] = [{"CPU": 1, "GPU": pool.gpu.per_node}] * pool.nodes
        options["placement_group_strategy"] = "STRICT_SPREAD"
    elif pool.gpu is not None:
        options["ray_actor_options"]["num_gpus"] = pool.gpu.per_node
    if pool.autoscaling is None:
        options["num_replicas"] = pool.replicas
    else:
        options["autoscaling_config"] = autoscaling_config(pool, args.revision)
    standing = Standing(args.redis_url, args.host, args.revision, args.drain_timeout, args.ports)
    return serve.deployment(_REPLICAS[pool.engine]).options(**options).bind(pool, standing)
