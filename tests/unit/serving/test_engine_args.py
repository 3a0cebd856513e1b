"""What a pool means to SGLang."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from pointsman.contracts.config import Pool
from pointsman.serving import engine_args

MakePool = Callable[..., Pool]
GPU = {"type": "H100", "per_node": 1}


def args(pool: Pool, template: str | None = None) -> dict[str, Any]:
    return engine_args.server_args(pool, model_path="/models/m", chat_template=template)


def test_a_cpu_pool_sleeps_when_idle_and_reports_what_is_billed(make_pool: MakePool) -> None:
    found = args(make_pool(max_ongoing_requests=7, capabilities={"context": 4096}))
    assert found["device"] == "cpu"
    assert found["sleep_on_idle"] is True
    assert found["enable_cache_report"] is True
    assert found["enable_metrics"] is True
    assert found["max_running_requests"] == 7
    assert found["context_length"] == 4096
    assert found["model_path"] == "/models/m"
    assert found["served_model_name"] == "m"
    assert "enable_strict_thinking" not in found
    assert "nnodes" not in found


def test_a_gpu_pool_gets_nothing_of_the_cpu(make_pool: MakePool) -> None:
    pool = make_pool(gpu=GPU)
    assert not set(args(pool)) & {"device", "dtype", "sleep_on_idle", "decode_log_interval"}
    assert not set(engine_args.environment(pool)) & {"SGLANG_USE_CPU_ENGINE", "PYTHONPATH", "OMP_NUM_THREADS"}


def test_the_pools_own_arguments_rank_above_defaults(make_pool: MakePool) -> None:
    found = args(make_pool(engine_args={"dtype": "bfloat16", "max_total_tokens": 100}))
    assert (found["dtype"], found["max_total_tokens"]) == ("bfloat16", 100)


def test_parsers_template_and_parallelism_are_handed_on(make_pool: MakePool) -> None:
    pool = make_pool(
        tensor_parallel=4,
        pipeline_parallel=2,
        gpu={"type": "H100", "per_node": 8},
        reasoning_parser="qwen3",
        tool_call_parser="qwen",
        capabilities={"tools": True},
        served_model_name="other",
    )
    found = args(pool, "/t.jinja")
    assert (found["tp_size"], found["pp_size"]) == (4, 2)
    assert (found["reasoning_parser"], found["tool_call_parser"]) == ("qwen3", "qwen")
    assert found["chat_template"] == "/t.jinja"
    assert found["served_model_name"] == "other"


def test_several_nodes_take_sglangs_ray_backend(make_pool: MakePool) -> None:
    found = args(make_pool(tensor_parallel=16, nodes=2, gpu={"type": "H200", "per_node": 8}))
    assert (found["tp_size"], found["nnodes"], found["use_ray"]) == (16, 2, True)


def test_a_thinking_budget_is_the_engines_own_limit_too(make_pool: MakePool) -> None:
    pool = make_pool(modes=["think"], thinking_budget=50, reasoning_parser="qwen3")
    assert args(pool)["enable_strict_thinking"] is True
    assert engine_args.environment(pool)["SGLANG_MAX_THINK_TOKENS"] == "50"


def test_a_thinking_budget_that_the_router_sees_to_is_not_the_engines(make_pool: MakePool) -> None:
    pool = make_pool(modes=["think"], thinking_budget=50, family="kat")
    assert "enable_strict_thinking" not in args(pool)
    assert "SGLANG_MAX_THINK_TOKENS" not in engine_args.environment(pool)


def test_our_parser_is_always_strict(make_pool: MakePool) -> None:
    pool = make_pool(modes=["think"], reasoning_parser="pointsman")
    assert args(pool)["enable_strict_thinking"] is True
    assert "SGLANG_MAX_THINK_TOKENS" not in engine_args.environment(pool)


def test_the_shims_come_first_on_the_path_and_once(make_pool: MakePool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    once = engine_args.environment(make_pool())["PYTHONPATH"]
    assert once.split(os.pathsep) == [str(engine_args.CPU_SHIMS), "/somewhere"]
    monkeypatch.setenv("PYTHONPATH", once)
    assert engine_args.environment(make_pool())["PYTHONPATH"] == once


def test_a_local_model_needs_no_hub(make_pool: MakePool) -> None:
    assert engine_args.environment(make_pool())["HF_HUB_OFFLINE"] == "1"
    assert "HF_HUB_OFFLINE" not in engine_args.environment(make_pool(model_path="org/name"))
