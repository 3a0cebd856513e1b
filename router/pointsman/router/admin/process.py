"""The admin process: uvicorn on a Unix socket that only this user may open."""

from __future__ import annotations

import importlib.metadata
import os
from pathlib import Path

import uvicorn

from pointsman.contracts.config import Config
from pointsman.contracts.names import StateFile
from pointsman.router.admin.app import build_app


def run(config: Config, state_dir: Path) -> None:
    """Serve until SIGTERM or SIGINT."""
    os.umask(0o077)
    socket = state_dir / StateFile.ADMIN_SOCKET
    socket.unlink(missing_ok=True)
    app = build_app(config, state_dir / StateFile.METRICS, version=importlib.metadata.version("pointsman"))
    uvicorn.run(app, uds=str(socket), log_level="warning", access_log=False, timeout_graceful_shutdown=5)
