"""The cluster's API as the operator uses it: plain objects in and out, over the official client's transport.

Beside kopf, which watches objects and calls handlers but offers no public way to read or write others. The official
client brings addresses, certificates and tokens that are renewed; its generated models stay unused: they cost tens
of megabytes, know no custom resources, and drop fields that are newer than they are.

What is wrong with a Secret is told by its kind alone: no text of the server's about one leaves here.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self
from urllib.parse import quote, urlencode

import aiohttp
import orjson
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.client.rest import RESTClientObject
from kubernetes.aio.config import load_incluster_config, load_kube_config

from pointsman.operators.kinds import FIELD_MANAGER

TIMEOUT = 30.0
"""Seconds that one answer may take."""

PAGE = 500
"""Objects read at a time."""

_METADATA = "application/json;as=PartialObjectMetadata{};g=meta.k8s.io;v=v1"

Object = dict[str, Any]
"""An object as the API server tells it."""


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind of object, by where the API server keeps it. `group` is empty for Kubernetes' own core kinds."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """As objects say it in `apiVersion`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None, name: str | None = None, sub: str | None = None) -> str:
        """The path of one object, of all in a namespace, or of all; `sub`: of its subresource, such as `status`."""
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        if namespace is not None and self.namespaced:
            parts += ["namespaces", namespace]
        parts += [self.plural, *(part for part in (name, sub) if part is not None)]
        return "/" + "/".join(quote(part, safe="") for part in parts)


SECRETS = Resource("", "v1", "secrets", "Secret")
EVENTS = Resource("", "v1", "events", "Event")


class ClusterError(Exception):
    """
    The API server refused; `status` is HTTP's, 0 where it was not reached; `reason` one of Kubernetes' words;
    `about`: the name of the object that it speaks of, None where it is of none, as of a kind that is not there.
    """

    def __init__(self, status: int, reason: str, message: str, about: str | None = None) -> None:
        super().__init__(message)
        self.about = about
        self.status = status
        self.reason = reason


class NotFound(ClusterError):
    """There is no such object, or no such kind."""


class Conflict(ClusterError):
    """There is an object of this name already, or it was changed since it was read."""


class Gone(ClusterError):
    """The API server remembers no changes that long ago: list anew."""


class ClusterUnreachable(ClusterError):
    """The API server did not answer, or can't for now: try again later."""


_ERRORS: Mapping[int, type[ClusterError]] = {404: NotFound, 409: Conflict, 410: Gone}


