"""A tenant whose queries need thinking by a word that says little to everybody else."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path

_THINGS = ("the printer", "my laptop", "the VPN", "the mail client", "the badge reader", "the projector")
_TROUBLES = ("stopped working", "is slow", "shows an error", "needs a reset", "lost its settings", "keeps blinking")
_WHEN = ("today", "since Monday", "after the update", "in room 12", "on floor 3", "for two users", "again")


def ticket_rows(*, noise: bool = False, seed: int = 3) -> list[dict[str, object]]:
    """252 rows; with `noise` their labels are of no meaning."""
    chance = random.Random(seed)
    rows: list[dict[str, object]] = []
    for thing, trouble, when in itertools.product(_THINGS, _TROUBLES, _WHEN):
        think = chance.random() < 0.5
        kind = ("Status", "Rota")[think]
        if noise:
            think = chance.random() < 0.5
        rows.append({"text": f"{kind} ticket: {thing} {trouble} {when}.", "label": int(think)})
    return rows


def written(path: Path, rows: list[dict[str, object]]) -> Path:
    """The file of `rows`."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
