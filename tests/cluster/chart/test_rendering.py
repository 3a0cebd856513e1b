"""What the chart renders, without a cluster: valid for each Kubernetes it is meant for, as closed as it says."""

from __future__ import annotations

import functools
import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from helm_python import Chart, HelmError, lint
from typer.testing import CliRunner

from pointsman.cli.main import app
from pointsman.contracts.config_file import load_config
from pointsman.contracts.names import Env
from support.charts import (
    CHART,
    DEFAULTS,
    DEV,
    H100,
    MULTI_TENANT,
    PROFILES,
    Document,
    check_valid,
    containers,
    merged,
    of_kind,
    pods,
    profile_file,
    profile_values,
    rendered,
    secret_values,
    the,
)

OLDEST, NEWEST = "1.29", kubernetes_validate.latest_version().rpartition(".")[0]
NEIGHBOURS = {"monitoring.coreos.com", "gateway.networking.k8s.io", "keda.sh"}
"""Groups of kinds that `kubernetes_validate` does not know; `test_release.py` shows them to a real API server."""
OPTIONS: dict[str, Document] = {
    "ordinary containers": {"router": {"nativeSidecars": False}},
    "everything of your own": {
        "secrets": {"existingSecret": "mine"},
        "config": {"existingConfigMap": "mine"},
        "database": {"existingSecret": "mine"},
        "redis": {"existingSecret": "mine", "key": "redis"},
        "image": {"registry": "registry.local", "pullSecrets": ["mine"]},
    },
    "without an operator": {"operator": {"enabled": False}, "crds": {"upgrade": False}},
    "ingress and TLS": {
        "ingress": {"enabled": True, "className": "nginx", "tlsSecret": "mine", "annotations": {"a/b": "c"}},
        "router": {"tls": {"existingSecret": "mine"}},
    },
    "a console": {
        "console": {"enabled": True, "replicas": 2, "ingress": {"enabled": True, "tlsSecret": "theirs"}},
        "networkPolicy": {"clients": [{"podSelector": {}}], "consoleClients": [{"podSelector": {}}]},
        "router": {"tls": {"existingSecret": "mine"}},
    },
    "a console with a Redis of your own": {"console": {"enabled": True}, "redis": {"existingSecret": "mine"}},
    "a network that is open": {"networkPolicy": {"enabled": False}, "router": {"pdb": {"enabled": False}}},
    "pools outside": {"networkPolicy": {"externalPools": [{"ipBlock": {"cidr": "10.1.0.0/16"}}]}},
    "requests in flight": {
        "database": {"existingSecret": "mine"},
        "router": {"autoscaling": {"enabled": True, "inFlightPerPod": 200}},
    },
}


def cases() -> list[Any]:
    by_profile = [pytest.param(profile, {}, id=profile) for profile in PROFILES]
    return by_profile + [pytest.param(DEFAULTS, values, id=name) for name, values in OPTIONS.items()]


@pytest.mark.parametrize(("profile", "values"), cases())
def test_every_document_is_valid_and_every_pod_is_closed(profile: str, values: Document) -> None:
    documents = rendered(profile, values)
    for document in documents:
        group = document["apiVersion"].partition("/")[0]
        for version in (OLDEST, NEWEST):
            if group not in NEIGHBOURS:
                check_valid(document, version)
    names = [(item["kind"], item["metadata"].get("namespace"), item["metadata"]["name"]) for item in documents]
    assert len(set(names)) == len(names)
    for name, spec in pods(documents):
        assert spec["securityContext"].items() >= {"runAsNonRoot": True, "runAsUser": 10001}.items(), name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        asks = spec["containers"][0]["name"] in ("operator", "crds")
        assert spec["automountServiceAccountToken"] is asks, name
    for name, container in containers(documents):
        closed = container["securityContext"]
        assert closed["readOnlyRootFilesystem"] is True, name
        assert closed["allowPrivilegeEscalation"] is False, name
        assert closed["capabilities"] == {"drop": ["ALL"]}, name
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}, name
        assert "memory" in container["resources"]["limits"], name


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_helm_finds_nothing_to_warn_of(profile: str, version: str) -> None:
    found = lint(CHART, profile_values(profile), strict=True, kube_version=f"{version}.0")
    complaints = [message for message in found["messages"] if "icon is recommended" not in str(message)]
    assert complaints == []


