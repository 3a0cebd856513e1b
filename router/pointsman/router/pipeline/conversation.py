"""Which conversation a request belongs to, as a hash: requests with the same beginning share a prefix cache.

Stands beside `place`, its only reader. Pure. The hash is the same in every process and after every restart, so
that all routers of an instance agree; tenants are kept apart by their salt, as they are in the engine's cache.
"""

from __future__ import annotations

from typing import Any
from zlib import crc32

from pointsman.router.exchange import Exchange

EXCERPT = 256
"""
Characters at either end of a message that count. The end counts because many messages begin with a template and end
with the question; that a conversation has another's key now and then does no harm.
"""

_WHOLE = 2 * EXCERPT

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
        return _hashed(prompt if type(prompt) is str else prompt[0], seed)
    key = seed
    for message in messages[:MESSAGES]:
        content = message.get("content")
        if type(content) is not str:
            key = _parts(content, key)
        elif len(content) <= _WHOLE:
            key = crc32(content.encode(), key)
        else:
            key = _hashed(content, key)
        if message["role"] == "user":
            break
    return key


def _hashed(text: str, key: int) -> int:
    if len(text) > _WHOLE:
        text = text[:EXCERPT] + text[-EXCERPT:]
    return crc32(text.encode(), key)


def _parts(content: Any, key: int) -> int:
    """The text of content parts, and what an image is or where."""
    for part in (content or ())[:MESSAGES]:
        text = part.get("text")
        if text is None:
            text = part.get("image_url", {}).get("url")
        if type(text) is str:
            key = _hashed(text, key)
    return key
