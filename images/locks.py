"""Write `requirements/image-*.txt`: what each image installs, at the versions that the platform is tested with.

`python images/locks.py [FOLDER]` in an environment made by `make install`. An image's lock is what its extras need,
followed through the installed packages' own metadata; the serving image's without what SGLang itself brings.
"""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

IMAGES = {
    "router": ("router", "postgresql", "console"),
    "operator": ("operators",),
    "serving": ("serving",),
}
"""The extras of each image."""

PYTHON = {"python_version": "3.11", "python_full_version": "3.11.0"}
"""The oldest that the locks are for, whatever runs here: later ones bring what it needs beside."""

BROUGHT_BY_BASE = {"serving": "sglang"}
"""The package whose own image an image builds on: what it needs is there."""


def needed(requirement: Requirement, seen: dict[tuple[str, str], str]) -> dict[tuple[str, str], str]:
    """All that `requirement` needs in this environment, itself included: name and extra, with the version."""
    name = canonicalize_name(requirement.name)
    for extra in requirement.extras or {""}:
        if (name, extra) in seen:
            continue
        try:
            found = distribution(name)
        except PackageNotFoundError:
            continue  # sglang's own needs for CUDA, which only its image has
        seen[name, extra] = found.version
        for text in found.requires or ():
            inner = Requirement(text)
            if inner.marker is None or any(inner.marker.evaluate({**PYTHON, "extra": one}) for one in {extra, ""}):
                needed(inner, seen)
    return seen


def lock(image: str) -> str:
    """The lock of one image."""
    extras = IMAGES[image]
    seen: dict[tuple[str, str], str] = {}
    for extra in ("", *extras):
        for text in distribution("pointsman").requires or ():
            inner = Requirement(text)
            base = BROUGHT_BY_BASE.get(image)
            if canonicalize_name(inner.name) == base:
                continue
            if inner.marker is None or inner.marker.evaluate({**PYTHON, "extra": extra}):
                needed(inner, seen)
    there = set()
    if base := BROUGHT_BY_BASE.get(image):
        there = {name for name, _ in needed(Requirement(base), {})}
    versions = {name: version.partition("+")[0] for (name, _), version in seen.items() if name not in there}
    said = f"# What images/{image}.Dockerfile installs: {', '.join(extras)}. Written by images/locks.py.\n"
    return said + "".join(f"{name}=={version}\n" for name, version in sorted(versions.items()))


def main(folder: Path) -> None:
    for image in IMAGES:
        (folder / f"image-{image}.txt").write_text(lock(image), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[1] / "requirements"))
