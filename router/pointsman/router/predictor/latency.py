"""How long one prediction takes, beside a fixed piece of NumPy work timed in the same run.

Stands beside evaluation. The kernel makes figures of a busy or slow machine comparable: what counts is the ratio.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from pointsman.router.predictor.model import Predictor

SHORTEST, LONGEST = 20, 20_000
_SENTENCES = (
    "What is the capital of France? ",
    "Prove that the square root of 2 is irrational. ",
    "The meeting on 14 March was moved to Friday, because 3 of the 12 members were ill. ",
    "证明：任意大于2的偶数都可以写成两个质数之和吗？",
    "次の文章を要約してください。会議は金曜日に延期されました。",
    "If $f(x) = 3x^2 - 2x + 7$, find $f'(4)$ and explain each step.\n\n",
    "def area(width, height):\n    return width * height\n",
)


def texts(count: int, *, seed: int = 1) -> list[str]:
    """`count` distinct texts of 20 to 20,000 characters in several languages, as many short ones as long ones."""
    chance = random.Random(seed)
    made = []
    for number in range(count):
        length = round(SHORTEST * (LONGEST / SHORTEST) ** (number / max(1, count - 1)))
        text = f"{number} "
        while len(text) < length:
            text += chance.choice(_SENTENCES) + str(chance.randrange(1000)) + " "
        made.append(text[:length])
    chance.shuffle(made)
    return made


def kernel() -> Callable[[], object]:
    """The fixed work: 40 small NumPy calls on 600 numbers, a prediction's kind of work, never to be changed."""
    numbers = np.arange(600, dtype=np.uint32)
    factor, shift = np.uint32(2654435761), np.uint32(14)

    def work() -> object:
        mixed = numbers
        for _ in range(20):
            mixed = (mixed * factor) >> shift
        return mixed

    return work


def measure(predictor: Predictor, *, count: int = 2000) -> dict[str, Any]:
    """
    Microseconds of single calls on `count` distinct texts: `latency_us` and `kernel_us`, each p50 and p99.

    Prediction and kernel take turns, so that both see the same machine.
    """
    samples, work = texts(count), kernel()
    for text in samples[:100]:
        predictor.probability(text)
        work()
    calls, kernels = [], []
    for text in samples:
        begin = time.perf_counter_ns()
        predictor.probability(text)
        middle = time.perf_counter_ns()
        work()
        calls.append(middle - begin)
        kernels.append(time.perf_counter_ns() - middle)
    return {"latency_us": _percentiles(calls), "kernel_us": _percentiles(kernels), "latency_calls": count}


def _percentiles(nanoseconds: list[int]) -> dict[str, float]:
    p50, p99 = np.percentile(np.array(nanoseconds) / 1000, [50, 99])
    return {"p50": round(float(p50), 1), "p99": round(float(p99), 1)}