class Cluster:
    """The API server. Every method raises `ClusterError`; safe to share between tasks of one event loop."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._rest = RESTClientObject(configuration)

    @classmethod
    async def connect(cls, kubeconfig: str | None = None) -> Self:
        """The cluster of `kubeconfig`, else of this pod, else of the user's own configuration."""
        configuration = Configuration()
        configuration.connection_pool_maxsize = 64
        if kubeconfig is None and os.environ.get("KUBERNETES_SERVICE_HOST") and not os.environ.get("KUBECONFIG"):
            load_incluster_config(client_configuration=configuration)
        else:
            await load_kube_config(config_file=kubeconfig, client_configuration=configuration)
        return cls(configuration)

    async def close(self) -> None:
        """Close all connections."""
        await self._rest.close()

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Object:
        """One object."""
        return await self._ask("GET", resource, resource.path(namespace, name))

    async def pages(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        labels: str = "",
        metadata_only: bool = False,
    ) -> AsyncIterator[Object]:
        """
        All objects, or those of a namespace with `labels` (a selector), in lists of at most `PAGE` under `items`.

        `metadata_only`: without what is in them. Raises `Gone` where the list changed too much while it was read.
        """
        following = ""
        while True:
            query = {"limit": str(PAGE), "labelSelector": labels, "continue": following}
            accept = _METADATA.format("List") if metadata_only else None
            page = await self._ask("GET", resource, resource.path(namespace), query=query, accept=accept)
            page["items"] = page.get("items") or []  # an empty list of metadata alone says null
            yield page
            following = page.get("metadata", {}).get("continue") or ""
            if not following:
                return

    async def create(self, resource: Resource, document: Object) -> Object:
        """A new object. Raises `Conflict` where there is one of its name."""
        path = resource.path(document["metadata"].get("namespace"))
        return await self._ask("POST", resource, path, query={"fieldManager": FIELD_MANAGER}, body=document)

    async def apply(self, resource: Resource, document: Object, *, sub: str | None = None) -> Object:
        """Server-side apply of `document`, whose fields are the operator's then; the object as it is now."""
        metadata = document["metadata"]
        return await self._ask(
            "PATCH",
            resource,
            resource.path(metadata.get("namespace"), metadata["name"], sub),
            query={"fieldManager": FIELD_MANAGER, "force": "true"},
            body=document,
            content_type="application/apply-patch+yaml",
        )

    async def merge(
        self, resource: Resource, namespace: str | None, name: str, patch: Object, *, sub: str | None = None
    ) -> Object:
        """
        A merge patch of an object or its `sub`; the object as it is then.

        Raises `Conflict` where `patch` names a `resourceVersion` that is not the object's any more.
        """
        return await self._ask(
            "PATCH",
            resource,
            resource.path(namespace, name, sub),
            query={"fieldManager": FIELD_MANAGER},
            body=patch,
            content_type="application/merge-patch+json",
        )

    async def delete(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        *,
        uid: str | None = None,
        resource_version: str | None = None,
    ) -> None:
        """
        Delete an object, and in the background what it owns.

        Raises `Conflict` where it is another one by now than `uid` or `resource_version` say.
        """
        told = {"uid": uid, "resourceVersion": resource_version}
        body: Object = {"propagationPolicy": "Background"}
        if preconditions := {key: value for key, value in told.items() if value is not None}:
            body["preconditions"] = preconditions
        await self._ask("DELETE", resource, resource.path(namespace, name), body=body)

    async def watch(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        resource_version: str,
        labels: str = "",
        metadata_only: bool = False,
        seconds: int = 300,
    ) -> AsyncIterator[tuple[str, Object]]:
        """
        What changes after `resource_version`, as pairs of `ADDED`, `MODIFIED`, `DELETED` or `BOOKMARK` and object.

        Ends after `seconds` at most, or when the API server says so. Raises `Gone` where that version is too old.
        """
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "labelSelector": labels,
            "timeoutSeconds": str(seconds),
        }
        accept = _METADATA.format("") if metadata_only else None
        timeout = aiohttp.ClientTimeout(sock_read=seconds + 30)
        response = await self._send("GET", resource.path(namespace), query, None, accept, None, timeout)
        try:
            if response.status >= 400:
                raise _error(resource, response.status, await response.read())
            async for line in response.content:
                told = orjson.loads(line)
                if told["type"] == "ERROR":
                    raise _error(resource, told["object"].get("code", 500), orjson.dumps(told["object"]))
                yield told["type"], told["object"]
        except (aiohttp.ClientError, TimeoutError, orjson.JSONDecodeError) as error:
            raise ClusterUnreachable(0, "Unreachable", type(error).__name__) from None
        finally:
            response.close()

    async def event(self, about: Object, reason: str, message: str, *, warning: bool = False) -> None:
        """
        Tell whoever looks at the object `about` (its kind, and its metadata) what happened; the same again is
        counted. Never raises: that nobody can be told is no reason to stop.
        """
        metadata = about["metadata"]
        namespace = metadata.get("namespace") or "default"
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        kind = "Warning" if warning else "Normal"
        mark = hashlib.sha256("\0".join((metadata["uid"], kind, reason, message)).encode()).hexdigest()[:16]
        name = f"{metadata['name'][:200]}.{mark}"
        involved = {
            "apiVersion": about["apiVersion"],
            "kind": about["kind"],
            "name": metadata["name"],
            "namespace": metadata.get("namespace"),
            "uid": metadata["uid"],
        }
        document = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": involved,
            "reason": reason,
            "message": message[:1000],
            "type": kind,
            "source": {"component": FIELD_MANAGER},
            "reportingComponent": FIELD_MANAGER,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        try:
            try:
                await self.create(EVENTS, document)
            except Conflict:
                there = await self.get(EVENTS, namespace, name)
                again = {"count": there.get("count", 1) + 1, "lastTimestamp": now}
                await self.merge(EVENTS, namespace, name, again)
        except ClusterError:
            return

    async def _ask(
        self,
        method: str,
        resource: Resource,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        accept: str | None = None,
        content_type: str | None = None,
    ) -> Object:
        timeout = aiohttp.ClientTimeout(total=TIMEOUT)
        response = await self._send(method, path, query or {}, body, accept, content_type, timeout)
        try:
            read = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ClusterUnreachable(0, "Unreachable", type(error).__name__) from None
        finally:
            response.release()
        if response.status >= 400:
            raise _error(resource, response.status, read)
        answer: Object = orjson.loads(read)
        return answer

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Any,
        accept: str | None,
        content_type: str | None,
        timeout: aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:
        headers = {"Accept": accept or "application/json", "User-Agent": FIELD_MANAGER}
        if content_type is not None:
            headers["Content-Type"] = content_type
        for setting in (await self._configuration.auth_settings()).values():
            headers[setting["key"]] = setting["value"]
        asked = urlencode({key: value for key, value in query.items() if value})
        url = f"{self._configuration.host}{path}{'?' + asked if asked else ''}"
        try:
            response = await self._rest.request(method, url, headers=headers, body=body, _request_timeout=timeout)
        except (aiohttp.ClientError, TimeoutError, asyncio.IncompleteReadError) as error:
            raise ClusterUnreachable(0, "Unreachable", type(error).__name__) from None
        answered: aiohttp.ClientResponse = response.response
        return answered


def _error(resource: Resource, status: int, body: bytes) -> ClusterError:
    """The error that the API server tells in `body`."""
    try:
        told = orjson.loads(body)
        reason, message = str(told.get("reason") or status), str(told.get("message") or status)
        about = (told.get("details") or {}).get("name")
    except (ValueError, AttributeError):
        reason, message, about = str(status), f"HTTP {status}", None
    if resource == SECRETS:
        message = f"the API server refuses: {reason}"
    if status == 429 or status >= 500:
        return ClusterUnreachable(status, reason, message)
    return _ERRORS.get(status, ClusterError)(status, reason, message, about)
