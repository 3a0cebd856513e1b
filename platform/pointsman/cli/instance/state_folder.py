"""The state folder of one instance: who may use it, its keys, and the configuration that its children read.

All that an instance writes lies below this folder. The metrics start empty with each `up` (Prometheus takes that
for what it is, a counter reset); keys stay for as long as the folder does.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
from pathlib import Path

from pointsman.cli.instance.logs import begin_run
from pointsman.contracts.config import Config, Tenant
from pointsman.contracts.config_file import dump_config
from pointsman.contracts.names import StateFile
from pointsman.contracts.tenants import is_well_formed, key_digest, new_key

DEMO_TENANT = "demo"

LONGEST_SOCKET_PATH = 106
"""Bytes of the path of a Unix socket at most (Linux has 108 for it, a closing zero byte among them)."""

_VALKEY_SOCKET = "valkey.sock"
_LOCK = "lock"
_HEADER = "# Written by `pointsman up` at each start, from the file given with --config; edits here are lost.\n"


class StateFolderError(Exception):
    """The folder cannot be used. The message is one sentence for the user."""


class StateFolder:
    """The folder at `path`, made absolute. Nothing is touched before `open`."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().absolute()
        self.admin_key = self.path / StateFile.ADMIN_KEY
        self.demo_key = self.path / StateFile.DEMO_KEY
        self.config = self.path / StateFile.CONFIG
        self.logs = self.path / StateFile.LOGS
        self.valkey_socket = self.path / _VALKEY_SOCKET

    def open(self) -> None:
        """
        Create the folder where it is missing, close it to other users, and claim it for this process.

        The claim ends when the last process that inherited it by fork is gone. Raises `StateFolderError`.
        """
        longest = max(len(os.fsencode(self.path / name)) for name in (StateFile.ADMIN_SOCKET, _VALKEY_SOCKET))
        if longest > LONGEST_SOCKET_PATH:
            raise StateFolderError(
                f"The path of the state folder {self.path} is {longest - LONGEST_SOCKET_PATH} bytes too long for "
                "the sockets in it: choose a shorter one with --state-dir."
            )
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._make_private()
            self._lock = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StateFolderError(
                f"The state folder {self.path} cannot be written ({_reason(error)}): "
                "choose another with --state-dir."
            ) from None
        self._claim()

    def new_run(self) -> None:
        """Put away what an earlier run left: its logs go to `.1`, its metrics and sockets go. Raises `OSError`."""
        begin_run(self.logs)
        shutil.rmtree(self.path / StateFile.METRICS, ignore_errors=True)
        (self.path / StateFile.METRICS).mkdir(mode=0o700)
        for name in (StateFile.ADMIN_SOCKET, _VALKEY_SOCKET):
            (self.path / name).unlink(missing_ok=True)

    def write_config(self, config: Config) -> Config:
        """
        `config` with the demo tenant's key and the administrator's key in it, as the children will read it.

        Makes the two keys where they are missing. Raises `StateFolderError`, `OSError`.
        """
        demo, admin = key_digest(_key(self.demo_key)), key_digest(_key(self.admin_key))
        complete = _with_admin(_with_demo(config, demo), admin)
        _write_private(self.config, _HEADER + dump_config(complete))
        return complete

    def read_demo_key(self) -> str:
        """The key of the demo tenant. Raises `StateFolderError`, `OSError`."""
        return _key(self.demo_key)

    def _make_private(self) -> None:
        found = self.path.stat()
        if found.st_uid != os.geteuid():
            raise StateFolderError(
                f"The state folder {self.path} belongs to another user: choose another with --state-dir."
            )
        if stat.S_IMODE(found.st_mode) & 0o077 == 0:
            return
        if any(self.path.iterdir()) and not (self.path / _LOCK).exists():
            raise StateFolderError(
                f"The folder {self.path} is open to other users and holds other files, so keys cannot be kept in "
                "it: choose another with --state-dir, or close it with chmod 700."
            )
        self.path.chmod(0o700)

    def _claim(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._lock, 20, 0).decode(errors="replace").strip()
            os.close(self._lock)
            raise StateFolderError(
                f"The state folder {self.path} is in use by the instance with process number "
                f"{holder or 'unknown'}: stop that one first, or give this one another folder with --state-dir."
            ) from None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)


def _with_demo(config: Config, digest: str) -> Config:
    tenants = {tenant.name: tenant for tenant in config.tenants}
    demo = tenants.get(DEMO_TENANT, Tenant(name=DEMO_TENANT))
    if digest not in demo.key_digests:
        demo = demo.model_copy(update={"key_digests": (*demo.key_digests, digest)})
    tenants[DEMO_TENANT] = demo
    return config.model_copy(update={"tenants": tuple(tenants.values())})


def _with_admin(config: Config, digest: str) -> Config:
    digests = config.router.admin_key_digests
    if digest in digests:
        return config
    router = config.router.model_copy(update={"admin_key_digests": (*digests, digest)})
    return config.model_copy(update={"router": router})


def _key(path: Path) -> str:
    """The key in the file at `path`; a new one where the file is missing."""
    try:
        key = path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        key = new_key()
        _write_private(path, f"{key}\n")
        return key
    except UnicodeDecodeError:
        key = ""
    if not is_well_formed(key):
        raise StateFolderError(f"The file {path} does not hold a key: remove it, and a new key is made.")
    path.chmod(0o600)
    return key


def _write_private(path: Path, text: str) -> None:
    """Write `text` so that `path` holds the old or the new text whatever happens, readable by its owner only."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mkstemp makes it 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise


def _reason(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()
