"""Tenants and ModePolicies of a namespace as a test makes and sees them, and their keys at a gateway."""

from __future__ import annotations

import base64
import json
import ssl
from typing import Any

import httpx
from kubernetes.client import Configuration
from kubernetes.config import load_kube_config

from pointsman.operators.kinds import API_VERSION, GROUP
from support.control_plane import Cluster
from support.gateway import Gateway, wait_for


def tenant(name: str, **spec: Any) -> dict[str, Any]:
    """A Tenant."""
    return {"apiVersion": API_VERSION, "kind": "Tenant", "metadata": {"name": name}, "spec": spec}


def mode_policy(name: str, **spec: Any) -> dict[str, Any]:
    """A ModePolicy."""
    return {"apiVersion": API_VERSION, "kind": "ModePolicy", "metadata": {"name": name}, "spec": spec}


class Watched:
    """The Tenants and Secrets of one namespace as a test makes and sees them; without kubectl, which is slow."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self._http = administrator(cluster)

    def apply(self, *documents: dict[str, Any]) -> None:
        """Server-side apply, one after the other."""
        for document in documents:
            kind, name = document["kind"].lower(), document["metadata"]["name"]
            self._http.patch(
                self._path(kind, name),
                params={"fieldManager": "a-person", "force": "true"},
                headers={"content-type": "application/apply-patch+yaml"},
                content=json.dumps(document),
            ).raise_for_status()

    def delete(self, kind: str, *names: str) -> None:
        for name in names:
            answer = self._http.delete(self._path(kind, name))
            assert answer.status_code in (200, 202, 404), answer.text

    def annotate(self, kind: str, name: str, **annotations: str | None) -> None:
        """Annotations of our group; None takes one away."""
        named = {f"{GROUP}/{key}": value for key, value in annotations.items()}
        self.merge(kind, name, {"metadata": {"annotations": named}})

    def merge(self, kind: str, name: str, patch: dict[str, Any]) -> None:
        headers = {"content-type": "application/merge-patch+json"}
        content = json.dumps(patch)
        self._http.patch(self._path(kind, name), headers=headers, content=content).raise_for_status()

    def get(self, kind: str, name: str) -> Any:
        """The object, or None."""
        answer = self._http.get(self._path(kind, name))
        return None if answer.status_code == 404 else answer.raise_for_status().json()

    def list(self, kind: str, **params: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (
            self._http.get(self._path(kind), params=params).raise_for_status().json()["items"]
        )
        return found

    def condition(self, name: str, kind: str = "Ready", *, of: str = "tenant") -> tuple[str, str, str]:
        """Status, reason and message of a condition; empty where it is not there, or of an older generation."""
        there = self.get(of, name) or {}
        for one in there.get("status", {}).get("conditions", ()):
            if one["type"] == kind and one["observedGeneration"] == there["metadata"]["generation"]:
                return one["status"], one["reason"], one["message"]
        return "", "", ""

    def becomes(self, name: str, status: str, reason: str, kind: str = "Ready", *, of: str = "tenant") -> str:
        """Wait until a condition is so, and return its message."""
        seen: list[tuple[str, str, str]] = []

        def so() -> bool:
            seen.append(self.condition(name, kind, of=of))
            return seen[-1][:2] == (status, reason)

        try:
            wait_for(so, f"{of} {name}: {kind} {status} {reason}")
        except AssertionError as error:
            raise AssertionError(f"{error}; last it was {seen[-1]}") from None
        return seen[-1][2]

    def key(self, secret: str) -> str:
        """The key in a Secret; empty where there is none."""
        data = (self.get("secret", secret) or {}).get("data") or {}
        return base64.b64decode(data.get("key", "")).decode()

    def everything(self) -> str:
        """Tenants, ModePolicies and events, as text: where no key may ever be."""
        return json.dumps([self.list(kind) for kind in ("tenant", "modepolicy", "event")])

    def _path(self, kind: str, name: str | None = None) -> str:
        base = "/api/v1" if kind in ("secret", "event") else f"/apis/{API_VERSION}"
        plural = {"modepolicy": "modepolicies"}.get(kind, f"{kind}s")
        return f"{base}/namespaces/{self.namespace}/{plural}" + (f"/{name}" if name else "")


def administrator(cluster: Cluster) -> httpx.Client:
    """A client of the API server with the credentials of the administrator's kubeconfig."""
    read = Configuration()
    load_kube_config(str(cluster.kubeconfig), client_configuration=read)
    context = ssl.create_default_context(cafile=read.ssl_ca_cert)
    if read.cert_file:
        context.load_cert_chain(read.cert_file, read.key_file)
    token = read.get_api_key_with_prefix("BearerToken", alias="authorization")
    headers = {"authorization": token} if token else {}
    return httpx.Client(base_url=read.host, verify=context, headers=headers, timeout=30)


def opens(gateway: Gateway, key: str) -> bool:
    """Whether a key opens the router."""
    headers = {"authorization": f"Bearer {key}"}
    return httpx.get(f"{gateway.url}/v1/models", headers=headers, timeout=30).status_code == 200
