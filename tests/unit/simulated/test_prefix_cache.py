"""The prefix cache: what was read before in the same salt is known, and nothing else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pointsman.serving.simulated.prefix_cache import BLOCK, PrefixCache

prompts = st.lists(st.sampled_from("abc"), min_size=1, max_size=5 * BLOCK)


@given(prompts)
def test_a_prompt_is_unknown_at_first_and_known_in_whole_blocks_after(prompt: list[str]) -> None:
    cache = PrefixCache(100 * BLOCK)
    assert cache.read("salt", prompt) == 0
    assert cache.read("salt", prompt) == min(len(prompt) // BLOCK * BLOCK, len(prompt) - 1)
    assert cache.read("another", prompt) == 0


@given(prompts, prompts)
def test_no_more_is_known_than_two_prompts_share(first: list[str], second: list[str]) -> None:
    cache = PrefixCache(100 * BLOCK)
    cache.read("", first)
    shared = next(
        (place for place, pair in enumerate(zip(first, second, strict=False)) if pair[0] != pair[1]),
        min(len(first), len(second)),
    )
    assert shared - BLOCK < cache.read("", second) <= shared


def test_the_least_recently_used_is_forgotten() -> None:
    cache = PrefixCache(2 * BLOCK)
    first, second, third = (["x", *[name] * (BLOCK - 1), "end"] for name in "abc")
    for prompt in (first, second, first, third):
        cache.read("", prompt)
    assert cache.read("", first) == BLOCK
    assert cache.read("", second) == 0


def test_a_cache_of_nothing_knows_nothing() -> None:
    cache = PrefixCache(0)
    prompt = ["a"] * 3 * BLOCK
    assert [cache.read("", prompt) for _ in range(3)] == [0, 0, 0]
