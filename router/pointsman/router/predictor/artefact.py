"""The weights as a file: one versioned artefact that holds the numbers and the report they were measured by.

Stands between training, which writes it, and the predictor, which reads it. The layout is a first line, a JSON
header, the raw numbers, and a SHA-256 of all of it: nothing in it is ever executed, a broken or edited file is
refused with one sentence, and a report cannot be changed apart from the weights it speaks of.
"""

from __future__ import annotations

import hashlib
import math
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from pointsman.contracts.config_types import PREDICTOR_PATTERN
from pointsman.router.predictor import features
from pointsman.router.predictor.table import ENTRIES, Table
from pointsman.router.predictor.tempering import BENDS

FORMAT = 3
BASE = "base"
"""The name of predictors that are for everybody."""
BUNDLED = Path(__file__).with_name("data") / "base.weights"
_FIRST_LINE = b"pointsman-predictor\n"
_LENGTH = struct.Struct("<I")
_DIGEST_SIZE = 32
_VERSION = re.compile(PREDICTOR_PATTERN)
_LARGEST = 16 * 1024 * 1024
_ARRAYS: dict[str, tuple[np.dtype[Any], int]] = {
    "entries": (np.dtype("<u2"), ENTRIES),
    "counts": (np.dtype("<f4"), features.COUNT_SIZE),
}


class WeightsError(ValueError):
    """A weights file that cannot be used; the message names the file and says why."""


@dataclass(frozen=True, slots=True)
class Weights:
    """
    A trained model.

    `entries` uint16 [ENTRIES] and `largest`: the `table` of the hashed features' weights; `counts`: float32
    [features.COUNT_SIZE], weights of the counts; `bias`: the raw score of nothing at all; `slope`, `offset` and
    `bend`: the calibration, P(think) = 1 / (1 + exp(-odds)) with odds = tempered(slope * score + offset, bend), see
    `tempering`; `earlier`: (slope, offset), what the log-odds of earlier turns add to those of a short last one,
    slope * odds + offset; `material`: the same of a message, added to those of the task that the system prompt sets
    for it; `created`: ISO date; `data_sha256`: hash of the rows trained on; `report`: what `pointsman evaluate`
    measured, as JSON. `name`: whose it is; `base`: the version that it was adapted from, None where it was trained
    from nothing.
    """

    entries: npt.NDArray[np.uint16]
    largest: float
    counts: npt.NDArray[np.float32]
    bias: float
    slope: float
    offset: float
    bend: float
    created: str
    data_sha256: str
    report: dict[str, Any]
    name: str = BASE
    base: str | None = None
    earlier: tuple[float, float] = (0.0, 0.0)
    material: tuple[float, float] = (0.0, 0.0)

    @property
    def table(self) -> Table:
        """The weights of the hashed features."""
        return Table(self.entries, self.largest)

    @property
    def numbers(self) -> tuple[float, ...]:
        """All that stands beside the arrays and takes part in a prediction."""
        return (self.largest, self.bias, self.slope, self.offset, self.bend, *self.earlier, *self.material)

    @property
    def sha256(self) -> str:
        """Hash of all that a prediction depends on, in lower-case hexadecimal."""
        digest = hashlib.sha256(features.VERSION.encode())
        digest.update(struct.pack("<9d", *self.numbers))
        for name in _ARRAYS:
            digest.update(getattr(self, name).tobytes())
        return digest.hexdigest()

    @property
    def version(self) -> str:
        return f"{self.name}-{self.created}-{self.sha256[:10]}"


def write(weights: Weights, path: Path) -> None:
    """Write `weights` to `path`, whole or not at all. Raises OSError."""
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(packed(weights))
    partial.replace(path)


