"""Which conversation a request belongs to, as a hash: requests with the same beginning share a prefix cache.

Stands beside `place`, its only reader. Pure. The hash is the same in every process and after every restart, so
that all routers of an instance agree; tenants are kept apart by their salt, as they are in the engine's cache.
"""

from __future__ import annotations

from typing import Any
from zlib import crc32

from pointsman.router.exchange import Exchange

EXCERPT = 1024
"""Characters of each message that count: a conversation is told from another long before."""

MESSAGES = 4
"""Messages that are looked at for the first one of the user, which is the last that counts."""


def conversation_key(exchange: Exchange, seed: int) -> int:
    """
    32 bits for the conversation of `exchange`: its messages up to the user's first, or its prompt.

    `seed` stands for the tenant and the model. Later turns of a conversation have the same key as its first.
    """
    messages = exchange.payload.get("messages")
    if messages is None:
        prompt = exchange.payload["prompt"]
        return _text(prompt if isinstance(prompt, str) else prompt[0], seed)
    key = seed
    for message in messages[:MESSAGES]:
        content = message.get("content")
        key = crc32(content[:EXCERPT].encode(), key) if type(content) is str else _parts(content, key)
        if message["role"] == "user":
            break
    return key


def _parts(content: Any, key: int) -> int:
    """The text of content parts, and the beginning of where an image is."""
    for part in (content or ())[:MESSAGES]:
        text = part.get("text")
        if text is None:
            text = part.get("image_url", {}).get("url")
        if isinstance(text, str):
            key = _text(text, key)
    return key


def _text(text: str, key: int) -> int:
    return crc32(text[:EXCERPT].encode(), key)
