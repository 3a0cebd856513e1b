"""The API server that the tests on Kubernetes run against is a real one: it validates, authorizes and collects."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from support import control_plane
from support.control_plane import Cluster, NoControlPlane
from support.instances import wait_until

CONFIG_MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"a": "1"}}


def test_it_validates_objects_of_the_neighbours(cluster: Cluster, namespace: str) -> None:
    if not control_plane.neighbours():
        pytest.skip("the neighbours' CRDs are not beside the control plane")
    wrong = {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": {"name": "wrong"},
        "spec": {"serveConfigV2": 7},
    }
    # By the server or, where that has published the schema already, by kubectl, which asks for what is missing.
    with pytest.raises(AssertionError, match=r"serveConfigV2|rayClusterConfig"):
        cluster.apply(wrong, namespace=namespace)
    assert cluster.list("rayservices.ray.io", namespace=namespace) == []


def test_a_service_account_may_do_what_its_roles_say(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    cluster.apply(CONFIG_MAP, namespace=namespace)
    cluster.kubectl("create", "serviceaccount", "reader", "-n", namespace)
    cluster.kubectl("create", "role", "reads", "--verb=get", "--resource=configmaps", "-n", namespace)
    cluster.kubectl(
        *("create", "rolebinding", "reads", "--role=reads"), f"--serviceaccount={namespace}:reader", "-n", namespace
    )
    reader = cluster.kubeconfig_of(namespace, "reader", tmp_path / "kubeconfig")
    assert "settings" in cluster.kubectl("get", "configmap", "settings", kubeconfig=reader).stdout
    refused = cluster.kubectl("delete", "configmap", "settings", check=False, kubeconfig=reader)
    assert refused.returncode
    assert "forbidden" in refused.stderr


def test_who_comes_when_all_have_left_starts_another(tmp_path: Path) -> None:
    if os.environ.get("KUBECONFIG"):
        pytest.skip("KUBECONFIG names a cluster that is not started here")
    said = tmp_path / "started.json"

    def wait_until_gone() -> None:
        wait_until(lambda: not said.exists(), seconds=60, what="a control plane that nobody uses to end")

    try:
        with control_plane.shared(tmp_path) as first, control_plane.shared(tmp_path) as beside:
            assert beside == first
    except NoControlPlane as reason:
        pytest.skip(str(reason))
    wait_until_gone()
    with control_plane.shared(tmp_path) as later:
        assert later != first
        assert later.get("namespace", "default")
    wait_until_gone()
