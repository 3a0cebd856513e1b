"""The spool: records that outlive their process, in memory-mapped files of one folder.

Stands under `log.py`, which says what is written, and `shipping.py`, which reads it. A record is in the page cache,
and so safe from SIGKILL, once `append` returns: no system call, and no write that may fail, since a segment's
blocks are allocated when it is made. A word of eight bytes (checksum, length, kind) is stored after the bytes that
it is about, so that a reader never takes half a record for a whole one.

    folder/lock               held by flock as long as the process lives that writes here, or adopts it
    folder/00000001.segment   eight bytes of magic, the number of the first settlement in it, records

Segments are deleted by whoever holds the lock.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import shutil
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from zlib import crc32

INTENT, SETTLEMENT = 1, 2
"""The kinds of records."""

SEGMENT = 1024 * 1024
"""Bytes of one segment."""

_MAGIC = b"PMSPOOL1"
_HEADER = struct.Struct("<8sQ")
FIRST = _HEADER.size
"""Where the first record of a segment is."""
_ZEROS = bytes(SEGMENT)
_LOCK = "lock"
_SUFFIX = ".segment"
_MOST_LENGTH = (1 << 30) - 1

STRAY = 60.0
"""Seconds after which a folder that was never finished is taken for one that never will be."""


class Segment:
    """
    One file. `first`: the number of its first settlement; `count`: how many settlements it has; `at`: where the
    next record goes; `open`: intents in it whose settlement is not written yet.
    """

    __slots__ = ("_map", "at", "count", "first", "open", "path", "words")

    def __init__(self, path: Path, mapped: mmap.mmap) -> None:
        self.path = path
        self._map = mapped
        self.words = memoryview(mapped).cast("Q")
        self.first = self.count = self.open = 0
        self.at = FIRST

    @classmethod
    def make(cls, path: Path) -> Segment:
        """A new segment whose every byte has its place on the disk. Raises OSError."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, SEGMENT)
            return cls(path, mmap.mmap(descriptor, SEGMENT, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE))
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)

    @classmethod
    def read(cls, path: Path) -> Segment | None:
        """
        The segment that another process has left; None where it was never used.

        Raises OSError where it can't be read, as one of another release can't.
        """
        with path.open("r+b") as file:
            if os.fstat(file.fileno()).st_size != SEGMENT:
                return None
            mapped = mmap.mmap(file.fileno(), SEGMENT)
        magic, first = _HEADER.unpack_from(mapped)
        segment = cls(path, mapped)
        if magic != _MAGIC:
            unused = not segment.words[0]
            segment.close()
            if unused:
                return None
            raise OSError(f"{path} is no segment of this release")
        segment.first = first
        for kind, _ in segment.records():
            if kind == SETTLEMENT:
                segment.count += 1
        return segment

    def use(self, first: int) -> None:
        """Begin to write here; the first settlement has the number `first`."""
        self.first = first
        self.words[1] = first
        self._map[:8] = _MAGIC

    def append(self, kind: int, record: bytes) -> bool:
        """Add `record`, or return False where it does not fit."""
        at = self.at
        size = len(record)
        end = at + 8 + size
        if end > SEGMENT:
            return False
        self._map[at + 8 : end] = record
        self.words[at >> 3] = crc32(record) << 32 | size << 2 | kind
        self.at = (end + 7) & -8
        if kind == SETTLEMENT:
            self.count += 1
        return True

    def records(self, at: int = FIRST) -> Iterator[tuple[int, bytes]]:
        """The kind and the bytes of each record from `at` on; `self.at` is moved behind the last one."""
        while found := self.record(at):
            kind, record, at = found
            self.at = max(self.at, at)
            yield kind, record

    def record(self, at: int) -> tuple[int, bytes, int] | None:
        """
        The record at `at`, as kind, bytes, and where the next one is; None where there is none.

        One that is damaged, as the failure of a whole machine may leave it, is empty: those after it keep their
        numbers.
        """
        if at + 8 > SEGMENT:
            return None
        word = self.words[at >> 3]
        size = word >> 2 & _MOST_LENGTH
        end = at + 8 + size
        if not word or end > SEGMENT:
            return None
        record = self._map[at + 8 : end]
        if crc32(record) != word >> 32:
            record = b""
        return word & 3, record, (end + 7) & -8

    def recycle(self, path: Path) -> None:
        """Be a new segment at `path`: cheaper than to delete one and make another. Raises OSError."""
        self.words[0] = 0  # from now on it is none to whoever reads the folder
        self._map[:] = _ZEROS
        self.path.rename(path)
        self.path = path
        self.first = self.count = self.open = 0
        self.at = FIRST

    def close(self) -> None:
        self.words.release()
        self._map.close()

    def delete(self) -> None:
        self.close()
        self.path.unlink(missing_ok=True)


class SpoolFull(Exception):
    """The spool may not grow any more, or the disk is full."""


