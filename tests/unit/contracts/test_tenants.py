"""Keys: what the checksum promises, and that a digest is all that can be stored."""

from __future__ import annotations

import hashlib
import string

from hypothesis import assume, given
from hypothesis import strategies as st

from pointsman.contracts.tenants import KEY_LENGTH, is_well_formed, key_digest, new_key

ALPHABET = string.ascii_letters + string.digits + "-_"
# CRC-32 finds every error that lies within 32 neighbouring bits: any one character, and up to four in a row.
# Errors further apart are found with all but one chance in 2^32, which no test could show.
NEIGHBOURS = 4


def test_new_keys_are_well_formed_and_different() -> None:
    keys = [new_key() for _ in range(1000)]
    assert all(is_well_formed(key) and len(key) == KEY_LENGTH == 52 for key in keys)
    assert len(set(keys)) == len(keys)


def test_each_character_of_a_key_is_covered() -> None:
    key = new_key()
    for position, right in enumerate(key):
        for wrong in ALPHABET.replace(right, ""):
            assert not is_well_formed(key[:position] + wrong + key[position + 1 :])


@given(st.integers(0, KEY_LENGTH - 1), st.text(min_size=1, max_size=NEIGHBOURS))
def test_a_typing_error_of_up_to_four_neighbours_is_always_found(position: int, wrong: str) -> None:
    key = new_key()
    typed = key[:position] + wrong + key[position + len(wrong) :]
    assume(typed != key)
    assert not is_well_formed(typed)


@given(st.integers(0, KEY_LENGTH - 2))
def test_swapped_neighbours_are_always_found(position: int) -> None:
    key = new_key()
    swapped = key[:position] + key[position + 1] + key[position] + key[position + 2 :]
    assert is_well_formed(swapped) is (swapped == key)


@given(st.text(max_size=80))
def test_any_text_may_be_asked_about(text: str) -> None:
    assert not is_well_formed(text)


def test_a_key_cut_or_padded_is_found() -> None:
    key = new_key()
    for typed in (key[:-1], key + "A", key + "=", " " + key, key + "\n", key.upper(), ""):
        assert not is_well_formed(typed)


def test_the_digest_is_the_sha256_of_the_key() -> None:
    key = new_key()
    assert key_digest(key) == hashlib.sha256(key.encode()).hexdigest()
    assert key not in key_digest(key)
