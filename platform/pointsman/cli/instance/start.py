"""From what the user ordered to a running instance: look first, then write, then start.

Everything that can be refused is refused here, before the fork and before the first child.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import secrets
import sys
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

from pointsman.cli.instance.guardian import run_guarded
from pointsman.cli.instance.plan import ConsolePlace, plan_of, with_simulated_engines
from pointsman.cli.instance.preflight import (
    Refused,
    check_console,
    check_gpus,
    check_memory,
    check_modules,
    check_port,
    check_redis,
    check_system,
    console_is_installed,
    free_port,
    without_password,
)
from pointsman.cli.instance.run import Run, run_instance
from pointsman.cli.instance.state_folder import StateFolder, StateFolderError
from pointsman.cli.instance.valkey import valkey_url
from pointsman.cli.instance.welcome import Ready, welcome
from pointsman.contracts.config import Config
from pointsman.contracts.config_file import ConfigError, load_config

REFUSED = 2
INTERRUPTED = 130

_OPEN_FILES = 65_536
"""Open files that each process may have, where the system allows it; many systems start with 1024."""

_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}


@dataclass(frozen=True, slots=True)
class Order:
    """
    What the user asked for. `port` 0: any; `config` None: the built-in fleet; `redis_url` None: own Valkey;
    `console` None: one where its extra is installed.
    """

    simulated: bool
    host: str
    port: int
    state_dir: Path
    config: Path | None
    redis_url: str | None
    as_json: bool
    console: bool | None = None
    console_port: int = 0


def start(order: Order, *, started: float) -> int:
    """Run the instance until it ends; returns the exit code. `started`: monotonic seconds of the user's command."""
    folder = StateFolder(order.state_dir)
    _set_process_limits()
    try:
        config = prepare(order, folder)
    except Refused as refused:
        for problem in refused.problems:
            print(problem, file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        return INTERRUPTED
    port = order.port or free_port(order.host)
    near = _WILDCARDS.get(order.host, order.host)
    url = _url("https" if config.router.tls else "http", near, port)
    console = None
    if _wants_console(order):
        console = ConsolePlace(order.host, order.console_port or free_port(order.host), url)
    plan = plan_of(
        config,
        folder=folder,
        redis_url=order.redis_url or valkey_url(folder),
        embedded_valkey=order.redis_url is None,
        host=order.host,
        port=port,
        secret=secrets.token_urlsafe(32),
        console=console,
    )
    ready = Ready(
        url=url,
        demo_key_file=str(folder.demo_key),
        admin_key_file=str(folder.admin_key),
        state_dir=str(folder.path),
        redis_url=without_password(order.redis_url) if order.redis_url else valkey_url(folder),
        pid=os.getpid(),
        console_url=None if console is None else _url("http", near, console.port),
    )

    def announce(seconds: float) -> None:
        text = ready.as_json()
        if not order.as_json:
            text = welcome(ready, config, key=folder.read_demo_key(), logs=str(folder.logs), seconds=seconds)
        with contextlib.suppress(OSError):
            print(text, flush=True)

    run = Run(
        plan=plan,
        folder=folder,
        host=near,
        port=port,
        started=started,
        announce=announce,
        tls=config.router.tls is not None,
        console=None if console is None else (near, console.port),
    )
    return run_guarded(lambda guardian: asyncio.run(run_instance(run, guardian=guardian)))


def prepare(order: Order, folder: StateFolder) -> Config:
    """
    Look whether the order can be carried out, and make the state folder ready for it.

    Raises `Refused` with everything that stands in the way; nothing was started then.
    """
    if problem := check_system():
        raise Refused([problem])
    try:
        config = _read_config(order.config)
    except ConfigError as error:
        raise Refused([str(error)]) from None
    if order.simulated:
        config = with_simulated_engines(config)
    checks = [
        check_modules(config, embedded_valkey=order.redis_url is None),
        check_port(order.host, order.port),
        check_console(order.host, order.console_port) if _wants_console(order) else None,
        check_gpus(config),
        check_memory(config),
    ]
    if problems := [problem for problem in checks if problem]:
        raise Refused(problems)
    try:
        folder.open()
        if order.redis_url and (problem := check_redis(order.redis_url)):
            raise Refused([problem])
        folder.new_run()
        return folder.write_config(config)
    except StateFolderError as error:
        raise Refused([str(error)]) from None
    except OSError as error:
        raise Refused([f"The state folder {folder.path} cannot be written: {error.strerror}."]) from None


def _wants_console(order: Order) -> bool:
    return console_is_installed() if order.console is None else order.console


def _url(scheme: str, host: str, port: int) -> str:
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _set_process_limits() -> None:
    """For the children too: nothing they write is anybody else's business, and a router needs many sockets."""
    os.umask(0o077)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY:
        most = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


def _read_config(path: Path | None) -> Config:
    if path:
        return load_config(path)
    with as_file(files("pointsman.cli") / "local.yaml") as built_in:
        return load_config(built_in)
