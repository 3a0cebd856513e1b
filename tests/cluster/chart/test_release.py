"""Releases on a real API server: what is installed runs and answers, survives upgrades, and goes when told to."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from pointsman.contracts.names import Header, Metric
from support.charts import CHART, DEV, H100, MULTI_TENANT, Document, profile_file
from support.control_plane import Cluster
from support.gateway import sample_sum, wait_for
from support.kubelet import PROBES, JobRunner, Node

EARLIER = sorted(Path(__file__).with_name("releases").glob("pointsman-*.tgz"))
REDIS_VOLUME = "PersistentVolumeClaim/data-r-pointsman-redis-0"
WITHOUT_JOB = {"crds": {"upgrade": False}}


class Helm:
    """The helm program on one cluster; a server older than Kubernetes 1.29 is told less than others."""

    def __init__(self, cluster: Cluster, namespace: str, folder: Path) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._folder = folder
        version = json.loads(cluster.kubectl("version", "-o", "json").stdout)["serverVersion"]
        self.old = (int(version["major"]), int(re.sub(r"\D", "", version["minor"]))) < (1, 29)

    def __call__(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [self._cluster.program("helm"), *arguments, "-n", self._namespace],
            env={**os.environ, "KUBECONFIG": str(self._cluster.kubeconfig), "HOME": str(self._folder)},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"helm {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done

    def release(
        self, verb: str, profile: str, values: Document, *, chart: Path = CHART, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """`install` or `upgrade` the release `r`."""
        further = self._folder / "values.yaml"
        further.write_text(yaml.safe_dump(values))
        flags = [f"--values={profile_file(profile)}", f"--values={further}"]
        if self.old:
            # It knows neither sidecars nor newer fields, which it would refuse or drop; test_rendering.py shows
            # that those are right.
            flags += ["--set=checks.kubernetesVersion=false,router.nativeSidecars=false"]
            flags += ["--disable-openapi-validation"]
            if self("version", "--short").stdout.startswith("v4"):
                flags += ["--server-side=false"]
        return self(verb, "r", str(chart), *flags, check=check)


@pytest.fixture
def helm(cluster: Cluster, namespace: str, tmp_path: Path) -> Helm:
    if shutil.which(cluster.program("helm")) is None:
        pytest.skip("there is no helm here")
    return Helm(cluster, namespace, tmp_path)


def secret(cluster: Cluster, namespace: str, name: str, **values: str) -> None:
    literals = [f"--from-literal={key.replace('_', '-')}={value}" for key, value in values.items()]
    cluster.kubectl("create", "secret", "generic", name, "-n", namespace, *literals)


def everything(cluster: Cluster, namespace: str) -> set[str]:
    """What is in a namespace, but for what Kubernetes itself puts there and what comes and goes with others."""
    kinds = (
        "deployments,statefulsets,services,secrets,configmaps,serviceaccounts,networkpolicies,pvc,pdb,hpa,roles,"
    )
    kinds += "rolebindings,jobs,ingresses,podmonitors,prometheusrules,httproutes,scaledobjects,leases"
    found = cluster.list(kinds, namespace=namespace)
    names = {f"{item['kind']}/{item['metadata']['name']}" for item in found}
    own = {"ConfigMap/kube-root-ca.crt", "ServiceAccount/default"}
    tokens = {name for name in names if re.search(r"^Secret/.*-token-\w{5}$", name)}
    return names - own - tokens


def of_the_cluster(cluster: Cluster) -> set[str]:
    """Objects of releases named `r` that are in no namespace."""
    selector = ["-l", "app.kubernetes.io/instance=r"]
    return {item["metadata"]["name"] for item in cluster.list("clusterroles,clusterrolebindings", *selector)}


def may(cluster: Cluster, user: str, verb: str, group: str, what: str, where: str, *, name: str = "") -> bool:
    """Whether `user` may do `verb` to the resource `what` in the namespace `where`."""
    resource, _, sub = what.partition("/")
    asked = {
        "verb": verb,
        "group": group,
        "resource": resource,
        "subresource": sub,
        "namespace": where,
        "name": name,
    }
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": user, "resourceAttributes": asked},
    }
    answer = cluster.kubectl("create", "-o", "json", "-f", "-", stdin=json.dumps(review))
    return bool(json.loads(answer.stdout)["status"]["allowed"])


def asked(client: httpx.Client, mode: str) -> httpx.Response:
    """A question to the development profile's model in `mode`."""
    question = {"model": f"demo:{mode}", "messages": [{"role": "user", "content": "hello"}]}
    return client.post("/v1/chat/completions", json=question)


