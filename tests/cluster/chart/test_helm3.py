"""
Helm 3 makes of the chart what Helm 4 makes of it, for the oldest and the newest Kubernetes.

All but its hooks, which the program that brings Helm 3 leaves out.
"""

from __future__ import annotations

import json
from typing import Any

import kubernetes_validate
import pytest
import yaml

from support.charts import CHART, PROFILES, Document, check_valid, profile_file, rendered
from support.helm3 import helm3

VERSIONS = ("1.29", kubernetes_validate.latest_version().rpartition(".")[0])
NEIGHBOURS = {"monitoring.coreos.com", "gateway.networking.k8s.io", "keda.sh"}
"""Groups of kinds that `kubernetes_validate` does not know."""


@pytest.mark.parametrize("profile", PROFILES)
def test_helm_3_renders_what_helm_4_renders(profile: str) -> None:
    where = {"release_name": "r", "chart": str(CHART), "namespace": "spaces"}
    chosen = {**where, "values_files": [str(profile_file(profile))]}
    texts = helm3(*(("helm_template", {**chosen, "kube_version": f"{version}.0"}) for version in VERSIONS))
    for version, text in zip(VERSIONS, texts, strict=True):
        documents = [each for each in yaml.safe_load_all(text) if each]
        assert named(documents) == named([each for each in rendered(profile) if not is_hook(each)]) != {}
        for document in documents:
            if document["apiVersion"].partition("/")[0] not in NEIGHBOURS:
                check_valid(document, version)


def test_helm_3_finds_nothing_to_warn_of() -> None:
    chart: dict[str, Any] = {"paths": [str(CHART)], "strict": True}
    calls = [("helm_lint", {**chart, "values_files": [str(profile_file(profile))]}) for profile in PROFILES]
    for said in helm3(*calls):
        found = json.loads(said)
        assert found["passed"]
        assert [each["message"] for each in found["messages"]] == ["icon is recommended"]


def is_hook(document: Document) -> bool:
    return "helm.sh/hook" in document["metadata"].get("annotations", {})


def named(documents: list[Document]) -> dict[tuple[str, str | None, str], Any]:
    """Documents by kind, namespace and name; of a Secret, whose values are made anew each time, its keys alone."""
    found = {}
    for item in documents:
        metadata = item["metadata"]
        content = {**item, "data": sorted(item["data"])} if item["kind"] == "Secret" else item
        found[item["kind"], metadata.get("namespace"), metadata["name"]] = plain(content)
    return found


def plain(value: Any) -> Any:
    """`value` without what is worked out of values that are made anew each time."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items() if not key.startswith("checksum/")}
    return [plain(each) for each in value] if isinstance(value, list) else value
