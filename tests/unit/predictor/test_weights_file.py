"""The weights file: round trip, and a clear refusal of everything that is not one."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from pointsman.router.predictor import Predictor, WeightsError, artefact


def _resealed(body: bytes) -> bytes:
    return body + hashlib.sha256(body).digest()


def _refusal(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(WeightsError) as refused:
        Predictor.load(path)
    assert str(path) in str(refused.value)
    return str(refused.value)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    weights = artefact.read()
    path = tmp_path / "copy.weights"
    artefact.write(weights, path)
    assert path.read_bytes() == artefact.BUNDLED.read_bytes()
    assert Predictor.load(path).version == Predictor.load().version
    assert list(tmp_path.iterdir()) == [path]


def test_the_bundled_file_is_small() -> None:
    assert artefact.BUNDLED.stat().st_size < 3_000_000


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"cannot read the weights file .*nowhere"):
        Predictor.load(tmp_path / "nowhere")


def test_a_folder_is_no_weights_file(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="cannot read"):
        Predictor.load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"x", b"\x80\x04.", b"PK\x03\x04" + bytes(100)])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    assert "is not a weights file" in _refusal(tmp_path / "f", content)


def test_any_flipped_byte_is_noticed(tmp_path: Path) -> None:
    whole = artefact.BUNDLED.read_bytes()
    for at in range(25, len(whole), len(whole) // 60):
        broken = bytearray(whole)
        broken[at] ^= 1
        assert "is damaged" in _refusal(tmp_path / "f", bytes(broken))


def test_a_cut_file_is_noticed(tmp_path: Path) -> None:
    whole = artefact.BUNDLED.read_bytes()
    for length in (21, 40, 100, len(whole) // 2, len(whole) - 1):
        assert "is damaged" in _refusal(tmp_path / "f", whole[:length])


def test_a_report_cannot_be_moved_to_other_weights(tmp_path: Path) -> None:
    body = bytearray(artefact.BUNDLED.read_bytes()[:-32])
    body[-40_000] ^= 1
    assert "report was measured on other weights" in _refusal(tmp_path / "f", _resealed(bytes(body)))


def test_another_version_says_so(tmp_path: Path) -> None:
    body = artefact.BUNDLED.read_bytes()[:-32]
    assert "train it again" in _refusal(tmp_path / "f", _resealed(body.replace(b'"format":3', b'"format":2', 1)))


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "f"
    artefact.write(replace(artefact.read(), slope=1e308 * 10), path)
    with pytest.raises(WeightsError, match="damaged"):
        Predictor.load(path)


@pytest.mark.parametrize("bend", [0.0, -1.0, 1e-300, 1e6])
def test_a_bend_that_training_never_finds_is_refused(tmp_path: Path, bend: float) -> None:
    path = tmp_path / "f"
    artefact.write(replace(artefact.read(), bend=bend), path)
    with pytest.raises(WeightsError, match="damaged: its bend is not between"):
        Predictor.load(path)


@pytest.mark.parametrize("header", [b"", b"[]", b"{}", b'{"format":1}', b"\xff", b"null"])
def test_a_header_that_makes_no_sense_is_refused(tmp_path: Path, header: bytes) -> None:
    body = b"pointsman-predictor\n" + len(header).to_bytes(4, "little") + header
    assert "is damaged" in _refusal(tmp_path / "f", _resealed(body))


def test_the_header_is_json_a_person_can_read() -> None:
    content = artefact.BUNDLED.read_bytes()
    length = int.from_bytes(content[20:24], "little")
    header = orjson.loads(content[24 : 24 + length])
    assert header["weights_sha256"] == artefact.read().sha256
    assert header["report"] == artefact.read().report
