"""Characters as the predictor sees them: folded to one form, and told apart by how they form words.

Stands below the features: two tables over the first 65,536 code points turn a whole text into folded codes and
kinds with one look-up each. Wide and narrow forms, capitals and all digits fold together, so that `Ｐ`, `P` and `p`
are one letter and every number of three digits is one word. Computed from Python's own Unicode tables.
"""

from __future__ import annotations

import unicodedata
from enum import IntEnum
from functools import cache

import numpy as np
import numpy.typing as npt

LIMIT = 0xFFFF
"""Code points from here on (emoji, rare ideographs) share one cell."""

PAD = "\0"
"""Marks the edges of a text, and the gap between its head and its tail. ASCII, so that ASCII texts stay ASCII."""


BASE = 0x01000193
"""A word's hash is the sum of its letters' hashes, each times a power of this, modulo 2^32."""
BEGINNING = 4
"""Letters that count as the beginning of a word: `prove`, `proves` and `proven` share theirs."""
LETTER_SALT = 0x51ED270B
_U32 = np.uint32


class TokenKind(IntEnum):
    """How a character takes part in a word: runs of one kind are a word, singles stand alone."""

    SPACE = 0
    LETTER = 1
    DIGIT = 2
    SINGLE = 3
    """Ideographs, hiragana, and all that is neither letter nor digit nor space."""
    KATAKANA = 4


def _kind(character: str) -> TokenKind:
    category = unicodedata.category(character)
    if character == PAD:
        return TokenKind.SINGLE
    if character.isspace() or category in ("Cc", "Cf"):
        return TokenKind.SPACE
    if category == "Nd":
        return TokenKind.DIGIT
    if "\u30a0" <= character <= "\u30ff" or "\uff66" <= character <= "\uff9f":
        return TokenKind.KATAKANA
    if "\u3005" <= character <= "\u309f" or "\u3400" <= character <= "\u9fff" or "\uf900" <= character <= "\ufaff":
        return TokenKind.SINGLE
    return TokenKind.LETTER if category[0] in "LM" else TokenKind.SINGLE


def _fold(character: str, kind: TokenKind) -> int:
    if kind is TokenKind.SPACE:
        return ord(" ")
    if kind is TokenKind.DIGIT:
        return ord("0")
    plain = unicodedata.normalize("NFKC", character).lower()
    return min(ord(plain), LIMIT) if len(plain) == 1 else ord(character)


@cache
def tables() -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint8]]:
    """
    For each code point up to `LIMIT`: its folded code, and its `TokenKind`.

    Lone surrogates are characters like any other here; they fold to themselves.
    """
    kinds = [_kind(chr(code)) for code in range(LIMIT)] + [TokenKind.SINGLE]
    folded = [_fold(chr(code), kind) for code, kind in enumerate(kinds)]
    return np.array(folded, dtype=np.uint32), np.array(kinds, dtype=np.uint8)


def spread(values: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """A fixed scramble of 32-bit numbers (the finaliser of MurmurHash3)."""
    mixed = values.astype(_U32)
    mixed ^= mixed >> _U32(16)
    mixed *= _U32(0x85EBCA6B)
    mixed ^= mixed >> _U32(13)
    mixed *= _U32(0xC2B2AE35)
    mixed ^= mixed >> _U32(16)
    return mixed


@cache
def letter_hashes() -> npt.NDArray[np.uint32]:
    """For each code point up to `LIMIT` the hash of its folded letter."""
    return spread(tables()[0] + _U32(LETTER_SALT))
