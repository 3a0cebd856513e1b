"""The small model is converted once, whoever comes first."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from pointsman.serving import local_model
from pointsman.serving.local_model import ModelUnavailable, is_prepared, prepare

NAME = "local:smollm2"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def write_a_model(gguf: Path, folder: Path) -> None:
    assert gguf.is_file(), "the package carries the weights"
    (folder / "config.json").write_text("{}")


def test_other_models_are_left_alone() -> None:
    assert prepare("org/name") == "org/name"
    assert is_prepared("org/name")


def test_an_unknown_name_is_refused_with_those_there_are() -> None:
    with pytest.raises(ModelUnavailable, match="local:smollm2"):
        prepare("local:nothing")


def test_it_is_converted_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_model, "_convert", write_a_model)
    assert not is_prepared(NAME)
    folder = Path(prepare(NAME))
    assert (folder / "config.json").is_file()
    assert folder.is_relative_to(cache)
    monkeypatch.setattr(local_model, "_convert", lambda *_: pytest.fail("converted twice"))
    assert is_prepared(NAME)
    assert prepare(NAME) == str(folder)


def test_two_at_once_end_with_one_whole_model(monkeypatch: pytest.MonkeyPatch) -> None:
    both_at_work = threading.Barrier(2)

    def convert(gguf: Path, folder: Path) -> None:
        both_at_work.wait(10)
        write_a_model(gguf, folder)

    monkeypatch.setattr(local_model, "_convert", convert)
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(prepare(NAME))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(found) == 2
    assert len(set(found)) == 1
    assert [child.name for child in Path(found[0]).parent.iterdir()] == [Path(found[0]).name]


def test_a_conversion_that_fails_leaves_nothing_behind(
    cache: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path_factory.mktemp("packages")
    (broken / "torch.py").write_text("raise RuntimeError('this torch does not work')\n")
    monkeypatch.setattr(local_model, "CPU_SHIMS", broken)
    with pytest.raises(ModelUnavailable, match=r"could not be converted: RuntimeError: this torch does not work$"):
        prepare(NAME)
    assert not is_prepared(NAME)
    assert list((cache / "pointsman" / "models").iterdir()) == []
