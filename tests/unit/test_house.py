"""The house: one namespace package in several rooms, each of them typed, and a wheel that holds all they need."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FLOORS = [
    floor for floor in ("platform", "router", "operators", "dashboards") if (ROOT / floor / "pointsman").is_dir()
]
ROOMS = sorted(
    room
    for floor in FLOORS
    for room in (ROOT / floor / "pointsman").iterdir()
    if room.is_dir() and room.name != "__pycache__"
)


def test_there_are_rooms() -> None:
    assert {room.name for room in ROOMS} >= {"contracts", "store", "serving", "cli", "router"}


@pytest.mark.parametrize("floor", FLOORS)
def test_no_floor_shadows_a_module_or_closes_the_namespace(floor: str) -> None:
    assert not (ROOT / floor / "__init__.py").exists(), "platform/ would shadow the standard library's module"
    assert not (ROOT / floor / "pointsman/__init__.py").exists(), "the namespace would end in this folder"


def test_platform_is_still_the_standard_librarys() -> None:
    said = subprocess.run(
        [sys.executable, "-c", "import platform; print(platform.python_version())"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.strip() == ".".join(map(str, sys.version_info[:3]))


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.name)
def test_a_room_says_what_it_is_and_is_typed(room: Path) -> None:
    assert (room / "py.typed").exists()
    assert (room / "__init__.py").read_text().startswith('"""')


def modules() -> list[Path]:
    return sorted(file for floor in FLOORS for file in (ROOT / floor / "pointsman").rglob("*.py"))


@pytest.mark.parametrize("file", modules(), ids=lambda file: str(file.relative_to(ROOT)))
def test_a_module_opens_by_saying_why_it_stands_where_it_stands(file: Path) -> None:
    assert file.read_text().lstrip().startswith(('"""', 'r"""'))


def test_the_wheel_holds_every_room_and_its_data(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("pointsman/")}
    wanted = {
        str(file.relative_to(ROOT / floor))
        for floor in FLOORS
        for file in (ROOT / floor / "pointsman").rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert packed == wanted
    assert "pointsman/cli/local.yaml" in packed


def test_the_data_plane_knows_no_database_and_no_page() -> None:
    """What a router reads of tenants, policies and prices is their copy in Redis: it starts without SQLAlchemy."""
    code = "import sys, pointsman.router.process\nprint(*sorted({name.partition('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "uvloop" in loaded
    assert not {"sqlalchemy", "alembic", "fastapi", "starlette", "matplotlib", "pyarrow"} & set(loaded)
