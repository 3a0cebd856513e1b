"""Ray's folder: sockets in it must fit into what the kernel allows."""

from __future__ import annotations

import socket
from pathlib import Path

from pointsman.serving.ray_instance import _LONGEST_ROOT, _remove_stale_names, _short_name_of

LONGEST_RAY_ADDS = "/session_2026-12-31_23-59-59_999999_4194304/sockets/plasma_store"


def test_a_short_folder_is_used_as_it_is(tmp_path: Path) -> None:
    folder = Path("/tmp/p")
    with _short_name_of(folder) as root:
        assert root == folder


def test_a_long_folder_gets_a_short_name_for_as_long_as_it_is_in_use(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    with _short_name_of(folder) as root:
        assert len(str(root)) <= _LONGEST_ROOT
        socket_path = Path(f"{root}{LONGEST_RAY_ADDS}")
        socket_path.parent.mkdir(parents=True)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(socket_path))
        assert (folder / LONGEST_RAY_ADDS[1:]).is_socket()
    assert not root.parent.exists()
    assert folder.is_dir()


def test_names_that_a_killed_instance_left_are_removed_and_others_kept(tmp_path: Path) -> None:
    mine, other, gone = (tmp_path / (letter * 100) for letter in "abc")
    for folder in (mine, other, gone):
        folder.mkdir()
    with _short_name_of(mine) as first, _short_name_of(other) as second, _short_name_of(gone) as third:
        gone.rmdir()
        _remove_stale_names(mine)
        assert [root.is_symlink() for root in (first, second, third)] == [False, True, False]
