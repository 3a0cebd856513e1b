"""Which router to ask, and with which key.

A key from the state folder is offered to routers on this machine only: a key must not travel to a host just because
its address was typed.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pointsman.cli.state import DEFAULT_HOST, DEFAULT_PORT, default_state_dir
from pointsman.contracts.names import Env, StateFile

DEFAULT_URL = f"http://{DEFAULT_HOST}:{DEFAULT_PORT}"


class ChatError(Exception):
    """Something that the user can put right; the message is a sentence or two, `code` OpenAI's word for it."""

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


@dataclass(frozen=True, slots=True)
class Target:
    """`url` without a slash or `/v1` at its end; `key_origin` says where the key came from."""

    url: str
    key: str
    key_origin: str
    local: bool


def find_target(
    url: str | None,
    key: str | None,
    state_dir: Path | None,
    *,
    variable: str = Env.API_KEY,
    file_name: str = StateFile.DEMO_KEY,
) -> Target:
    """
    The router and the key to use; None where the user said nothing.

    `variable` is what else than `--key` may have brought the key, `file_name` the file of the state folder that
    holds it otherwise. Raises `ChatError` where the address is none, or no key is to be found, or one that no
    header can carry.
    """
    address = _base(url or DEFAULT_URL)
    local = _is_local(address)
    if key:
        origin = f"--key or {variable}"
        return Target(address, _sendable(key, origin), origin, local)
    if not local and state_dir is None:
        raise ChatError(f"{address} is not on this machine: say which key to use with --key or {variable}.")
    file = (state_dir or default_state_dir()) / file_name
    try:
        found = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ChatError(
            f"There is no key: {file} does not exist. Start a platform with `pointsman up`, name its folder with "
            f"--state-dir, or give a key with --key or {variable}."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        raise ChatError(f"The key in {file} cannot be read: {reason.lower()}.") from None
    return Target(address, _sendable(found, str(file)), str(file), local)


def _sendable(key: str, origin: str) -> str:
    key = key.strip()
    if not (key and key.isascii() and key.isprintable()):
        raise ChatError(
            f"What came from {origin} is no key: a key is one line of plain ASCII.", code="invalid_api_key"
        )
    return key


def _base(url: str) -> str:
    text = url if "://" in url else f"http://{url}"
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ChatError(f"{url} is no address of a router; it looks like {DEFAULT_URL}.")
    return text.rstrip("/").removesuffix("/v1").rstrip("/")


def _is_local(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