def first_answer(cluster: Cluster, notes: str, url: str) -> str:
    """The key that the commands of the development profile's notes make; the last of them asks with it."""
    lines = [line.strip() for line in notes.splitlines() if line.startswith("  ")]
    begun = lines.index(next(line for line in lines if line.startswith("export POINTSMAN_ADMIN_KEY")))
    ended = lines.index(next(line for line in lines if line.startswith("pointsman chat")))
    programs = [str(cluster.bin) if cluster.bin else "", str(Path(sys.executable).parent), os.environ["PATH"]]
    told = {"POINTSMAN_URL": url, "KUBECONFIG": str(cluster.kubeconfig), "PATH": os.pathsep.join(programs)}
    script = ["set -eu", *lines[begun : ended + 1], 'echo "$POINTSMAN_API_KEY"']
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        env={**os.environ, **told},
        capture_output=True,
        text=True,
        timeout=PROBES,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "me: version 1" in done.stdout
    return done.stdout.splitlines()[-1]


def test_the_development_profile_answers_from_its_own_manifests(
    cluster: Cluster, namespace: str, helm: Helm, tmp_path_factory: pytest.TempPathFactory
) -> None:
    notes = helm.release("install", DEV, WITHOUT_JOB).stdout
    assert "Uninstalling leaves the CRDs with your objects, and the volume r-pointsman-data" in notes
    folder = tmp_path_factory.mktemp("n")  # a short path: Unix sockets lie in it
    with Node(cluster, namespace, folder) as node:
        node.start("statefulset", "r-pointsman-redis")
        redis = {f"r-pointsman-redis.{namespace}.svc:6379": f"127.0.0.1:{node.ports['r-pointsman-redis/redis']}"}
        for pool in ("fast", "deep"):
            node.start("deployment", f"r-pointsman-simulated-{pool}", redis)
        node.start("deployment", "r-pointsman-router", redis)
        for container in ("admin", "ledger-writer", "router"):
            node.ready("r-pointsman-router", container)
        url = node.url("r-pointsman-router/http")
        wait_for(lambda: httpx.get(f"{url}/admin/v1/tenants").status_code == 401, "the admin API", seconds=PROBES)
        key = first_answer(cluster, notes, url)
        with httpx.Client(base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=30) as client:
            for mode, pool in (("think", "deep"), ("no_think", "fast")):
                answer = asked(client, mode)
                assert answer.status_code == 200, answer.text
                assert answer.headers[Header.POOL] == pool
        page = httpx.get(f"{node.url('r-pointsman-router/metrics')}/metrics").text
        answered = sample_sum(page, Metric.REQUESTS, tenant="me", status="200")
        assert answered == 3, "the one of the notes, and one in each mode"
        assert Metric.LEDGER_LAG in page  # the writer beside it counts into the same folder
        router = node.processes["r-pointsman-router/router"]
        assert router.stop() == 0
        assert node.processes["r-pointsman-router/admin"].stop() == 0
        assert node.processes["r-pointsman-router/ledger-writer"].stop() == 0
        assert key not in "".join(process.output() for process in node.processes.values())
    state = folder / "r-pointsman-router/data"
    assert (state / "data/pointsman.db").exists()
    assert list((state / "spool").iterdir()) == []  # all of it is in the database


def test_an_upgrade_keeps_secrets_and_data_and_an_uninstall_leaves_what_it_says(
    cluster: Cluster, namespace: str, helm: Helm
) -> None:
    assert EARLIER, "no earlier release is stored"
    before = everything(cluster, namespace)
    helm.release("install", DEV, WITHOUT_JOB, chart=EARLIER[0])
    kept = {
        name: cluster.get("secret", name, namespace=namespace)["data"]
        for name in ("r-pointsman", "r-pointsman-redis")
    }
    volume = cluster.get("pvc", "r-pointsman-data", namespace=namespace)["metadata"]["uid"]
    helm.release("upgrade", DEV, WITHOUT_JOB)
    helm.release("upgrade", DEV, {**WITHOUT_JOB, "router": {"config": {"max_body_bytes": 1048576}}})
    for name, data in kept.items():
        assert cluster.get("secret", name, namespace=namespace)["data"] == data
    assert cluster.get("pvc", "r-pointsman-data", namespace=namespace)["metadata"]["uid"] == volume
    config = cluster.get("configmap", "r-pointsman-config", namespace=namespace)["data"]["config.yaml"]
    assert yaml.safe_load(config)["router"]["max_body_bytes"] == 1048576
    assert any(namespace in name for name in of_the_cluster(cluster))
    helm("uninstall", "r", "--wait")
    assert everything(cluster, namespace) - before == {"PersistentVolumeClaim/r-pointsman-data"}
    assert not [name for name in of_the_cluster(cluster) if namespace in name]
    helm.release("install", DEV, WITHOUT_JOB)  # and takes the volume up again
    assert cluster.get("pvc", "r-pointsman-data", namespace=namespace)["metadata"]["uid"] == volume
    helm("uninstall", "r", "--wait")


