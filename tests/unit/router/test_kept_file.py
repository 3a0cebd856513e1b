"""The file of what is known: brought up to date when something changed, and its time to when that was last true."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from pointsman.router import kept_file
from pointsman.router.kept_file import KeptFile


class Known:
    """What is known, and until when it was true."""

    def __init__(self) -> None:
        self.text = b"one"
        self.true_at = 1000.0
        self.copies = 0

    def copied(self) -> Callable[[], bytes]:
        self.copies += 1
        text = self.text
        return lambda: text


async def settled(file: KeptFile) -> None:
    """Have `file` written if that is due, and wait until it is."""
    before = asyncio.all_tasks()
    file.write_if_due()
    await asyncio.gather(*(asyncio.all_tasks() - before))


def test_nothing_is_written_that_has_not_changed_nor_before_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, path = Known(), tmp_path / "known"
    monkeypatch.setattr(kept_file, "REST", 1e9)
    file = KeptFile(path, known.copied, what="things")

    async def scenario() -> None:
        await settled(file)
        assert not path.exists()
        file.changed()
        await settled(file)
        await settled(file)
        assert (path.read_bytes(), known.copies) == (b"one", 1)
        known.text = b"two"
        file.changed()
        await settled(file)
        assert (path.read_bytes(), known.copies) == (b"one", 1), "it rests"
        await file.write()
        assert path.read_bytes() == b"two"

    asyncio.run(scenario())


def test_the_time_of_the_file_says_until_when_it_was_true(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    known, path = Known(), tmp_path / "known"

    async def scenario() -> None:
        nothing = KeptFile(path, known.copied, what="things", true_at=lambda: known.true_at)
        await settled(nothing)
        assert not path.exists()
        assert caplog.text == ""
        file = KeptFile(path, known.copied, what="things", true_at=lambda: known.true_at)
        file.changed()
        await file.write()
        assert (path.read_bytes(), path.stat().st_mtime) == (b"one", 1000.0)
        known.text, known.true_at = b"two", 2000.0
        await file.write()  # nothing was said of a change
        assert (path.read_bytes(), path.stat().st_mtime) == (b"one", 2000.0)
        assert known.copies == 1

    asyncio.run(scenario())


def test_what_could_not_be_written_is_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    known, folder = Known(), tmp_path / "later"
    file = KeptFile(folder / "known", known.copied, what="things", true_at=lambda: known.true_at)

    async def scenario() -> None:
        file.changed()
        await file.write()
        assert "the things that are known can't be written" in caplog.text
        folder.mkdir()
        await file.write()
        assert (folder / "known").read_bytes() == b"one"

    asyncio.run(scenario())
