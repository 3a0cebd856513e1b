"""Characters as the predictor sees them: folded to one form, and sorted into classes.

Stands below the features: two tables over the first 65,536 code points turn a whole text into folded codes and
classes with one look-up each. Wide and narrow forms, capitals and all digits fold together, so that `Ｐ`, `P` and
`p` are one letter and every number of three digits is one word. Computed from Python's own Unicode tables.
"""

from __future__ import annotations

import unicodedata
from enum import IntEnum
from functools import cache

import numpy as np
import numpy.typing as npt

LIMIT = 0xFFFF
"""Code points from here on (emoji, rare ideographs) share one cell."""

PAD = "\ufffe"
"""A code point that is no character: marks the edges of a text, and the gap between its head and its tail."""


class CharClass(IntEnum):
    """What a character is, for counting and for cutting words."""

    SPACE = 0
    LOWER = 1
    UPPER = 2
    DIGIT = 3
    FULL_STOP = 4
    COMMA = 5
    QUESTION = 6
    EXCLAMATION = 7
    QUOTE = 8
    ROUND_BRACKET = 9
    OTHER_BRACKET = 10
    OPERATOR = 11
    RELATION = 12
    LATEX = 13
    MARKUP = 14
    COLON = 15
    MATH_SYMBOL = 16
    IDEOGRAPH = 17
    HIRAGANA = 18
    KATAKANA = 19
    OTHER_SCRIPT = 20
    ACCENTED = 21
    PICTOGRAPH = 22
    OTHER = 23


class TokenKind(IntEnum):
    """How a character takes part in a word: runs of one kind are a word, singles stand alone."""

    SPACE = 0
    LETTER = 1
    DIGIT = 2
    SINGLE = 3
    KATAKANA = 4


_BY_CHARACTER = {
    **dict.fromkeys(".。．…", CharClass.FULL_STOP),
    **dict.fromkeys(",、，", CharClass.COMMA),
    **dict.fromkeys("?？¿؟", CharClass.QUESTION),
    **dict.fromkeys("!！¡", CharClass.EXCLAMATION),
    **dict.fromkeys("\"'“”‘’「」『』《》«»", CharClass.QUOTE),
    **dict.fromkeys("()（）", CharClass.ROUND_BRACKET),
    **dict.fromkeys("[]{}【】", CharClass.OTHER_BRACKET),
    **dict.fromkeys("+-*/^%×÷−±·", CharClass.OPERATOR),
    **dict.fromkeys("=<>≤≥≠≡≈", CharClass.RELATION),
    **dict.fromkeys("$\\", CharClass.LATEX),
    **dict.fromkeys("_|`#~@&", CharClass.MARKUP),
    **dict.fromkeys(":;：；", CharClass.COLON),
}


def _class_of(character: str) -> CharClass:
    if character in _BY_CHARACTER:
        return _BY_CHARACTER[character]
    code = ord(character)
    category = unicodedata.category(character)
    if character.isspace() or category in ("Cc", "Cf"):
        return CharClass.SPACE
    if category == "Nd":
        return CharClass.DIGIT
    if category == "Sm" or 0x2070 <= code <= 0x209F or category == "No":
        return CharClass.MATH_SYMBOL
    if 0x3041 <= code <= 0x309F:
        return CharClass.HIRAGANA
    if 0x30A0 <= code <= 0x30FF or 0xFF66 <= code <= 0xFF9F:
        return CharClass.KATAKANA
    if 0x3005 <= code <= 0x3007 or 0x3400 <= code <= 0x9FFF or 0xF900 <= code <= 0xFAFF:
        return CharClass.IDEOGRAPH
    if category[0] in "LM":
        if code < 0x80:
            return CharClass.UPPER if category == "Lu" else CharClass.LOWER
        return CharClass.ACCENTED if code < 0x250 else CharClass.OTHER_SCRIPT
    if category == "So":
        return CharClass.PICTOGRAPH
    return CharClass.OTHER


_KINDS = {
    CharClass.SPACE: TokenKind.SPACE,
    CharClass.LOWER: TokenKind.LETTER,
    CharClass.UPPER: TokenKind.LETTER,
    CharClass.ACCENTED: TokenKind.LETTER,
    CharClass.OTHER_SCRIPT: TokenKind.LETTER,
    CharClass.DIGIT: TokenKind.DIGIT,
    CharClass.KATAKANA: TokenKind.KATAKANA,
}


def _fold(character: str, kind: CharClass) -> int:
    if kind is CharClass.SPACE:
        return ord(" ")
    if kind is CharClass.DIGIT:
        return ord("0")
    plain = unicodedata.normalize("NFKC", character).lower()
    return min(ord(plain), LIMIT) if len(plain) == 1 else ord(character)


@cache
def tables() -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """
    For each code point up to `LIMIT`: its folded code, its `CharClass` and its `TokenKind`.

    Lone surrogates are characters like any other here; they fold to themselves.
    """
    classes = [_class_of(chr(code)) for code in range(LIMIT)] + [CharClass.PICTOGRAPH]
    folded = [_fold(chr(code), kind) for code, kind in enumerate(classes)]
    kinds = [_KINDS.get(kind, TokenKind.SINGLE) for kind in classes]
    kinds[ord(PAD)] = TokenKind.SINGLE
    return (
        np.array(folded, dtype=np.uint32),
        np.array(classes, dtype=np.uint8),
        np.array(kinds, dtype=np.uint8),
    )
