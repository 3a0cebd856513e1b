"""The parent of the workers, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

PARENT = """
import os, signal, time
from pointsman.router.workers import Workers

parent, began = os.getpid(), time.monotonic()

def stranger(seconds, number=0):
    if os.fork() == 0:
        time.sleep(seconds)
        os.kill(parent, number)
        os._exit(5)

def work(lifeline):
    print("works", flush=True)
    return 3

stranger(0.1)
stranger(0.9, signal.SIGTERM)
status = Workers(1, work, hopeless=4).run()
time.sleep(max(0, began + 3 - time.monotonic()))
print("ended with", status)
"""


def test_strangers_that_end_are_no_workers_and_a_stop_while_a_place_is_empty_leaves_no_timer_behind() -> None:
    ended = subprocess.run([sys.executable, "-c", PARENT], capture_output=True, text=True, timeout=60, check=False)
    *works, last = ended.stdout.splitlines()
    assert (ended.returncode, last) == (0, "ended with 0"), ended.stderr
    assert set(works) == {"works"}