@functools.cache
def complaint(*arguments: str) -> str:
    """What `pointsman` says of arguments that it does not know; help is asked for, and given once all are known."""
    done = CliRunner().invoke(app, [*arguments, "--help"])
    return "" if done.exit_code == 0 else done.stderr


@pytest.mark.parametrize(("profile", "values"), cases())
def test_every_process_understands_its_arguments(profile: str, values: Document) -> None:
    ours = {value for key, value in vars(Env).items() if not key.startswith("_")}
    seen = set()
    for name, container in containers(rendered(profile, values)):
        words = [*container.get("command", ()), *container.get("args", ())]
        if words[0] == "pointsman" and tuple(words) not in seen:
            seen.add(tuple(words))
            assert not complaint(*words[1:]), name
            told = {entry["name"] for entry in container.get("env", ())}
            assert {entry for entry in told if entry.startswith("POINTSMAN_")} <= ours, name
    assert len(seen) >= 3


def test_the_configuration_is_one_that_processes_read(tmp_path: Path) -> None:
    for profile in PROFILES:
        values = {"router": {"tls": {"existingSecret": "mine"}, "config": {"max_body_bytes": 1048576}}}
        file = tmp_path / "config.yaml"
        file.write_text(the(rendered(profile, values), "ConfigMap", "-config")["data"]["config.yaml"])
        if profile in (H100, MULTI_TENANT):  # pools come later, as objects
            assert "pools: []" in file.read_text()
        config = load_config(file)
        chosen = merged(profile_values(DEFAULTS), profile_values(profile)).get("router", {})
        assert config.router.drain_timeout == chosen.get("drainSeconds", 300)
        assert config.router.max_body_bytes == 1048576
        assert config.router.tls is not None


def test_a_pod_that_stops_has_time_to_drain_and_to_send_its_last_entries() -> None:
    for profile in PROFILES:
        documents = rendered(profile)
        spec = the(documents, "Deployment", "-router")["spec"]["template"]["spec"]
        drain = yaml.safe_load(the(documents, "ConfigMap", "-config")["data"]["config.yaml"])["router"][
            "drain_timeout"
        ]
        router = spec["containers"][0]
        assert spec["terminationGracePeriodSeconds"] > drain + int(
            router["lifecycle"]["preStop"]["exec"]["command"][1]
        )
        # What outlives the router, so that models, metrics and the ledger answer until its end.
        assert {each["name"] for each in spec["initContainers"]} >= {"admin"}
        assert all(each["restartPolicy"] == "Always" for each in spec["initContainers"])
        # Counters are in files that are named by process ids.
        assert spec["shareProcessNamespace"] is True


