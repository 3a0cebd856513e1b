"""What people ask for, in words: phrases of several languages under one heading each.

Stands beside the hashed n-grams: a heading carries what rows in one language teach over to the others (`prove`,
`求证` and `証明せよ` are one thing). The phrases are in `data/lexicon.txt`: `# heading`, then phrases between
bars. A phrase counts by its first `MAX_WORDS` words; an ideograph or a hiragana letter is a word by itself, a run
of katakana is one word. Weights are bound to the file they were trained with.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

MAX_WORDS = 4
_FILE = Path(__file__).with_name("data") / "lexicon.txt"


def _parse(content: str) -> dict[str, tuple[str, ...]]:
    headings: dict[str, list[str]] = {}
    phrases: list[str] = []
    for line in content.splitlines():
        if line.startswith("#"):
            phrases = headings.setdefault(line[1:].strip(), [])
        else:
            phrases += [phrase.strip() for phrase in line.split("|") if phrase.strip()]
    return {heading: tuple(phrases) for heading, phrases in headings.items()}


_CONTENT = _FILE.read_bytes()
LEXICON = _parse(_CONTENT.decode())
"""Heading → its phrases, in the file's order. A phrase may stand under two headings."""
FINGERPRINT = hashlib.sha256(_CONTENT).hexdigest()[:12]
