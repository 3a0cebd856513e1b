"""Free memory as a machine, a container and a nested control group tell it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pointsman.cli.instance.memory import available_bytes

GIB = 1024**3


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A /proc with 16 GiB available and no control group, and an empty /sys/fs/cgroup beside it."""
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "cgroup").mkdir()
    (tmp_path / "proc" / "meminfo").write_text(f"MemTotal: 1 kB\nMemAvailable:   {16 * 1024**2} kB\n")
    (tmp_path / "proc" / "self" / "cgroup").write_text("")
    return tmp_path


def available(machine: Path) -> int:
    return available_bytes(proc=machine / "proc", cgroups=machine / "cgroup")


def join(machine: Path, line: str) -> None:
    with (machine / "proc" / "self" / "cgroup").open("a") as file:
        file.write(f"{line}\n")


def group_v2(machine: Path, path: str, *, most: str, used: int, inactive: int = 0) -> None:
    folder = machine / "cgroup" / path.lstrip("/")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{most}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {inactive}\n")


def test_without_groups_the_machine_decides(machine: Path) -> None:
    assert available(machine) == 16 * GIB


def test_a_group_limits_and_its_file_cache_counts_as_free(machine: Path) -> None:
    join(machine, "0::/box")
    group_v2(machine, "/box", most=str(4 * GIB), used=3 * GIB, inactive=2 * GIB)
    assert available(machine) == 3 * GIB


def test_the_tightest_of_nested_groups_decides(machine: Path) -> None:
    join(machine, "0::/outer/inner")
    group_v2(machine, "/outer", most=str(2 * GIB), used=GIB)
    group_v2(machine, "/outer/inner", most=str(8 * GIB), used=GIB)
    assert available(machine) == GIB


def test_no_limit_and_an_overdrawn_group(machine: Path) -> None:
    join(machine, "0::/")
    group_v2(machine, "/", most="max", used=GIB)
    assert available(machine) == 16 * GIB
    group_v2(machine, "/", most=str(GIB), used=2 * GIB)
    assert available(machine) == 0


def test_the_older_hierarchy(machine: Path) -> None:
    join(machine, "9:cpu,memory:/box")
    folder = machine / "cgroup" / "memory" / "box"
    folder.mkdir(parents=True)
    (folder / "memory.limit_in_bytes").write_text(f"{5 * GIB}\n")
    (folder / "memory.usage_in_bytes").write_text(f"{2 * GIB}\n")
    (folder / "memory.stat").write_text(f"inactive_file 1\ntotal_inactive_file {GIB}\n")
    assert available(machine) == 4 * GIB


def test_this_machine_has_some() -> None:
    assert available_bytes() > 0