def test_production_profiles_are_what_the_neighbours_take(
    cluster: Cluster, namespace: str, helm: Helm, tmp_path: Path
) -> None:
    refused = helm.release("install", MULTI_TENANT, WITHOUT_JOB, check=False)
    assert "there is no Secret pointsman-database" in refused.stderr
    secret(cluster, namespace, "pointsman-database", uri="postgresql+psycopg://u:p@h/n")
    refused = helm.release("install", MULTI_TENANT, WITHOUT_JOB, check=False)
    assert "the Secret pointsman-database has no key url" in refused.stderr
    cluster.kubectl("delete", "secret", "pointsman-database", "-n", namespace)
    secret(cluster, namespace, "pointsman-database", url="postgresql+psycopg://u:p@h/n")
    secret(cluster, namespace, "pointsman-redis-url", url="rediss://:p@h:6380/0")
    with cluster.namespace("team") as team, cluster.namespace("stranger") as stranger:
        helm.release("install", MULTI_TENANT, {**WITHOUT_JOB, "operator": {"namespaces": [team]}})
        assert {"HTTPRoute/r-pointsman", "ScaledObject/r-pointsman-router", "PodMonitor/r-pointsman"} <= everything(
            cluster, namespace
        )
        account = f"system:serviceaccount:{namespace}:r-pointsman-operator"
        allowed = functools.partial(may, cluster, account)
        assert allowed("patch", "pointsman.dev", "tenants/status", team)
        assert allowed("create", "ray.io", "rayservices", team)
        assert allowed("update", "coordination.k8s.io", "leases", namespace, name="pointsman-operator")
        for verb, group, what in [
            ("get", "", "secrets"),
            ("list", "pointsman.dev", "tenants"),
            ("create", "ray.io", "rayservices"),
        ]:
            assert allowed(verb, group, what, team)
            assert not allowed(verb, group, what, stranger)
        for verb, group, what in [
            ("delete", "pointsman.dev", "tenants"),
            ("create", "", "pods/exec"),
            ("create", "rbac.authorization.k8s.io", "rolebindings"),
            ("get", "", "nodes"),
        ]:
            assert not allowed(verb, group, what, team)
        assert not allowed("update", "coordination.k8s.io", "leases", namespace, name="another")
        assert not allowed(
            "get", "", "secrets", namespace
        )  # the release's own: what it needs is in its environment
        helm.release("upgrade", H100, {**WITHOUT_JOB, "redis": {"existingSecret": ""}})
        assert "HorizontalPodAutoscaler/r-pointsman-router" in everything(cluster, namespace)
        helm("uninstall", "r", "--wait")
    by_hand = {"Secret/pointsman-database", "Secret/pointsman-redis-url"}
    # Kubernetes deletes a StatefulSet's volumes as it says since 1.27.
    assert everything(cluster, namespace) - ({REDIS_VOLUME} if helm.old else set()) == by_hand


def test_the_hook_brings_the_crds_to_this_release_with_its_own_rights_alone(
    cluster: Cluster, namespace: str, helm: Helm, tmp_path: Path
) -> None:
    names = [f"{kind}.pointsman.dev" for kind in ("modelpools", "modepolicies", "tenants")]
    with JobRunner(cluster, namespace, tmp_path) as jobs:
        helm.release("install", DEV, {})
    assert [(arguments, status) for arguments, status, _ in jobs.ran] == [(["operator", "crds", "--apply"], 0)]
    for name in names:
        found = cluster.get("crd", name)
        assert any(
            item["type"] == "Established" and item["status"] == "True" for item in found["status"]["conditions"]
        )
    left = [name for name in everything(cluster, namespace) if "crds" in name]
    assert left == []
    assert not [name for name in of_the_cluster(cluster) if f"crds-{namespace}" in name]
    # An older one is brought up to date by the next upgrade.
    column = [{"op": "remove", "path": "/spec/versions/0/additionalPrinterColumns/0"}]
    cluster.kubectl("patch", "crd", names[0], "--type=json", "-p", json.dumps(column))
    with JobRunner(cluster, namespace, tmp_path) as jobs:
        helm.release("upgrade", DEV, {})
    assert [status for _, status, _ in jobs.ran] == [0]
    after = cluster.get("crd", names[0])["spec"]["versions"][0]["additionalPrinterColumns"]
    assert after == found_columns(cluster, names[0])
    helm("uninstall", "r", "--wait")


def found_columns(cluster: Cluster, name: str) -> Any:
    """The columns as the chart's own file has them."""
    return yaml.safe_load((CHART / "crds" / f"{name}.yaml").read_text())["spec"]["versions"][0][
        "additionalPrinterColumns"
    ]
