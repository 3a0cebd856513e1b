"""Gives each test its instances of stand-in children under the real guardian and supervisor."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.instances import Watched, free_port, wait_until


class Trial(Watched):
    """One instance of stand-ins: `orders` is what each child does, `stop_within` the seconds it has to stop."""

    def __init__(self, folder: Path, orders: dict[str, list[str]], stop_within: float) -> None:
        self.folder = folder / "state"
        port = str(free_port())
        orders = {"router": ["startupz", "PORT"], "admin": [], "ledger-writer": [], **orders}
        orders = {name: [port if word == "PORT" else word for word in words] for name, words in orders.items()}
        script = Path(__file__).with_name("stand_in_instance.py")
        command = [sys.executable, str(script), str(self.folder), port, str(stop_within), json.dumps(orders)]
        self.told = folder / "stderr"
        with self.told.open("w") as told:
            super().__init__(command, stdout=subprocess.PIPE, stderr=told, text=True)

    def until_ready(self) -> None:
        assert self.process.stdout
        assert self.process.stdout.readline() == "READY\n", self.told.read_text()
        self.living()

    def until_told(self, words: str, *, seconds: float = 20) -> None:
        wait_until(lambda: words in self.told.read_text(), seconds=seconds, what=f"{words!r} in the progress")

    def destroy(self) -> None:
        super().destroy()
        assert self.process.stdout
        self.process.stdout.close()


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[Callable[..., Trial]]:
    """Start one with `trial(name=[orders], …, stop_within=seconds)`; what is left of it is killed afterwards."""
    trials: list[Trial] = []

    def begin(*, stop_within: float = 5.0, **orders: list[str]) -> Trial:
        folder = tmp_path / str(len(trials))
        folder.mkdir()
        trials.append(Trial(folder, orders, stop_within))
        return trials[-1]

    yield begin
    for one in trials:
        one.destroy()
