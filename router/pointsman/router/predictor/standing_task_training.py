"""What tells a task in a system prompt, learnt: `python -m pointsman.router.predictor.standing_task_training`.

Stands before training, as `asking_training.py` does. Learns from the system prompts in `data/system_prompts.jsonl`,
each with the part of it that sets a task, or nothing. Writes `data/tasks.weights`, and tells how often sentences of
prompts left out were judged right.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson

from pointsman.router.predictor import asking, standing_task

PROMPTS = Path(__file__).with_name("data") / "system_prompts.jsonl"
_INVERSE_REGULARISATION = 30.0
_FOLDS = 10

Floats = npt.NDArray[np.float64]


class Sentences(NamedTuple):
    """Of each sentence: its cells as SciPy CSR [N, cells], whether it sets a task, and the number of its prompt."""

    cells: Any
    sets: npt.NDArray[np.bool_]
    prompt: npt.NDArray[np.intp]


def sentences() -> Sentences:
    """All sentences of the prompts, in their order."""
    from scipy import sparse

    hit: list[int] = []
    values: list[float] = []
    ends, sets, prompt = [0], [], []
    for number, line in enumerate(PROMPTS.read_bytes().splitlines()):
        row = orjson.loads(line)
        text, task = row["text"], row["task"]
        first = text.index(task)
        for begin, end, *_ in asking.sentences(text):
            found = asking.cells(text[begin:end])
            hit += found
            values += [(len(found) // 3) ** -0.5] * len(found)
            ends.append(len(hit))
            sets.append(first <= (begin + end) / 2 < first + len(task))
            prompt.append(number)
    cells = sparse.csr_matrix((values, hit, ends), shape=(len(sets), 1 << asking.TABLE_BITS))
    cells.sum_duplicates()
    return Sentences(cells, np.array(sets), np.array(prompt))


def fitted(cells: Any, sets: npt.NDArray[np.bool_]) -> Floats:
    """The weights of the cells, and behind them the one of every sentence."""
    from scipy.optimize import minimize

    sign, transposed = np.where(sets, 1.0, -1.0), cells.T.tocsr()

    def loss(at: Floats) -> tuple[float, Floats]:
        margins = sign * (cells @ at[:-1] + at[-1])
        slope = -sign / (1 + np.exp(np.clip(margins, -500, 500)))
        gradient = np.append(transposed @ slope + at[:-1] / _INVERSE_REGULARISATION, slope.sum())
        return float(np.logaddexp(0, -margins).sum() + at[:-1] @ at[:-1] / (2 * _INVERSE_REGULARISATION)), gradient

    best: Floats = minimize(loss, np.zeros(cells.shape[1] + 1), jac=True, method="L-BFGS-B").x
    return best


def main() -> None:
    cells, sets, prompt = sentences()
    scores = np.empty(len(sets))
    for fold in range(_FOLDS):
        out = prompt % _FOLDS == fold
        weights = fitted(cells[~out], sets[~out])
        scores[out] = cells[out] @ weights[:-1] + weights[-1]
    least = np.array([standing_task.least_of(int(count)) for count in np.bincount(prompt)])
    found = scores * asking.UNIT > least[prompt]
    with_task = np.unique(prompt[sets])
    told = np.isin(np.arange(prompt.max() + 1), prompt[found])
    theirs = np.isin(np.arange(prompt.max() + 1), with_task)
    whole = np.clip(np.rint(fitted(cells, sets) * asking.UNIT), -32768, 32767).astype("<i2")
    standing_task.FILE.write_bytes(whole.tobytes())
    sys.stdout.write(
        f"{standing_task.FILE}: learnt from {len(sets)} sentences of {len(theirs)} prompts; of prompts left out a "
        f"task was found in {told[theirs].mean():.3f} of {theirs.sum()} that set one, and in "
        f"{told[~theirs].mean():.3f} of {(~theirs).sum()} others\n"
    )


if __name__ == "__main__":
    main()
