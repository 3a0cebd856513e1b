"""Which processes an instance consists of."""

from __future__ import annotations

from pathlib import Path

import pytest
from redis.connection import parse_url

from pointsman.cli.instance import preflight
from pointsman.cli.instance.plan import ConsolePlace, Plan, plan_of, with_simulated_engines
from pointsman.cli.instance.state_folder import StateFolder
from pointsman.cli.instance.valkey import valkey_url
from pointsman.contracts.config import Autoscaling, Config, Engine
from pointsman.contracts.config_file import load_config

SECRET = "s3cret-of-this-start"


@pytest.fixture
def local() -> Config:
    return load_config(Path(preflight.__file__).parents[1] / "local.yaml")


def planned(
    config: Config, folder: Path, *, embedded_valkey: bool = True, console: ConsolePlace | None = None
) -> Plan:
    return plan_of(
        config,
        folder=StateFolder(folder),
        redis_url="redis://h:1/0",
        embedded_valkey=embedded_valkey,
        host="127.0.0.1",
        port=8080,
        secret=SECRET,
        console=console,
    )


def names(plan: Plan) -> list[str]:
    return [part.name for part in plan.parts]


def test_one_serving_process_for_all_sglang_pools(local: Config, tmp_path: Path) -> None:
    plan = planned(local, tmp_path)
    assert names(plan) == ["valkey", "serving", "admin", "ledger-writer", "router"]
    assert plan.stopping_order == [["router"], ["admin", "ledger-writer", "serving"], ["valkey"]]
    assert names(planned(local, tmp_path, embedded_valkey=False)) == ["serving", "admin", "ledger-writer", "router"]


def test_the_console_knows_the_router_and_redis_alone(local: Config, tmp_path: Path) -> None:
    place = ConsolePlace("127.0.0.1", 8081, "http://127.0.0.1:8080")
    plan = planned(local, tmp_path, console=place)
    assert plan.console is not None
    words = plan.console.argv[plan.console.argv.index("console") :]
    assert words == (
        *("console", "--redis-url", "redis://h:1/0", "--url", "http://127.0.0.1:8080"),
        *("--host", "127.0.0.1", "--port", "8081"),
    )
    assert plan.stopping_order[0] == ["router", "console"]


def test_one_process_for_each_simulated_replica(local: Config, tmp_path: Path) -> None:
    fast, deep = with_simulated_engines(local).pools
    bounds = Autoscaling(min_replicas=1, max_replicas=9)
    pools = (
        fast.model_copy(update={"replicas": 2}),
        deep.model_copy(update={"autoscaling": bounds, "replicas": 5}),
    )
    plan = planned(local.model_copy(update={"pools": pools}), tmp_path)
    assert names(plan) == [
        *("valkey", "simulated-fast-1", "simulated-fast-2", "simulated-deep-1"),
        *("admin", "ledger-writer", "router"),
    ]


def test_pools_with_urls_are_left_to_whoever_runs_them(local: Config, tmp_path: Path) -> None:
    elsewhere = local.pools[0].model_copy(update={"urls": ("http://10.0.0.1:9",)})
    simulated = with_simulated_engines(local.model_copy(update={"pools": (elsewhere, local.pools[1])}))
    assert [pool.engine for pool in simulated.pools] == [Engine.SGLANG, Engine.SIMULATED]
    assert names(planned(simulated, tmp_path)) == ["valkey", "simulated-deep-1", "admin", "ledger-writer", "router"]


def test_the_secret_is_in_the_environment_of_those_who_need_it_and_on_no_command_line(
    local: Config, tmp_path: Path
) -> None:
    for config in (local, with_simulated_engines(local)):
        plan = planned(config, tmp_path)
        knowing = {part.name for part in plan.parts if SECRET in part.environment.values()}
        assert knowing == {plan.router.name, *(part.name for part in plan.engines)}
        assert not any(SECRET in word for part in plan.parts for word in part.argv)


def test_the_router_gets_time_to_drain(local: Config, tmp_path: Path) -> None:
    assert planned(local, tmp_path).router.stop_within > local.router.drain_timeout


def test_clients_find_the_socket_of_any_folder(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "a b%20é?#")
    assert parse_url(valkey_url(folder))["path"] == str(folder.valkey_socket)
