"""API keys: how one is made, told from noise, and stored.

A key is `pk-`, 43 characters that carry 256 random bits, and 6 characters of checksum. The checksum lets a
router (or a secret scanner) tell a typing error from an unknown key without asking anybody. Only the SHA-256
of a key is ever stored.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import zlib

PREFIX = "pk-"
_RANDOM_LENGTH = 43
_CHECKSUM_LENGTH = 6
KEY_LENGTH = len(PREFIX) + _RANDOM_LENGTH + _CHECKSUM_LENGTH


def _checksum(text: str) -> str:
    crc = zlib.crc32(text.encode())
    return base64.urlsafe_b64encode(crc.to_bytes(4, "big")).decode()[:_CHECKSUM_LENGTH]


def new_key() -> str:
    """A new key of `KEY_LENGTH` characters; show it once, store `key_digest` of it."""
    random = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip("=")
    return f"{PREFIX}{random}{_checksum(PREFIX + random)}"


def is_well_formed(key: str) -> bool:
    """Whether `key` has the form and the checksum of a key; says nothing about whether anybody owns it."""
    if len(key) != KEY_LENGTH or not key.startswith(PREFIX) or not key.isascii():
        return False
    return _checksum(key[:-_CHECKSUM_LENGTH]) == key[-_CHECKSUM_LENGTH:]


def key_digest(key: str) -> str:
    """The SHA-256 of `key` in lower-case hexadecimal: what is stored and looked up."""
    return hashlib.sha256(key.encode()).hexdigest()
