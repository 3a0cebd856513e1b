"""How much memory is free for new processes: what the machine says, and what the control groups allow.

Separate from the other checks because a container's limit is found in two different file systems.
"""

from __future__ import annotations

from pathlib import Path


def available_bytes(*, proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes that processes started now can have together: the least of the machine's and each group's."""
    return min([_machine(proc), *_groups(proc, cgroups)])


def _machine(proc: Path) -> int:
    for line in (proc / "meminfo").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name == "MemAvailable":
            return int(rest.split()[0]) * 1024
    raise AssertionError("every Linux since 3.14 reports MemAvailable")


def _groups(proc: Path, cgroups: Path) -> list[int]:
    """What is left in each control group this process is in; in a container the innermost is the root it sees."""
    left = []
    for line in (proc / "self" / "cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, limit, usage, reclaimable = cgroups, "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            root, limit, usage = cgroups / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
            reclaimable = "total_inactive_file"
        else:
            continue
        group = root / path.lstrip("/")
        for folder in (group, *group.parents):
            if folder == root.parent:
                break
            bytes_left = _left_in(folder, limit, usage, reclaimable)
            if bytes_left is not None:
                left.append(bytes_left)
    return left


def _left_in(folder: Path, limit: str, usage: str, reclaimable: str) -> int | None:
    try:
        most = (folder / limit).read_text().strip()
        used = int((folder / usage).read_text())
        statistics = (folder / "memory.stat").read_text()
    except OSError:
        return None
    if most == "max":
        return None
    cached = next((int(line.split()[1]) for line in statistics.splitlines() if line.split()[0] == reclaimable), 0)
    return max(0, int(most) - used + cached)
