"""One control plane for all tests on Kubernetes; where there is none they skip, and say what was looked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from support import control_plane
from support.control_plane import Cluster, NoControlPlane


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[Cluster]:
    """A real API server with the neighbours' CRDs; the workers of one run share it."""
    base = tmp_path_factory.getbasetemp()
    with ExitStack() as stack:
        try:
            found = stack.enter_context(
                control_plane.shared((base if worker_id == "master" else base.parent) / "control-plane")
            )
        except NoControlPlane as reason:
            pytest.skip(str(reason))
        yield found


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace of the test's own."""
    with cluster.namespace() as name:
        yield name
