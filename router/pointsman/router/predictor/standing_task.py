"""The task that a system prompt sets for whatever the user sends: "translate every message into French".

Stands below the question, which begins with that task where there is one: the user's message is then material, and
how hard it sounds says little. Each sentence of the prompt is scored by a small linear model over its words, whose
weights are in `data/tasks.weights`, made by `standing_task_training.py`. They are whole numbers, so that this
module and `asking.c` find the same sentences on every machine. Pure string work over at most `READ` characters.
"""

from __future__ import annotations

import hashlib
from functools import cache
from math import isqrt
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pointsman.router.predictor import asking
from pointsman.router.predictor.table import EMPTY

if TYPE_CHECKING:
    from pointsman.router.predictor.native import Kernel

FILE = Path(__file__).with_name("data") / "tasks.weights"
LEAST, DOUBT = asking.UNIT // 2, 177
"""
The score above which the only sentence of a prompt is taken to set a task, and how much more it takes each time
that there are twice as many: log 2, since one of them may look like a task by chance. More than 0, since a task
that is missed leaves the message to be judged as if there were no system prompt, and one that is none takes its
say away.
"""
LONGEST = 400
"""Characters of a task at most."""
_HEAD, _TAIL = 500, 300
READ = _HEAD + _TAIL + 1
"""Characters of a system prompt that are read: tasks are set at its beginning or at its end."""


def standing_task(prompt: str) -> str | None:
    """The sentences of the system prompt `prompt` that set a task for what the user sends; None: there are none."""
    read = prompt if len(prompt) < READ else f"{prompt[:_HEAD]}\n{prompt[-_TAIL:]}"
    kernel = _kernel()
    found = places(read) if kernel is None else kernel.tasks(read)
    return " ".join([read[begin:end] for begin, end in found])[:LONGEST] if found else None


def prepare() -> None:
    """Build what `standing_task` needs now, so that the first request does not pay for it."""
    _kernel()


def places(text: str) -> list[tuple[int, int]]:
    """Where the sentences of `text` stand that set a task: what `Kernel.tasks` finds, without it."""
    found = asking.sentences(text)
    least = least_of(len(found))
    return [(begin, end) for begin, end, *_ in found if score(text[begin:end]) > least]


def least_of(sentences: int) -> int:
    """The score above which one of so many sentences is taken to set a task."""
    return LEAST + DOUBT * max(sentences.bit_length() - 1, 0)


def score(sentence: str) -> int:
    """How much `sentence` sets a task for whatever the user sends, in units of 1/`asking.UNIT`."""
    hit = asking.cells(sentence)
    total = sum([_TABLE[cell] for cell in hit])
    return (total * isqrt((1 << 24) // (len(hit) // 3)) >> 12) + _TABLE[-1]


def _read() -> tuple[npt.NDArray[np.int16], str]:
    try:
        content = FILE.read_bytes()
    except FileNotFoundError:  # not trained yet: no sentence sets a task
        content = bytes(2 * ((1 << asking.TABLE_BITS) + 1))
    return np.frombuffer(content, "<i2"), hashlib.sha256(content).hexdigest()[:12]


WEIGHTS, FINGERPRINT = _read()
"""Of the cells and, behind them, of every sentence: int16 [2^TABLE_BITS + 1], in units of 1/`asking.UNIT`."""
_TABLE: list[int] = WEIGHTS.tolist()


@cache
def _kernel() -> Kernel | None:
    """A compiled kernel that has read no weights but those of this module; None: there is none."""
    from pointsman.router.predictor import features, native  # both stand above this module, whose weights they hold

    return native.kernel_of(EMPTY, 1.0, [0.0] * features.COUNT_SIZE, 0.0, 1.0)
