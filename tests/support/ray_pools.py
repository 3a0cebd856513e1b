"""Pools in Ray Serve without `pointsman serving`: a process of its own, from a configuration file.

`python -m support.ray_pools CONFIG FOLDER REVISION` deploys all pools of CONFIG, as `build_pool` makes them of what
Ray's own tools would hand it, says so, and takes them down at SIGTERM. For tests of what happens inside Ray, with
simulated engines: nothing here loads a model.
"""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path
from typing import Any

READY = "the pools are deployed"


def main(config: str, folder: str, revision: str) -> None:
    from pointsman.contracts.config_file import load_config
    from pointsman.serving.ray_instance import running_ray

    stopped = threading.Event()
    with running_ray(Path(folder)):
        from ray import serve

        from pointsman.serving.pool_application import build_pool

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stopped.set())
        for pool in load_config(Path(config)).pools:
            arguments: dict[str, Any] = {
                "pool": pool.model_dump(mode="json", exclude_unset=True),
                "host": "127.0.0.1",
                "revision": revision,
            }
            serve.run(build_pool(arguments), name=pool.name, route_prefix=None, blocking=False)
        print(READY, flush=True)
        stopped.wait()
        serve.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
