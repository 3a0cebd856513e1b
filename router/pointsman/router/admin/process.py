"""The admin process: uvicorn on a Unix socket that only this user may open."""

from __future__ import annotations

import importlib.metadata
import os
import socket
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from pointsman.contracts.config import Config
from pointsman.contracts.names import StateFile
from pointsman.router.admin.app import build_app


@dataclass(frozen=True, slots=True)
class Settings:
    """What the admin process talks to, and the folder that it shares with the data plane."""

    redis_url: str
    state_dir: Path


def run(config: Config, settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT."""
    version = importlib.metadata.version("pointsman")
    app = build_app(config, settings.state_dir / StateFile.METRICS, version=version)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=5))
    server.run(sockets=[_private_socket(settings.state_dir / StateFile.ADMIN_SOCKET)])


def _private_socket(path: Path) -> socket.socket:
    """A Unix socket bound to `path` with mode 0600; uvicorn itself would open it to everybody."""
    path.unlink(missing_ok=True)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        bound.bind(str(path))
    finally:
        os.umask(mask)
    return bound
