"""SGLang accepts the engine arguments of every configuration that ships."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pointsman.cli import up
from pointsman.contracts.config_file import load_config
from pointsman.serving import engine_args
from pointsman.serving.chat_templates import template_file
from pointsman.serving.run import pools_to_start

pytestmark = pytest.mark.timeout(300)  # to import SGLang takes a quarter of a minute where nothing else runs

ROOT = Path(__file__).resolve().parents[3]
FILES = [*sorted((ROOT / "examples").glob("*.yaml")), Path(up.__file__).with_name("local.yaml")]
POOLS = {f"{file.stem}/{pool.name}": pool for file in FILES for pool in pools_to_start(load_config(file))}

BROKEN: dict[str, dict[str, Any]] = {
    "unknown name": {"mem_fraction": 0.85},
    "wrong type": {"mem_fraction_static": "most"},
    "unknown parser": {"tool_call_parser": "nobody"},
    "nodes that don't divide": {"tp_size": 3, "nnodes": 2},
}
"""Arguments that SGLang must refuse, or this test would prove nothing."""

TINY_MODEL = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 1024,
    "intermediate_size": 1024,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "num_hidden_layers": 2,
    "vocab_size": 1000,
    "max_position_embeddings": 10_000_000,
    "torch_dtype": "bfloat16",
}
"""Stands in for weights that are not here: SGLang reads a model's description while it judges arguments."""


@pytest.fixture(scope="module")
def complaints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str | None]:
    model = tmp_path_factory.mktemp("model")
    (model / "config.json").write_text(json.dumps(TINY_MODEL))
    judged = {
        name: engine_args.server_args(
            pool,
            model_path=str(model),
            chat_template=str(template_file(pool.chat_template)) if pool.chat_template else None,
        )
        for name, pool in POOLS.items()
    }
    judged |= {name: {"model_path": str(model), **args} for name, args in BROKEN.items()}
    ended = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("server_args_judge.py"))],
        input=json.dumps(judged),
        env={
            **os.environ,
            "PYTHONPATH": str(engine_args.CPU_SHIMS),
            "SGLANG_USE_CPU_ENGINE": "1",
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    found: dict[str, str | None] = json.loads(ended.stdout)
    return found


def test_there_are_pools_to_judge() -> None:
    assert {"local/fast", "local/deep"} < set(POOLS)
    assert {name.split("/")[0] for name in POOLS} == {file.stem for file in FILES}


@pytest.mark.parametrize("name", POOLS)
def test_sglang_accepts_the_pools_arguments(complaints: dict[str, str | None], name: str) -> None:
    assert complaints[name] is None


@pytest.mark.parametrize("name", BROKEN)
def test_sglang_refuses_broken_arguments(complaints: dict[str, str | None], name: str) -> None:
    assert complaints[name] is not None