def test_sqlite_keeps_its_file_its_spool_and_its_writer_with_the_one_router() -> None:
    documents = rendered(DEFAULTS)
    router = the(documents, "Deployment", "-router")
    assert router["spec"]["strategy"] == {"type": "Recreate"}
    assert router["spec"]["replicas"] == 1
    found = {name.rpartition("/")[2]: container for name, container in containers([router])}
    assert found.keys() == {"router", "admin", "ledger-writer"}
    for container in found.values():
        data = {
            mount["mountPath"]: mount.get("subPath")
            for mount in container["volumeMounts"]
            if mount["name"] == "data"
        }
        assert data == {"/var/lib/pointsman/data": "data", "/var/lib/pointsman/spool": "spool"}
    assert the(documents, "PersistentVolumeClaim")["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert of_kind(rendered(H100), "PersistentVolumeClaim") == []
    the(rendered(H100), "Deployment", "-ledger-writer")


def test_secrets_are_made_whole_and_appear_nowhere_else() -> None:
    documents = rendered(DEFAULTS)
    held = secret_values(documents)
    own, redis = held["r-pointsman"], held["r-pointsman-redis"]
    assert re.fullmatch(r"pk-\w{49}", own["admin-key"])
    assert own["admin-key-digest"] == hashlib.sha256(own["admin-key"].encode()).hexdigest()
    assert redis["url"] == f"redis://:{redis['password']}@r-pointsman-redis.spaces.svc:6379/0"
    others = yaml.safe_dump([item for item in documents if item["kind"] != "Secret"])
    for value in (own["admin-key"], own["replica-secret"], redis["password"]):
        assert len(value) >= 48
        assert value not in others
    assert secret_values(rendered(DEFAULTS))["r-pointsman"]["replica-secret"] != own["replica-secret"]


@pytest.mark.parametrize("profile", PROFILES)
def test_the_network_lets_only_routers_to_redis_and_only_the_named_to_routers(profile: str) -> None:
    policies = {item["metadata"]["name"]: item["spec"] for item in of_kind(rendered(profile), "NetworkPolicy")}
    closed = policies["r-pointsman-default"]
    assert closed["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in closed
    assert [port["port"] for rule in closed["egress"] for port in rule["ports"]] == [53, 53]
    selected = {"app.kubernetes.io/name": "pointsman", "app.kubernetes.io/instance": "r"}
    assert closed["podSelector"] == {"matchLabels": selected}
    if profile != MULTI_TENANT:
        (rule,) = policies["r-pointsman-redis"]["ingress"]
        peers = [peer["podSelector"]["matchLabels"].get("app.kubernetes.io/component") for peer in rule["from"]]
        assert set(peers) == {"router", "ledger-writer", "simulated", None}
    else:
        clients = policies["r-pointsman-router"]["ingress"][0]["from"]
        assert {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "gateways"}}} in clients
    to_pools = next(
        rule
        for rule in policies["r-pointsman-router"]["egress"]
        if {"port": 30000, "endPort": 31000} in rule.get("ports", ())
    )
    assert to_pools["to"][0]["podSelector"]["matchExpressions"] == [
        {"key": "pointsman.dev/pool", "operator": "Exists"}
    ]


def test_the_console_reaches_redis_and_routers_and_holds_no_secret_of_theirs() -> None:
    documents = rendered(DEFAULTS, OPTIONS["a console"])
    policies = {item["metadata"]["name"]: item["spec"] for item in of_kind(documents, "NetworkPolicy")}

    def component(peer: Document) -> str | None:
        return peer["podSelector"].get("matchLabels", {}).get("app.kubernetes.io/component")

    console = policies["r-pointsman-console"]
    assert [component(peer) for rule in console["egress"] for peer in rule["to"]] == ["redis", "router"]
    assert console["ingress"][0]["from"] == [{"podSelector": {}}]
    for name in ("r-pointsman-redis", "r-pointsman-router"):
        assert "console" in map(component, policies[name]["ingress"][0]["from"])
    (spec,) = (spec for name, spec in pods(documents) if spec["containers"][0]["name"] == "console")
    (container,) = spec["containers"]
    assert {entry["name"] for entry in container["env"]} == {"POINTSMAN_REDIS_URL", "POINTSMAN_LOG_FORMAT"}
    assert "--url=https://r-pointsman-admin:8080" in container["args"]
    (mounted,) = (volume["secret"] for volume in spec["volumes"] if "secret" in volume)
    assert mounted["items"] == [{"key": "tls.crt", "path": "tls.crt"}]
    (ingress,) = of_kind(documents, "Ingress", "-console")
    assert ingress["spec"]["tls"] == [{"hosts": ["console.pointsman.example.com"], "secretName": "theirs"}]
    assert not of_kind(rendered(DEFAULTS), "Deployment", "-console")


