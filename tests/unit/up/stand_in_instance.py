"""An instance of stand-in children under the real guardian and supervisor, for trials from outside.

Arguments: state folder, port, seconds in which a child has to stop, then JSON of {"name": [orders of that child]}
with "router", "admin" and "ledger-writer" among them. Pauses and graces are shorter than a user's.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from pathlib import Path

from pointsman.cli.instance import orphans
from pointsman.cli.instance.child import Part
from pointsman.cli.instance.guardian import run_guarded
from pointsman.cli.instance.plan import Plan
from pointsman.cli.instance.run import Run, run_instance
from pointsman.cli.instance.state_folder import StateFolder
from pointsman.cli.instance.supervisor import RestartLimits

CHILD = Path(__file__).with_name("stand_in_child.py")


def part(name: str, orders: list[str]) -> Part:
    argv = (sys.executable, "-I", "-S", str(CHILD), *orders)
    return Part(name=name, argv=argv, stop_within=float(sys.argv[3]))


def main() -> int:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests themselves may run under `nohup`
    orphans.GRACE = 0.5
    folder = StateFolder(Path(sys.argv[1]))
    folder.open()
    folder.new_run()
    port = int(sys.argv[2])
    parts = {name: part(name, orders) for name, orders in json.loads(sys.argv[4]).items()}
    plan = Plan(
        store=None,
        admin=parts.pop("admin"),
        ledger_writer=parts.pop("ledger-writer"),
        router=parts.pop("router"),
        engines=tuple(parts.values()),
    )
    run = Run(
        plan=plan,
        folder=folder,
        host="127.0.0.1",
        port=port,
        started=time.monotonic(),
        announce=lambda seconds: print("READY", flush=True),
        limits=RestartLimits(pause=0.1),
    )
    return run_guarded(lambda guardian: asyncio.run(run_instance(run, guardian=guardian)))


sys.exit(main())
