"""Where an instance keeps what it writes: one default for every command that needs it.

`pointsman up` writes there; `chat` finds the demo key there.
"""

from __future__ import annotations

from pathlib import Path

import platformdirs

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8080
DEFAULT_CONSOLE_PORT = 8081


def default_state_dir() -> Path:
    """The state folder of the instance that `pointsman up` starts where it is told nothing else."""
    return Path(platformdirs.user_state_dir("pointsman", appauthor=False)) / "default"