def packed(weights: Weights) -> bytes:
    """The file that holds `weights`; `parse` reads it."""
    header = orjson.dumps(
        {
            "format": FORMAT,
            "features": features.VERSION,
            **({} if weights.base is None else {"name": weights.name, "base": weights.base}),
            "created": weights.created,
            "data_sha256": weights.data_sha256,
            "weights_sha256": weights.sha256,
            "largest": weights.largest,
            "bias": weights.bias,
            "slope": weights.slope,
            "offset": weights.offset,
            "bend": weights.bend,
            "earlier": weights.earlier,
            "material": weights.material,
            "report": weights.report,
        }
    )
    parts = [_FIRST_LINE, _LENGTH.pack(len(header)), header]
    parts += [getattr(weights, name).astype(dtype).tobytes() for name, (dtype, _) in _ARRAYS.items()]
    body = b"".join(parts)
    return body + hashlib.sha256(body).digest()


def read(path: Path | None = None) -> Weights:
    """
    The weights in the file at `path`, by default those that ship with Pointsman.

    Raises `WeightsError` where the file is missing, damaged, edited, or of another version.
    """
    path = path or BUNDLED
    try:
        if path.stat().st_size > _LARGEST:
            raise WeightsError(f"{path} is not a weights file: it is larger than {_LARGEST} bytes")
        content = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"cannot read the weights file {path}: {error.strerror or error}") from error
    try:
        return parse(content)
    except WeightsError as error:
        raise WeightsError(f"{path} {error}") from error.__cause__


def parse(content: bytes) -> Weights:
    """
    The weights in the file whose bytes are `content`.

    Raises `WeightsError`, whose words go on from what the file is called.
    """
    if not content.startswith(_FIRST_LINE):
        raise WeightsError("is not a weights file: it does not begin as one")
    body, digest = content[:-_DIGEST_SIZE], content[-_DIGEST_SIZE:]
    if hashlib.sha256(body).digest() != digest:
        raise WeightsError("is damaged: its content does not match its checksum")
    try:
        (length,) = _LENGTH.unpack_from(body, len(_FIRST_LINE))
        at = len(_FIRST_LINE) + _LENGTH.size + length
        header = orjson.loads(body[len(_FIRST_LINE) + _LENGTH.size : at])
        versions = header["format"], header["features"]
    except (struct.error, orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise WeightsError("is damaged: its header cannot be read") from error
    if versions != (FORMAT, features.VERSION):
        raise WeightsError(
            f"is of format {versions[0]} with features {versions[1]}, but this release reads format {FORMAT} "
            f"with features {features.VERSION}: train it again"
        )
    if len(body) - at != sum(dtype.itemsize * size for dtype, size in _ARRAYS.values()):
        raise WeightsError("is damaged: it holds too many or too few numbers")
    arrays = {}
    for name, (dtype, size) in _ARRAYS.items():
        arrays[name] = np.frombuffer(body, dtype, size, at)
        at += dtype.itemsize * size
    try:
        weights = Weights(
            **arrays,
            largest=float(header["largest"]),
            bias=float(header["bias"]),
            slope=float(header["slope"]),
            offset=float(header["offset"]),
            bend=float(header["bend"]),
            created=str(header["created"]),
            data_sha256=str(header["data_sha256"]),
            report=dict(header["report"]),
            name=str(header.get("name", BASE)),
            base=None if header.get("base") is None else str(header["base"]),
            earlier=_pair(header["earlier"]),
            material=_pair(header["material"]),
        )
        stated = header["weights_sha256"]
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError("is damaged: its header lacks a field, or holds a wrong one") from error
    if not all(map(math.isfinite, weights.numbers)) or not all(np.isfinite(each).all() for each in arrays.values()):
        raise WeightsError("is damaged: it holds numbers that are not finite")
    if not BENDS[0] <= weights.bend <= BENDS[1]:
        raise WeightsError(f"is damaged: its bend is not between {BENDS[0]:g} and {BENDS[1]:g}")
    if weights.base is not None and not _VERSION.fullmatch(weights.version):
        raise WeightsError("is damaged: its header names no version")
    if weights.sha256 != stated:
        raise WeightsError("is damaged: its report was measured on other weights")
    return weights


def _pair(found: object) -> tuple[float, float]:
    slope, offset = map(float, found)  # type: ignore[call-overload]
    return slope, offset