def test_the_operator_may_not_read_more_than_it_is_told_to() -> None:
    whole, some = rendered(DEFAULTS), rendered(MULTI_TENANT)
    rules = the(whole, "ClusterRole", "-operator-spaces")["rules"]
    for item in of_kind(some, "Role", "-operator"):
        assert item["rules"] == rules
    assert [item["metadata"]["namespace"] for item in of_kind(some, "Role", "-operator")] == ["team-a", "team-b"]
    assert [item["metadata"]["name"] for item in of_kind(some, "ClusterRole")] == ["r-pointsman-crds-spaces"]
    for rule in rules:
        assert "*" not in (*rule["apiGroups"], *rule["resources"], *rule["verbs"])
        assert not {"escalate", "bind", "impersonate"} & set(rule["verbs"])


def undocumented(text: str) -> list[str]:
    """Lines of `text` that set a value, have no comment above them, and hold no further, documented values."""
    lines = text.splitlines()
    missing = []
    for number, line in enumerate(lines):
        if not (match := re.match(r"( *)[\w]+:(.*)$", line)) or lines[number - 1].lstrip().startswith("#"):
            continue
        below = next((each for each in lines[number + 1 :] if each.strip()), "")
        indent = len(match[1])
        opens = not match[2].strip() and len(below) - len(below.lstrip()) > indent
        inside = any(  # an example or a default below a documented value
            re.match(r" *[\w]+: *$", above) and lines[at - 1].lstrip().startswith("#")
            for at, above in enumerate(lines[:number])
            if len(above) - len(above.lstrip()) < indent
            and all(
                len(x) - len(x.lstrip()) > len(above) - len(above.lstrip())
                for x in lines[at + 1 : number]
                if x.strip()
            )
        )
        if not opens and not inside:
            missing.append(line)
    return missing


def test_every_value_is_documented_and_has_a_type() -> None:
    assert undocumented((CHART / "values.yaml").read_text()) == []
    schema = json.loads((CHART / "values.schema.json").read_text())

    def compare(values: Document, described: Document, path: str) -> None:
        if "properties" not in described or described.get("additionalProperties", True) is not False:
            return
        assert values.keys() == described["properties"].keys() - ({"global"} if not path else set()), path
        for name, value in values.items():
            if isinstance(value, dict):
                compare(value, described["properties"][name], f"{path}.{name}")

    values = yaml.safe_load((CHART / "values.yaml").read_text())
    for name in ("requests", "limits"):  # free, and checked by the API server
        assert name in values["router"]["resources"]
    strip(values)
    compare(values, schema, "")
    for profile in PROFILES:
        with Chart.load(CHART) as chart:
            chart.validate_schema(yaml.safe_load(profile_file(profile).read_text()))


def strip(values: Document) -> None:
    """Leave out what holds Kubernetes' own fields."""
    for name, value in list(values.items()):
        if name in ("resources", "adminResources"):
            values[name] = None
        elif isinstance(value, dict):
            strip(value)


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        pytest.param({"router": {"replica": 3}}, "replica", id="a misspelled value"),
        pytest.param({"router": {"replicas": "3"}}, "replicas", id="text for a number"),
        pytest.param({"image": {"router": {"digest": "sha256:abc"}}}, "digest", id="half a digest"),
        pytest.param({"router": {"replicas": 2}}, "database.existingSecret", id="SQLite for two routers"),
        pytest.param({"router": {"keda": {"enabled": True}}}, "database.existingSecret", id="SQLite and KEDA"),
        pytest.param(
            {
                "database": {"existingSecret": "x"},
                "router": {"keda": {"enabled": True}, "autoscaling": {"enabled": True}},
            },
            "both enabled",
            id="two that scale",
        ),
        pytest.param({"gateway": {"enabled": True}}, "gateway.parentRefs", id="a route to nowhere"),
        pytest.param(
            {"config": {"existingConfigMap": "x"}, "router": {"config": {"max_body_bytes": 1}}},
            "would not be heeded",
            id="two configurations",
        ),
        pytest.param(
            {
                "development": {
                    "simulatedPools": [
                        {"name": "p", "model": "m", "modes": ["think"], "engine": "sglang", "prices": {}}
                    ]
                }
            },
            "applied after the release",
            id="a pool in the release",
        ),
    ],
)
def test_values_that_cannot_work_are_refused_by_name(values: Document, complaint: str) -> None:
    with pytest.raises(HelmError, match=re.escape(complaint)):
        rendered(DEFAULTS, values)


