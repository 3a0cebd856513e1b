"""What stands beside the RayServices of a pool: its Secret, its PodDisruptionBudget, its NetworkPolicy.

Pure. All belong to the ModelPool, so that Kubernetes deletes them with it.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64encode

from pointsman.contracts.names import Env
from pointsman.operators.cluster import SECRETS, Object, Resource
from pointsman.operators.documents import ModelPoolObject
from pointsman.operators.ray_service import (
    POOL_LABEL,
    REPLICA_PORTS,
    ROLE_LABEL,
    SECRET_KEYS,
    Counts,
    labels,
    owner,
    secret_name,
    short_name,
)

BUDGETS = Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")
NETWORK_POLICIES = Resource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy")

_KUBERAY = {"app.kubernetes.io/name": "kuberay-operator"}
"""Labels of KubeRay's own pods, which ask the head for the state of applications."""

_DASHBOARD_PORT = 8265


def secret(pool: ModelPoolObject, replica_secret: str, redis_url: str) -> Object:
    """What replicas are given to answer routers alone, and to register."""
    values = {Env.REPLICA_SECRET: replica_secret, Env.REDIS_URL: redis_url}
    return {
        "apiVersion": "v1",
        "kind": SECRETS.kind,
        "metadata": _metadata(pool, secret_name(pool.meta)),
        "type": "Opaque",
        "data": {SECRET_KEYS[variable]: b64encode(value.encode()).decode() for variable, value in values.items()},
    }


def digest(replica_secret: str, redis_url: str) -> str:
    """
    Stands for the content of the Secret where everybody may read it: another content is another version.

    Keyed with the replica secret, which is too long to be guessed, so that nothing about a password can be tried.
    """
    return hmac.new(replica_secret.encode(), redis_url.encode(), hashlib.sha256).hexdigest()[:16]


def disruption_budget(pool: ModelPoolObject, counts: Counts) -> Object | None:
    """
    How many pods of replicas may be evicted at a time; None where all may, as nothing could be evicted else.

    In numbers that must stay, since a budget of what may be missing works for few kinds of owners of pods.
    """
    staying = counts.least * pool.pool.nodes - pool.deployment.max_unavailable
    if staying <= 0:
        return None
    return {
        "apiVersion": BUDGETS.api_version,
        "kind": BUDGETS.kind,
        "metadata": _metadata(pool, budget_name(pool)),
        "spec": {
            "minAvailable": staying,
            "selector": {"matchLabels": {POOL_LABEL: pool.name, ROLE_LABEL: "replica"}},
        },
    }


def budget_name(pool: ModelPoolObject) -> str:
    """The name of the pool's PodDisruptionBudget, and of its NetworkPolicy."""
    return short_name(pool.meta.name, 50)


def network_policy(pool: ModelPoolObject, *, release: str, namespace: str) -> Object:
    """
    Who reaches the pods of the pool: routers of `release` in `namespace` the ports of replicas, pods of the pool
    each other, and KubeRay the head. Nobody else; what they reach themselves is left to the cluster.
    """
    own = {"matchLabels": {POOL_LABEL: pool.name}}
    routers = {
        "app.kubernetes.io/name": "pointsman",
        "app.kubernetes.io/component": "router",
        "app.kubernetes.io/instance": release,
    }
    first, last = REPLICA_PORTS
    return {
        "apiVersion": NETWORK_POLICIES.api_version,
        "kind": NETWORK_POLICIES.kind,
        "metadata": _metadata(pool, budget_name(pool)),
        "spec": {
            "podSelector": own,
            "policyTypes": ["Ingress"],
            "ingress": [
                {"from": [{"podSelector": own}]},
                {
                    "from": [
                        {
                            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                            "podSelector": {"matchLabels": routers},
                        }
                    ],
                    "ports": [{"protocol": "TCP", "port": port} for port in range(first, last + 1)],
                },
                {
                    "from": [{"namespaceSelector": {}, "podSelector": {"matchLabels": _KUBERAY}}],
                    "ports": [{"protocol": "TCP", "port": _DASHBOARD_PORT}],
                },
            ],
        },
    }


def _metadata(pool: ModelPoolObject, name: str) -> Object:
    return {
        "name": name,
        "namespace": pool.meta.namespace,
        "labels": labels(pool),
        "ownerReferences": [owner(pool)],
    }
