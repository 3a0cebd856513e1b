"""The state folder: private, claimed by one instance, and its keys outlive the run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pointsman.cli.instance import preflight
from pointsman.cli.instance.logs import last_lines, log_path, move_aside_large, open_log
from pointsman.cli.instance.state_folder import LONGEST_SOCKET_PATH, StateFolder, StateFolderError
from pointsman.contracts.config import Config, Tenant
from pointsman.contracts.config_file import load_config
from pointsman.contracts.tenants import is_well_formed, key_digest, new_key


@pytest.fixture
def local() -> Config:
    return load_config(Path(preflight.__file__).parents[1] / "local.yaml")


def opened(path: Path) -> StateFolder:
    folder = StateFolder(path)
    folder.open()
    folder.new_run()
    return folder


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_everything_is_private_and_keys_stay(tmp_path: Path, local: Config) -> None:
    folder = opened(tmp_path / "a" / "b")
    written = folder.write_config(local)
    assert mode(folder.path) == 0o700
    for path in (folder.admin_key, folder.demo_key, folder.config):
        assert mode(path) == 0o600
    demo, admin = folder.demo_key.read_text().strip(), folder.admin_key.read_text().strip()
    assert is_well_formed(demo)
    assert is_well_formed(admin)
    assert demo != admin
    assert [tenant.key_digests for tenant in written.tenants if tenant.name == "demo"] == [(key_digest(demo),)]
    assert written.router.admin_key_digests == (key_digest(admin),)
    assert load_config(folder.config) == written
    assert folder.write_config(local) == written
    assert folder.demo_key.read_text().strip() == demo
    assert demo not in folder.config.read_text()


def test_the_written_configuration_can_be_given_back(tmp_path: Path, local: Config) -> None:
    folder = opened(tmp_path / "s")
    written = folder.write_config(local)
    assert folder.write_config(load_config(folder.config)) == written


def test_a_demo_tenant_of_the_users_own_keeps_its_keys(tmp_path: Path, local: Config) -> None:
    own = key_digest(new_key())
    tenants = (Tenant(name="other"), Tenant(name="demo", key_digests=(own,), models=("smollm2",)))
    folder = opened(tmp_path / "s")
    written = folder.write_config(local.model_copy(update={"tenants": tenants}))
    other, demo = written.tenants
    assert other == tenants[0]
    assert demo.models == ("smollm2",)
    assert demo.key_digests == (own, key_digest(folder.read_demo_key()))


def test_key_files_with_too_open_a_mode_are_closed(tmp_path: Path, local: Config) -> None:
    folder = opened(tmp_path / "s")
    folder.write_config(local)
    folder.demo_key.chmod(0o644)
    folder.write_config(local)
    assert mode(folder.demo_key) == 0o600


@pytest.mark.parametrize("content", [b"", b"pk-wrong", b"\xff\xfe"])
def test_a_file_that_holds_no_key_is_named(tmp_path: Path, local: Config, content: bytes) -> None:
    folder = opened(tmp_path / "s")
    folder.demo_key.write_bytes(content)
    with pytest.raises(StateFolderError, match=r"demo\.key does not hold a key"):
        folder.write_config(local)


def test_a_folder_in_use_names_its_holder(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from pointsman.cli.instance.state_folder import StateFolder\n"
        "StateFolder(Path(sys.argv[1])).open(); print('claimed', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "s")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "claimed\n"
        with pytest.raises(StateFolderError, match=f"in use by the instance with process number {holder.pid}:"):
            StateFolder(tmp_path / "s").open()
        holder.kill()
        holder.wait()
    StateFolder(tmp_path / "s").open()


def test_a_path_too_long_for_sockets(tmp_path: Path) -> None:
    room = LONGEST_SOCKET_PATH - len(os.fsencode(tmp_path)) - len("//valkey.sock")
    StateFolder(tmp_path / ("x" * room)).open()
    with pytest.raises(StateFolderError, match="1 bytes too long"):
        StateFolder(tmp_path / ("x" * (room + 1))).open()


def test_an_empty_folder_is_closed_but_somebodys_folder_is_left_alone(tmp_path: Path) -> None:
    empty, full = tmp_path / "empty", tmp_path / "full"
    for path in (empty, full):
        path.mkdir()
        path.chmod(0o755)
    (full / "letter").touch()
    StateFolder(empty).open()
    assert mode(empty) == 0o700
    with pytest.raises(StateFolderError, match="open to other users"):
        StateFolder(full).open()
    assert mode(full) == 0o755
    full.chmod(0o700)
    StateFolder(full).open()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StateFolderError, match="cannot be written"):
        StateFolder(tmp_path / "file" / "s").open()


def test_a_new_run_keeps_one_older_log_and_empties_the_metrics(tmp_path: Path) -> None:
    folder = opened(tmp_path / "s")
    log_path(folder.logs, "router").write_text("first\n")
    (folder.path / "metrics" / "counter.db").touch()
    (folder.path / "admin.sock").touch()
    folder.new_run()
    log_path(folder.logs, "router").write_text("second\n")
    folder.new_run()
    assert (folder.logs / "router.log.1").read_text() == "second\n"
    assert not log_path(folder.logs, "router").exists()
    assert list((folder.path / "metrics").iterdir()) == []
    assert not (folder.path / "admin.sock").exists()


def test_a_log_that_grows_is_cut_while_its_writer_goes_on(tmp_path: Path) -> None:
    descriptor = open_log(tmp_path, "engine")
    os.write(descriptor, b"x" * 2000 + b"\n")
    move_aside_large(tmp_path, largest=10_000)
    assert log_path(tmp_path, "engine").stat().st_size == 2001
    move_aside_large(tmp_path, largest=1000)
    os.write(descriptor, b"later\n")
    os.close(descriptor)
    assert log_path(tmp_path, "engine").read_bytes() == b"later\n"
    assert (tmp_path / "engine.log.1").stat().st_size == 2001


def test_the_last_lines_of_a_log(tmp_path: Path) -> None:
    assert last_lines(tmp_path, "router") == []
    log_path(tmp_path, "router").write_text("".join(f"line {number}\n\n" for number in range(20_000)))
    assert last_lines(tmp_path, "router", 2) == ["line 19998", "line 19999"]
