"""SGLang's own benchmark client through the router: every one of its requests is answered."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from pointsman.serving import local_model
from support.gateway import FAST, Gateway

REQUESTS = 500
TIME = 600


def test_sglangs_benchmark_client_has_no_request_fail(folder: Path, say: Callable[[str, object], None]) -> None:
    pool = {**FAST, "capabilities": {"context": 32768}}
    told = folder / "told.jsonl"
    with Gateway(folder, pools=[pool], copies={FAST["name"]: 2}) as gateway:
        command = [
            *(sys.executable, "-m", "sglang.benchmark.serving", "--backend", "sglang-oai-chat"),
            *("--base-url", gateway.url, "--model", FAST["model"], "--dataset-name", "random-ids"),
            *("--tokenizer", local_model.prepare("local:smollm2"), "--num-prompts", str(REQUESTS)),
            *("--random-input-len", "64", "--random-output-len", "32", "--max-concurrency", "32"),
            *("--output-file", str(told), "--disable-tqdm"),
        ]
        shims = Path(local_model.__file__).parent / "cpu_shims"
        path = os.pathsep.join(filter(None, [str(shims), os.environ.get("PYTHONPATH")]))
        environment = {"OPENAI_API_KEY": gateway.key, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"}
        ran = subprocess.run(
            command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=TIME
        )
        assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-2000:]
        answered = gateway.total("pointsman_requests_total", status="200")
        asked = gateway.total("pointsman_requests_total")
    result = json.loads(told.read_text().splitlines()[-1])
    say("requests of the client that were answered", result["completed"])
    say("requests a second", f"{result['request_throughput']:.1f}")
    assert result["completed"] == REQUESTS
    assert answered == asked >= REQUESTS