def test_one_simulated_replica_for_each_pool_of_the_development_profile() -> None:
    documents = rendered(DEV)
    engines = [item for item in of_kind(documents, "Deployment") if "-simulated-" in item["metadata"]["name"]]
    assert {item["metadata"]["name"] for item in engines} == {
        "r-pointsman-simulated-fast",
        "r-pointsman-simulated-deep",
    }


def test_rules_and_dashboards_are_the_files_as_they_are() -> None:
    documents = rendered(H100)
    rules = {item["metadata"]["name"]: item["spec"] for item in of_kind(documents, "PrometheusRule")}
    files = sorted((CHART / "files/prometheus").glob("*.yaml"))
    assert rules == {f"r-pointsman-{file.stem}": yaml.safe_load(file.read_text()) for file in files}
    dashboards = {name: text for item in of_kind(documents, "ConfigMap") for name, text in item["data"].items()}
    files = {file.name: json.loads(file.read_text()) for file in (CHART / "files/grafana").glob("*.json")}
    tenants = files.pop("tenant.json")
    assert {name: json.loads(dashboards[name]) for name in dashboards if name in files} == files != {}
    assert not any(tenants["title"] in text for text in dashboards.values())


def test_a_tenant_that_is_named_gets_a_dashboard_of_its_own() -> None:
    named = {"monitoring": {"dashboards": {"enabled": True, "tenants": ["acme", "a.b_c"], "datasource": "mimir"}}}
    maps = [item for item in of_kind(rendered(H100, named), "ConfigMap") if "-tenant-" in item["metadata"]["name"]]
    boards = {board["title"]: board for item in maps for board in map(json.loads, item["data"].values())}
    assert boards.keys() == {"Pointsman / acme", "Pointsman / a.b_c"}
    assert len({board["uid"] for board in boards.values()}) == 2
    acme = json.dumps(boards["Pointsman / acme"])
    assert "__" not in re.sub(r"\$__(rate_interval|range)|__auto", "", acme)
    assert "a.b_c" not in acme
    assert {item["metadata"]["labels"]["grafana_dashboard"] for item in maps} == {"1"}
    sources = {
        target["datasource"]["uid"]
        for panel in boards["Pointsman / acme"]["panels"]
        for target in panel.get("targets", ())
    }
    assert sources == {"mimir"}


def test_the_chart_around_it_brings_kuberay_where_that_is_wanted(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    shutil.copytree(CHART.with_name("pointsman-with-kuberay"), whole)
    shutil.copytree(CHART, whole / "charts/pointsman")
    wanted = {item["name"]: item for item in yaml.safe_load((whole / "Chart.yaml").read_text())["dependencies"]}
    assert wanted["pointsman"]["version"] == yaml.safe_load((CHART / "Chart.yaml").read_text())["version"]
    kuberay = whole / "charts/kuberay-operator"  # a stand-in for the chart that Helm would fetch
    (kuberay / "templates").mkdir(parents=True)
    version = wanted["kuberay-operator"]["version"]
    (kuberay / "Chart.yaml").write_text(f"{{apiVersion: v2, name: kuberay-operator, version: {version}}}")
    (kuberay / "templates/it.yaml").write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: kuberay}\n")
    with Chart.load(whole) as chart:
        both = chart.render({}, name="pointsman")
        alone = chart.render({"kuberay-operator": {"enabled": False}}, name="pointsman")
    assert set(both) - set(alone) == {"pointsman-with-kuberay/charts/kuberay-operator/templates/it.yaml"}
    assert "pointsman-router" in alone["pointsman-with-kuberay/charts/pointsman/templates/router/deployment.yaml"]
