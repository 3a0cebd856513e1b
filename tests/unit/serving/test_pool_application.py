"""A pool as an application of Ray Serve."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pointsman.contracts.config import Pool
from pointsman.contracts.names import Env
from pointsman.serving.pool_application import PoolArgs, build_pool

MakePool = Callable[..., Pool]


def deployment(pool: Pool) -> Any:
    return build_pool(PoolArgs(pool=pool, redis_url="redis://localhost:6379"))._bound_deployment


def test_replicas_and_their_limit(make_pool: MakePool) -> None:
    found = deployment(make_pool(replicas=3, max_ongoing_requests=5))
    assert found.name == "fast"
    assert found.num_replicas == 3
    assert found.max_ongoing_requests == 5
    assert found.ray_actor_options["num_cpus"] == 0
    assert "num_gpus" not in found.ray_actor_options


def test_bounds_take_the_place_of_a_fixed_number(make_pool: MakePool) -> None:
    found = deployment(make_pool(autoscaling={"min_replicas": 2, "max_replicas": 9}))
    config = found._deployment_config.autoscaling_config
    assert (config.min_replicas, config.max_replicas) == (2, 9)


def test_a_replica_on_one_node_holds_all_its_accelerators(make_pool: MakePool) -> None:
    found = deployment(make_pool(tensor_parallel=4, gpu={"type": "H100", "per_node": 4}))
    assert found.ray_actor_options["num_gpus"] == 4


def test_a_replica_on_several_nodes_has_a_bundle_on_each(make_pool: MakePool) -> None:
    found = deployment(make_pool(tensor_parallel=16, nodes=2, gpu={"type": "H200", "per_node": 8}))
    config = found._replica_config
    assert config.placement_group_bundles == [{"CPU": 1, "GPU": 8}] * 2
    assert config.placement_group_strategy == "STRICT_SPREAD"


def test_the_secret_is_not_among_what_ray_writes_down(make_pool: MakePool, monkeypatch: Any) -> None:
    monkeypatch.setenv(Env.REPLICA_SECRET, "do-not-tell")
    found = deployment(make_pool())
    assert "do-not-tell" not in repr(found.ray_actor_options)
    assert "do-not-tell" not in repr(found.init_args)
