"""What a pool's description means to SGLang: fields of `ServerArgs`, and environment variables of its processes.

Pure, and importable without SGLang, so that a configuration can be judged on any machine. Several nodes (TP or PP
across machines) are mapped to SGLang's Ray backend; that path has never run here, for want of such machines.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pointsman.contracts.config import Pool

CPU_SHIMS = Path(__file__).resolve().parent / "cpu_shims"
"""Goes on PYTHONPATH of engines without accelerators: see the module in it."""

_CPU_ARGS: dict[str, Any] = {
    "device": "cpu",
    "dtype": "float32",
    "sleep_on_idle": True,  # else an idle engine keeps a core busy
    "decode_log_interval": 4,  # tokens between two looks at the gauges; at CPU speed the usual 40 take seconds
}
"""Arguments of a pool without `gpu`, where its `engine_args` don't say otherwise."""


def runs_on_cpu(pool: Pool) -> bool:
    """Whether the engines of `pool` run without accelerators."""
    return pool.gpu is None


def server_args(pool: Pool, *, model_path: str, chat_template: str | None) -> dict[str, Any]:
    """
    Fields of SGLang's `ServerArgs` for a replica of `pool`.

    `model_path` and `chat_template` are what the pool's fields of these names resolve to on this machine. The
    pool's `engine_args` rank above defaults; contracts refuse those that contradict a field of the pool.
    """
    args: dict[str, Any] = {
        "model_path": model_path,
        "served_model_name": pool.upstream_model,
        "tp_size": pool.tensor_parallel,
        "pp_size": pool.pipeline_parallel,
        "context_length": pool.capabilities.context,
        "max_running_requests": pool.max_ongoing_requests,
        "enable_metrics": True,
        "enable_cache_report": True,  # cached tokens have a price of their own
        "log_level": "warning",
    }
    if pool.nodes > 1:
        args |= {"nnodes": pool.nodes, "use_ray": True}
    if chat_template is not None:
        args["chat_template"] = chat_template
    if pool.reasoning_parser is not None:
        args["reasoning_parser"] = pool.reasoning_parser
    if pool.tool_call_parser is not None:
        args["tool_call_parser"] = pool.tool_call_parser
    if pool.enforces_thinking_budget:
        args["enable_strict_thinking"] = True
    if runs_on_cpu(pool):
        args |= _CPU_ARGS
    return args | pool.engine_args


def environment(pool: Pool) -> dict[str, str]:
    """Environment variables, added to the present ones, for the processes of a replica of `pool`."""
    variables = {}
    if pool.thinking_budget is not None and pool.enforces_thinking_budget:
        # Without it SGLang heeds the budget of a request only with parsers that exclude tokens from thinking.
        variables["SGLANG_MAX_THINK_TOKENS"] = str(pool.thinking_budget)
    if runs_on_cpu(pool):
        inherited = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
        path = [str(CPU_SHIMS), *(entry for entry in inherited if entry != str(CPU_SHIMS))]
        variables |= {
            "SGLANG_USE_CPU_ENGINE": "1",
            "OMP_NUM_THREADS": "1",  # two engines with a thread per core each are slower than with one
            "PYTHONPATH": os.pathsep.join(path),
        }
    if pool.model_path is not None and (pool.model_path.startswith("local:") or Path(pool.model_path).is_dir()):
        variables["HF_HUB_OFFLINE"] = "1"
    return variables
