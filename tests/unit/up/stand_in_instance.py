"""An instance of stand-in children under the real guardian and supervisor, for trials from outside.

Arguments: state folder, port, then JSON of {"name": [orders of that child]} with "router" and "admin" among them.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

from pointsman.cli.instance.child import Part
from pointsman.cli.instance.guardian import run_guarded
from pointsman.cli.instance.plan import Plan
from pointsman.cli.instance.run import Run, run_instance
from pointsman.cli.instance.state_folder import StateFolder

CHILD = Path(__file__).with_name("stand_in_child.py")


def part(name: str, orders: list[str]) -> Part:
    return Part(name=name, argv=(sys.executable, "-I", "-S", str(CHILD), *orders), stop_within=2.0)


def main() -> int:
    folder = StateFolder(Path(sys.argv[1]))
    folder.open()
    folder.new_run()
    port = int(sys.argv[2])
    parts = {name: part(name, orders) for name, orders in json.loads(sys.argv[3]).items()}
    plan = Plan(store=None, admin=parts.pop("admin"), router=parts.pop("router"), engines=tuple(parts.values()))
    run = Run(
        plan=plan,
        folder=folder,
        host="127.0.0.1",
        port=port,
        started=time.monotonic(),
        announce=lambda seconds: print("READY", flush=True),
    )
    return run_guarded(lambda guardian: asyncio.run(run_instance(run, guardian=guardian)))


sys.exit(main())
