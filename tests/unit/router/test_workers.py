"""The parent of the workers, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

PARENT = """
import logging, os, signal, time
from pointsman.router.workers import FIRST_PAUSE, Workers

class Stops(logging.Handler):
    def emit(self, record):
        if "its place is filled" in record.getMessage():
            os.kill(os.getpid(), signal.SIGTERM)

logging.getLogger("pointsman.router.workers").addHandler(Stops())
stranger = os.fork()
if stranger == 0:
    os._exit(5)
os.waitid(os.P_PID, stranger, os.WEXITED | os.WNOWAIT)
status = Workers(1, lambda lifeline: 3, hopeless=4).run()
time.sleep(2 * FIRST_PAUSE)
print("ended with", status)
"""


def test_a_stop_while_a_place_is_empty_leaves_no_timer_behind_and_a_stranger_that_ends_is_no_worker() -> None:
    ended = subprocess.run([sys.executable, "-c", PARENT], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (0, "ended with 0\n"), ended.stderr
