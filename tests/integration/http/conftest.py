"""Gateways whose router is started in its own way."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a short path, for a gateway of the test's own."""
    return tmp_path_factory.mktemp("gw")
