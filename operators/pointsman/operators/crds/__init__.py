"""The definitions (CRDs) of the three kinds, made of the schemas that the operator reads objects with.

`definitions()` is all there is to know from outside; the files in the chart hold its output, and a test compares
the two.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml

from pointsman.operators.crds.rules import SAME_NAME, SHORT_NAME, Rule
from pointsman.operators.crds.schema import Schema, structural
from pointsman.operators.documents import (
    ModelPoolObject,
    ModelPoolStatus,
    ModePolicyObject,
    ModePolicyStatus,
    TenantObject,
    TenantStatus,
    spec_fields,
)
from pointsman.operators.kinds import GROUP, VERSION, Kind
from pointsman.operators.statuses import Status

DESCRIPTIONS = {
    "ModelPool": (
        "A group of equal replicas that answer one model in one mode, or in both: started on Ray by the operator, "
        "or reached by URL where somebody else runs them."
    ),
    "ModePolicy": (
        "How the modes of queries are chosen for the tenants that refer to it, and what their answers may cost."
    ),
    "Tenant": "Somebody who holds keys and gets a bill: what they may ask for, how fast, and for how much money.",
}

_AGE = ("Age", "date", ".metadata.creationTimestamp", 0, "Since when the object exists.")
_READY = ("Ready", "string", ".status.conditions[?(@.type=='Ready')].status", 0, "Whether all is as the spec says.")
_REASON = ("Reason", "string", ".status.conditions[?(@.type=='Ready')].reason", 1, "Why it is ready or not.")

COLUMNS = {
    "ModelPool": (
        ("Model", "string", ".spec.model", 0, "The model that clients ask for."),
        ("Modes", "string", ".spec.modes", 0, "The modes it answers."),
        ("Engine", "string", ".spec.engine", 1, "What answers."),
        ("Phase", "string", ".status.phase", 0, "How it is."),
        ("Wanted", "integer", ".status.replicas", 0, "Replicas that are wanted now."),
        ("Answering", "integer", ".status.readyReplicas", 0, "Replicas that answer."),
        ("GPUs", "integer", ".status.gpus", 0, "Accelerators of the wanted replicas."),
        ("USD/h", "string", ".status.hourlyUsd", 0, "US dollars an hour for them."),
        ("Revision", "string", ".status.revision", 1, "The version that answers."),
        ("Endpoint", "string", ".status.endpoint", 1, "Where routers find it."),
        _AGE,
    ),
    "ModePolicy": (
        ("Threshold", "number", ".spec.threshold", 0, "Probability from which on queries think."),
        ("Default", "string", ".spec.defaultMode", 0, "The mode where the predictor abstains."),
        ("Candidate", "string", ".spec.candidate.stage", 0, "How far a new policy has gone live."),
        ("Tenants", "integer", ".status.tenants", 0, "Tenants that it holds for."),
        _READY,
        _REASON,
        _AGE,
    ),
    "Tenant": (
        ("Policy", "string", ".spec.policyRef.name", 0, "Its ModePolicy."),
        ("Models", "string", ".spec.models", 1, "What it may ask for; empty: everything."),
        ("RPM", "integer", ".spec.limits.requestsPerMinute", 0, "Requests a minute at most."),
        ("TPM", "integer", ".spec.limits.tokensPerMinute", 1, "Tokens a minute at most."),
        ("Daily USD", "string", ".spec.budgets.daily.hardUsd", 1, "US dollars a day at most."),
        ("Monthly USD", "string", ".spec.budgets.monthly.hardUsd", 0, "US dollars a month at most."),
        _READY,
        _REASON,
        _AGE,
    ),
}
"""What `kubectl get` prints: name, type, path, 0 or 1 (with `-o wide` only), description."""

SCALE = {
    "specReplicasPath": ".spec.replicas",
    "statusReplicasPath": ".status.readyReplicas",
    "labelSelectorPath": ".status.selector",
}

_NAMED = (SAME_NAME,)
_MADE_OF: tuple[
    tuple[type[ModelPoolObject | ModePolicyObject | TenantObject], type[Status], tuple[Rule, ...]], ...
] = (
    (ModelPoolObject, ModelPoolStatus, _NAMED),
    (ModePolicyObject, ModePolicyStatus, ()),
    (TenantObject, TenantStatus, _NAMED),
)


def definitions() -> list[dict[str, Any]]:
    """The CustomResourceDefinitions, as plain values."""
    return [
        _definition(document.KIND, _spec(document, rules), _status(status)) for document, status, rules in _MADE_OF
    ]


def written(definition: dict[str, Any]) -> str:
    """A definition as YAML."""
    return yaml.dump(definition, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=114)


def _spec(of: type[ModelPoolObject | ModePolicyObject | TenantObject], rules: Iterable[Rule]) -> Schema:
    fields = spec_fields(of.PARTS)
    parts = [(part, [name for name, owner in fields.items() if owner is part]) for part in of.PARTS]
    return structural(parts, rules=rules)


def _status(model: type[Status]) -> Schema:
    return {"description": "How it is: written by the operator.", **structural([(model, model.model_fields)])}


def _definition(kind: Kind, spec: Schema, status: Schema) -> dict[str, Any]:
    schema: Schema = {
        "type": "object",
        "description": DESCRIPTIONS[kind.name],
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": {"description": "What it is to be.", **spec},
            "status": status,
        },
    }
    subresources: dict[str, Any] = {"status": {}}
    if "replicas" in spec["properties"]:
        subresources["scale"] = SCALE
    if "name" in spec["properties"]:
        schema["x-kubernetes-validations"] = [SHORT_NAME.written()]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": kind.crd_name, "labels": {"app.kubernetes.io/part-of": "pointsman"}},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind.name,
                "listKind": f"{kind.name}List",
                "plural": kind.plural,
                "singular": kind.singular,
                "shortNames": [kind.short],
                "categories": ["pointsman"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": subresources,
                    "additionalPrinterColumns": [
                        {
                            "name": name,
                            "type": shown,
                            "jsonPath": path,
                            **({"priority": priority} if priority else {}),
                            "description": description,
                        }
                        for name, shown, path, priority, description in COLUMNS[kind.name]
                    ],
                    "schema": {"openAPIV3Schema": schema},
                }
            ],
        },
    }


class _Dumper(yaml.SafeDumper):
    """YAML without anchors: rules of the same model stand in several places."""

    def ignore_aliases(self, data: Any) -> bool:
        return True
