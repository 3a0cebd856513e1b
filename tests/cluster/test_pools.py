"""ModelPools on a real API server: what people write is what routers serve, and the status says how that stands."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest

from support.control_plane import Cluster, neighbours
from support.convergence import Convergence
from support.gateway import Gateway, wait_for
from support.kuberay import KubeRay
from support.operators import CRDS, Operator, install_account
from support.pool_stage import Load, Stage, chat

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def stage(fork_server: None, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    if not neighbours():
        pytest.skip("KubeRay's CRDs are not beside the control plane")
    cluster.install_crds(*CRDS)
    folder = tmp_path_factory.mktemp("pl")
    with (
        cluster.namespace("pools") as namespace,
        Gateway(folder, pools=()) as gateway,
        KubeRay(cluster, namespace, folder, gateway.redis_url, _fails) as kuberay,
    ):
        install_account(cluster, namespace)
        with Operator(cluster, namespace, gateway, folder) as operator:
            operator.until_leading()
            yield Stage(cluster, namespace, gateway, kuberay, operator)


def _fails(args: dict[str, Any]) -> str | None:
    return "no such folder: /models/missing" if args["pool"]["model_path"] == "/models/missing" else None


def test_a_pool_comes_answers_changes_and_goes(stage: Stage) -> None:
    stage.apply("chat")
    stage.until_ready("chat")
    assert stage.ask("chat").json()["choices"][0]["message"]["content"]
    status = stage.status("chat")
    assert status["observedGeneration"] == stage.pool("chat")["metadata"]["generation"]
    assert status["replicas"] == 2
    assert stage.services("chat") == [f"chat-{status['revision']}"]
    budget = stage.cluster.get("poddisruptionbudget", "chat", namespace=stage.namespace)
    assert budget["spec"]["minAvailable"] == 1
    assert stage.cluster.get("networkpolicy", "chat", namespace=stage.namespace)

    stage.apply("chat", replicas=3, prices={"input": "0.03", "output": "0.09"})
    stage.until_ready("chat", 3)
    assert stage.status("chat")["revision"] == status["revision"], "nothing is restarted for that"

    with stage.gateway.client() as client:
        slow = {**chat("chat"), "stream": True, "max_tokens": 400}
        with client.stream("POST", "/v1/chat/completions", json=slow) as answer:
            lines = answer.iter_lines()
            next(lines)
            stage.cluster.kubectl("delete", "modelpool", "chat", "-n", stage.namespace, "--wait=false")
            assert list(lines)[-2:].count("data: [DONE]") == 1, "a running answer is finished"
    stage.until(lambda: not stage.pool("chat"), "the pool to go")
    stage.until(lambda: not stage.services("chat"), "its RayService to go")
    stage.until(lambda: stage.kuberay.running() == {}, "its replicas to go")
    stage.until(
        lambda: not stage.cluster.list("secret", "-l", "pointsman.dev/pool=chat", namespace=stage.namespace),
        "its Secret to go",
    )
    assert stage.ask("chat").status_code == 404
    assert {"VersionStarted", "Draining"} <= stage.events("chat")


def test_a_better_version_takes_over_and_a_worse_one_goes_back(stage: Stage) -> None:
    stage.apply("canary")
    stage.until_ready("canary")
    first = stage.status("canary")["revision"]
    with Load(stage.gateway, "canary") as load:
        stage.apply("canary", modelPath="/models/two")
        stage.until(lambda: stage.status("canary").get("revision") != first, "the new version to take over")
        second = stage.status("canary")["revision"]
        stage.until_ready("canary")
        stage.until(lambda: stage.services("canary") == [f"canary-{second}"], "the old version to go")
        assert load.failed() == 0, "nobody notices"

        stage.kuberay.faults["/models/bad"] = ["error=1.0"]
        stage.apply("canary", modelPath="/models/bad")
        stage.until(lambda: bool(stage.status("canary").get("failedRevision")), "the bad version to go back")
    status = stage.status("canary")
    assert status["revision"] == second
    assert "requests failed" in status["failedMessage"]
    assert stage.condition("canary", "Progressing")["reason"] == "RolledBack"
    stage.until(lambda: stage.services("canary") == [f"canary-{second}"], "the bad version to be gone")
    assert {"UpgradeStarted", "Upgraded", "RolledBack"} <= stage.events("canary")

    stage.apply("canary", modelPath="/models/missing")
    stage.until(
        lambda: "no such folder" in stage.status("canary").get("failedMessage", ""), "Ray's own word for it"
    )
    assert stage.ask("canary").status_code == 200
    stage.delete("canary")


def test_what_others_change_is_changed_back(stage: Stage) -> None:
    stage.apply("drift", replicas=1)
    stage.until_ready("drift", 1)
    (service,) = stage.services("drift")
    patch = json.dumps({"spec": {"rayClusterConfig": {"rayVersion": "1.0.0"}, "serveConfigV2": "{}"}})
    stage.kuberay.stopped = True
    stage.cluster.kubectl("patch", "rayservice", service, "-n", stage.namespace, "--type=merge", "-p", patch)

    def repaired() -> bool:
        spec = stage.cluster.get("rayservice", service, namespace=stage.namespace)["spec"]
        return bool(spec["rayClusterConfig"]["rayVersion"] != "1.0.0" and "build_pool" in spec["serveConfigV2"])

    stage.until(repaired, "the RayService to be as it was")
    stage.kuberay.stopped = False
    stage.until(lambda: "DriftRepaired" in stage.events("drift"), "an Event that says so")
    stage.cluster.kubectl("delete", "rayservice", service, "-n", stage.namespace, "--wait=false")
    stage.until(lambda: stage.services("drift") == [service], "the RayService to be there again")
    stage.until_ready("drift", 1)

    annotate = ("annotate", "modelpool", "drift", "-n", stage.namespace)
    stage.cluster.kubectl(*annotate, "pointsman.dev/paused=true")
    stage.until(lambda: stage.status("drift").get("phase") == "Paused", "the pool to be paused")
    stage.apply("drift", replicas=2)
    stage.cluster.kubectl("delete", "modelpool", "drift", "-n", stage.namespace, "--wait=false")
    stage.until(
        lambda: bool(stage.pool("drift")["metadata"].get("deletionTimestamp")), "the deletion to be asked for"
    )
    assert stage.kuberay.running()[service] == 1
    assert stage.ask("drift").status_code == 200, "a paused pool is not even deleted"
    stage.cluster.kubectl(*annotate, "pointsman.dev/paused-")
    stage.until(lambda: not stage.pool("drift"), "the pool to go after all")


def test_pools_that_cannot_be_say_why(stage: Stage) -> None:
    stage.apply("named", replicas=1)
    stage.until_ready("named", 1)
    stage.apply("other", name="named", replicas=1)
    stage.until(lambda: stage.condition("other", "Accepted").get("reason") == "NameTaken", "the name to be taken")
    stage.apply("dear", model="named", prices={"input": "9", "output": "9"})
    stage.until(
        lambda: stage.condition("dear", "Accepted").get("reason") == "Refused", "another price to be refused"
    )
    assert "spec.prices" in stage.condition("dear", "Accepted")["message"]
    assert stage.services("other") == []
    assert stage.ask("named").status_code == 200

    engine = stage.kuberay.replica_url(stage.services("named")[0])
    stage.apply("outside", engine="openai", modelPath=None, urls=[engine], replicas=1, engineArgs=None)
    stage.until(lambda: stage.status("outside").get("phase") == "Ready", "a pool outside to be known")
    assert stage.status("outside")["endpoint"] == engine
    assert stage.services("outside") == []

    stage.apply("asleep", replicas=0)
    stage.until(lambda: stage.status("asleep").get("phase") == "Sleeping", "a pool without replicas to sleep")
    stage.apply("scaled", replicas=None, autoscaling={"minReplicas": 0, "maxReplicas": 2})
    stage.until(lambda: stage.status("scaled").get("phase") == "Sleeping", "a scaled pool to begin asleep")
    (service,) = stage.services("scaled")  # which KubeRay's own definition has taken whole
    written = stage.cluster.get("rayservice", service, namespace=stage.namespace)["spec"]
    assert written["rayClusterConfig"]["autoscalerOptions"]["version"] == "v2"
    (application,) = json.loads(written["serveConfigV2"])["applications"]
    assert application["deployments"][0]["autoscaling_config"]["min_replicas"] == 0
    for name in ("other", "dear", "outside", "asleep", "scaled", "named"):
        stage.delete(name)
    answer = httpx.get(
        f"{stage.gateway.url}/admin/v1/pools", headers={"authorization": f"Bearer {stage.gateway.admin_key}"}
    )
    assert not {"other", "dear", "outside", "asleep", "scaled", "named"} & {
        each["pool"] for each in answer.json()["data"]
    }


@pytest.mark.long
def test_killed_at_any_moment_it_goes_on_where_it_was(stage: Stage, tmp_path: Path) -> None:
    """SIGKILL again and again while pools come, change and go; a second operator waits, and takes over."""
    random = Random(7)
    operator = stage.operator
    names = [f"storm{number}" for number in range(4)]
    for turn in range(5):
        for name in names:
            stage.apply(name, replicas=1, modelPath=f"/models/{turn % 2}", upgrade={"shares": [], "hold": 1.0})
        time.sleep(random.uniform(0.2, 2.5))
        operator.kill()
        if turn == 2:
            stage.cluster.kubectl("delete", "modelpool", names.pop(), "-n", stage.namespace, "--wait=false")
        operator.start()
    convergence = Convergence()
    for name in names:
        stage.until_ready(name, 1)
        stage.until(lambda name=name: len(stage.services(name)) == 1, f"one version of {name} to be left")  # type: ignore[misc]
    stage.until(lambda: not stage.pool("storm3"), "the deleted pool to go")
    print(f"after five SIGKILLs {convergence.seconds():.1f} s")
    assert not convergence.late()
    pools = [each["metadata"]["name"] for each in stage.cluster.list("rayservice", namespace=stage.namespace)]
    assert len(pools) == len(names), "no orphan"

    with Operator(stage.cluster, stage.namespace, stage.gateway, tmp_path, identity="operator-2") as second:
        wait_for(lambda: second.state() == "waiting", "the second operator to wait", second.process)
        stage.apply(names[0], replicas=2, modelPath="/models/0", upgrade={"shares": [], "hold": 1.0})
        stage.until_ready(names[0], 2)
        assert second.state() == "waiting"
        operator.kill()
        second.until_leading()
        for name in names:
            stage.cluster.kubectl("delete", "modelpool", name, "-n", stage.namespace, "--timeout=60s")
        assert second.process.stop() == 0
    operator.start()
    operator.until_leading()
    assert "Traceback" not in operator.log()