class Folder:
    """
    A spool's folder and its lock, which ends with the process.

    `fresh` makes one, `dead` takes over one whose process has ended.
    """

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock

    @classmethod
    def fresh(cls, parent: Path, name: str) -> Folder:
        """A new folder. Raises OSError."""
        parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        unfinished = parent / f".{name}"
        unfinished.mkdir(mode=0o700)
        lock = os.open(unfinished / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        path = parent / name
        unfinished.rename(path)  # only now does anybody look whether its process is alive
        return cls(path, lock)

    @classmethod
    def dead(cls, path: Path) -> Folder | None:
        """The folder at `path`, or None where its process lives, or another one has taken it over."""
        try:
            lock = os.open(path / _LOCK, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.stat(path / _LOCK).st_ino != os.fstat(lock).st_ino:
                raise OSError  # another one has finished with it since
        except OSError:
            os.close(lock)
            return None
        return cls(path, lock)

    @property
    def name(self) -> str:
        return self.path.name

    def segments(self) -> list[Path]:
        """The files of its segments, oldest first."""
        return sorted(self.path.glob(f"*{_SUFFIX}"))

    def release(self) -> None:
        """Let somebody else have it."""
        os.close(self._lock)

    def delete(self) -> None:
        """Delete it with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def other_folders(parent: Path, own: str) -> list[Path]:
    """The folders beside that called `own`, of runs as it; those that were never finished are deleted."""
    found = []
    with suppress(OSError):
        for path in sorted(parent.iterdir()):
            if not path.name.startswith("."):
                if path.name != own and len(path.name) == len(own) and path.name.isalnum():
                    found.append(path)
            elif time.time() - path.stat().st_mtime > STRAY and (stray := Folder.dead(path)) is not None:
                stray.delete()
    return found


class Spool:
    """
    The segments of one folder, and what is written to the last of them. `most`: bytes that they may have together;
    `spares`: how many are kept to be written to again.

    Owned by one event loop; `prepare` and `sweep` alone may run in a thread beside it.
    """

    def __init__(self, folder: Folder, *, most: int, spares: int = 0) -> None:
        self.folder = folder
        self.segments: list[Segment] = []
        self._spares: list[Segment] = []
        self._done: list[Segment] = []
        self._most = most
        self._kept = spares
        self._numbers = count(1)

    @property
    def number(self) -> int:
        """The number that the next settlement gets."""
        if not self.segments:
            return 0
        last = self.segments[-1]
        return last.first + last.count

    @property
    def size(self) -> int:
        """Bytes of all segments, written or not."""
        return (len(self.segments) + len(self._spares)) * SEGMENT

    @property
    def room(self) -> int:
        """Bytes that can be written without another segment."""
        rest = SEGMENT - self.segments[-1].at if self.segments else 0
        return rest + len(self._spares) * (SEGMENT - FIRST)

    def take_over(self) -> None:
        """Read what another process has left."""
        last = 0
        for path in self.folder.segments():
            segment = Segment.read(path)
            last = max(last, int(path.stem))
            if segment is not None:
                self.segments.append(segment)
        self._numbers = count(last + 1)

    def prepare(self) -> None:
        """Make one segment in advance. Raises `SpoolFull`."""
        if self.size + SEGMENT > self._most:
            raise SpoolFull
        try:
            self._spares.append(Segment.make(self._new_path()))
        except OSError:
            raise SpoolFull from None

    @property
    def prepared(self) -> int:
        """Segments that were made in advance."""
        return len(self._spares)

    def append(self, kind: int, record: bytes) -> Segment:
        """Add `record`; returns the segment that it is in. Raises `SpoolFull`, unless there was `room`."""
        segments = self.segments
        if segments and (segment := segments[-1]).append(kind, record):
            return segment
        if not self._spares:
            self.prepare()
        segment = self._spares.pop(0)
        segment.use(self.number)
        segments.append(segment)
        if not segment.append(kind, record):
            raise SpoolFull
        return segment

    def forget(self, committed: int) -> None:
        """Let go of the segments whose settlements are all numbered below `committed`, and no intent is open."""
        for segment in [*self.segments[:-1]]:
            if segment.open or segment.first + segment.count > committed:
                continue
            self.segments.remove(segment)
            if len(self._spares) >= self._kept:
                self._done.append(segment)
                continue
            try:
                segment.recycle(self._new_path())
            except OSError:
                self._done.append(segment)
            else:
                self._spares.append(segment)

    @property
    def untidy(self) -> bool:
        """Whether there is something to `sweep`."""
        return bool(self._done)

    def sweep(self) -> None:
        """Delete the segments that were let go of."""
        while self._done:
            self._done.pop().delete()

    def close(self) -> None:
        for segment in (*self.segments, *self._spares, *self._done):
            segment.close()
        self.segments, self._spares, self._done = [], [], []

    def _new_path(self) -> Path:
        return self.folder.path / f"{next(self._numbers):08d}{_SUFFIX}"
