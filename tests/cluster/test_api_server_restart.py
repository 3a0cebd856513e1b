"""The API server goes away and comes back: clients notice nothing, and what was asked for meanwhile comes true."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from support import control_plane
from support.control_plane import Cluster, NoControlPlane, Started, away
from support.convergence import Convergence
from support.gateway import Gateway, wait_for
from support.kuberay import KubeRay
from support.operators import CRDS, Operator, install_account
from support.pool_stage import Stage

pytestmark = pytest.mark.timeout(400)


@pytest.fixture
def own_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, Started]]:
    """A control plane that nobody else needs."""
    if not control_plane.neighbours():
        pytest.skip("KubeRay's CRDs are not beside the control plane")
    try:
        own = control_plane.private(tmp_path_factory.mktemp("cp"))
        entered = own.__enter__()
    except NoControlPlane as reason:
        pytest.skip(str(reason))
    try:
        yield entered
    finally:
        own.__exit__(None, None, None)


@pytest.mark.long
def test_the_api_server_restarts(
    fork_server: None, own_plane: tuple[Cluster, Started], tmp_path_factory: pytest.TempPathFactory
) -> None:
    cluster, plane = own_plane
    folder = tmp_path_factory.mktemp("ra")
    cluster.install_crds(*CRDS)
    with (
        cluster.namespace("restart") as namespace,
        Gateway(folder, pools=()) as gateway,
        KubeRay(cluster, namespace, folder, gateway.redis_url) as kuberay,
    ):
        install_account(cluster, namespace)
        with Operator(cluster, namespace, gateway, folder) as operator:
            operator.until_leading()
            stage = Stage(cluster, namespace, gateway, kuberay, operator)
            stage.apply("stays", replicas=1)
            stage.until_ready("stays", 1)
            for seconds in (1, 12):  # the second is longer than the Lease: the operator ends, as it must
                with away(plane, "kube-apiserver"):
                    time.sleep(seconds)
                    assert stage.ask("stays").status_code == 200, "answers need no API server"
                wait_for(
                    lambda: not cluster.kubectl("get", "ns", check=False).returncode, "the API server", seconds=90
                )
                convergence = Convergence()
                if operator.process.popen.poll() is not None:
                    assert operator.process.popen.poll() == 3, "it says why it ended"
                    operator.start()
                stage.apply(f"after{seconds}", replicas=1)
                stage.until_ready(f"after{seconds}", 1)
                print(f"{convergence.seconds():.1f} s after an API server was away for {seconds} s")
                assert not convergence.late()
            assert len(cluster.list("rayservice", namespace=namespace)) == 3, "none twice"
            for name in ("stays", "after1", "after12"):
                stage.delete(name)
            assert cluster.list("rayservice", namespace=namespace) == []
