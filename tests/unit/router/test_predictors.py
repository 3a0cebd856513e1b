"""A router says when its predictor is slower than it could be."""

from __future__ import annotations

from pathlib import Path

import pytest

from pointsman.router.predictor import Predictor, artefact
from pointsman.router.predictors import Predictors
from support.fleets import metrics_in


@pytest.mark.parametrize("compiled", [True, False])
def test_numpy_in_the_kernels_place_is_told(
    compiled: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Predictors(Predictor(artefact.read(), compiled=compiled), metrics_in(tmp_path))
    assert ("NumPy judges" in caplog.text) is not compiled
