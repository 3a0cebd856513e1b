"""A configuration file as Kubernetes objects, and back: nothing that a file can say is lost on the way.

Pools, policies and tenants become objects of our kinds; what is left (the router's limits, the predictor) a
ConfigMap, and the database's URL, which may hold a password, a Secret: what the chart mounts and reads. Pure: plain
values in and out.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from pointsman.contracts.config import BUILTIN_PREFIX, LOCAL_PREFIX, Config, Pool, Tenant
from pointsman.contracts.config_file import ConfigError, dump_yaml
from pointsman.contracts.config_problems import Problem, explain
from pointsman.contracts.config_yaml import read_yaml
from pointsman.contracts.policies import PolicyDocument
from pointsman.operators.bounds import beyond
from pointsman.operators.deployment import OBJECT_NAME_PATTERN
from pointsman.operators.documents import (
    API_VERSION,
    InvalidObject,
    ModelPoolObject,
    ModePolicyObject,
    TenantObject,
)
from pointsman.operators.kinds import Kind
from pointsman.operators.spelling import to_camel

REST = "pointsman-config"
"""Name of the ConfigMap with what no object of ours holds; in its entry `config.yaml`."""

REST_ENTRY = "config.yaml"

DATABASE = "pointsman-database"
"""Name of the Secret with the database's URL; in its entry `url`."""

DATABASE_ENTRY = "url"

LONGEST_FILE = 64 * 1024 * 1024
"""Bytes of objects that are read at most: the API server writes every default, and who changed which field."""

_LONGEST_NAME = 200
"""Characters of an object's name that is made of another one: room for a number behind it."""


def objects_of(config: Config, *, namespace: str | None = None) -> list[dict[str, Any]]:
    """The objects that say what `config` says, in an order in which they can be applied."""
    found = [
        *_rest(config),
        *(
            _object(ModelPoolObject.KIND, name, pool.name, _spelled(Pool, pool, leave={"name"}))
            for pool, name in _named(config.pools)
        ),
    ]
    tenants = list(_named(config.tenants))
    for tenant, name in tenants:
        if document := _document(tenant):
            found.append(_object(ModePolicyObject.KIND, name, name, document))
    for tenant, name in tenants:
        spec = _spelled(Tenant, tenant, leave={"name", "policy", "candidate"})
        if _document(tenant):
            spec["policyRef"] = {"name": name}
        found.append(_object(TenantObject.KIND, name, tenant.name, spec))
    if namespace is not None:
        for one in found:
            one["metadata"]["namespace"] = namespace
    return found


def notes_on(config: Config) -> Iterator[str]:
    """What the objects of `config` name, and a cluster has to have; and what of them it won't take."""
    for position, pool in enumerate(config.pools):
        template, weights, pools = pool.chat_template, pool.model_path, f"pools[{position}]"
        if template and not template.startswith(BUILTIN_PREFIX):
            yield f"{pools}.chat_template: {template} has to be in the image or on a volume"
        if weights and weights.startswith("/"):
            yield f"{pools}.model_path: {weights} has to be in the image, or on the volume of `deployment.weights`"
        if weights and weights.startswith(LOCAL_PREFIX):
            yield f"{pools}.model_path: {weights} is prepared by `pointsman up` alone: name weights of your own"
    if config.predictor:
        yield f"predictor: {config.predictor} has to be in the routers' image, or on a volume of theirs"
    yield from beyond(objects_of(config))


def config_of(objects: Iterable[Mapping[str, Any]], *, source: str) -> tuple[Config, list[str]]:
    """
    The configuration that `objects` say together, and what of them a configuration can't hold.

    Raises `ConfigError`, naming `source`, with all that is wrong.
    """
    gathered = _Gathered()
    for body in objects:
        gathered.take(body)
    whole = gathered.config()
    if gathered.problems:
        raise ConfigError(source, gathered.problems)
    try:
        config = Config.model_validate(whole)
    except ValidationError as error:
        raise ConfigError(source, [Problem.at(*found) for found in explain(error)]) from None
    return config, gathered.notes


class _Gathered:
    """What was read so far."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.notes: list[str] = []
        self._rest: dict[str, Any] = {}
        self._pools: list[ModelPoolObject] = []
        self._policies: dict[tuple[str, str], PolicyDocument] = {}
        self._tenants: list[TenantObject] = []

    def take(self, body: Mapping[str, Any]) -> None:
        """Add one object, or each of a list of them."""
        if body.get("kind") == "List" or isinstance(body.get("items"), list):
            for item in body.get("items") or ():
                self.take(item)
            return
        if not isinstance(body, Mapping) or not isinstance(body.get("metadata"), Mapping):
            self.problems.append(Problem("", "an object is a mapping with `kind` and `metadata`"))
            return
        name = body["metadata"].get("name")
        what = f"{body.get('kind')} {name}"
        try:
            self._read(body, what, name)
        except InvalidObject as error:
            self.problems += [Problem(f"{what}: {problem.path}", problem.message) for problem in error.problems]
        except ConfigError as error:
            self.problems += [Problem(f"{what}: {problem.path}", problem.message) for problem in error.problems]

    def _read(self, body: Mapping[str, Any], what: str, name: str) -> None:
        ours = body.get("apiVersion") == API_VERSION
        match body.get("kind"):
            case "ModelPool" if ours:
                pool = ModelPoolObject.read(body)
                self._pools.append(pool)
                for part, value in (("deployment", pool.deployment), ("upgrade", pool.upgrade)):
                    self._left_out(what, part, value)
            case "ModePolicy" if ours:
                policy = ModePolicyObject.read(body)
                self._policies[policy.meta.namespace, policy.meta.name] = policy.document
            case "Tenant" if ours:
                tenant = TenantObject.read(body)
                self._tenants.append(tenant)
                if tenant.keys:
                    self.notes.append(f"{what}: spec.keys is a cluster's alone and left out")
            case "ConfigMap" if name == REST and REST_ENTRY in _entries(body, "data"):
                self._rest |= read_yaml(str(_entries(body, "data")[REST_ENTRY]), source=what)[1]
            case "Secret" if name == DATABASE and DATABASE_ENTRY in _entries(body, "stringData"):
                self._rest["database"] = _entries(body, "stringData")[DATABASE_ENTRY]
            case "Secret" if name == DATABASE and DATABASE_ENTRY in _entries(body, "data"):
                self._rest["database"] = base64.b64decode(_entries(body, "data")[DATABASE_ENTRY]).decode()
            case _:
                self.notes.append(f"{what} is left out: it is no part of a configuration")

    def _left_out(self, what: str, part: str, value: BaseModel) -> None:
        for field in to_camel(type(value), value.model_dump(exclude_defaults=True)):
            self.notes.append(f"{what}: spec.{part}.{field} is a cluster's alone and left out")

    def config(self) -> dict[str, Any]:
        """All of it as a configuration; a policy that is missing is a problem."""
        tenants = []
        referred = {(one.meta.namespace, one.policy_ref.name) for one in self._tenants if one.policy_ref}
        for _, unused in sorted(self._policies.keys() - referred):
            self.notes.append(f"ModePolicy {unused} is left out: no Tenant refers to it")
        for one in self._tenants:
            found = one.tenant.model_dump(exclude_unset=True)
            if one.policy_ref is not None:
                document = self._policies.get((one.meta.namespace, one.policy_ref.name))
                if document is None:
                    said = f"there is no ModePolicy {one.policy_ref.name} among the objects"
                    self.problems.append(Problem(f"Tenant {one.meta.name}: spec.policyRef.name", said))
                else:
                    found |= document.model_dump(exclude_unset=True)
            tenants.append(found)
        pools = [one.pool.model_dump(exclude_unset=True) for one in self._pools]
        return {**self._rest, "pools": pools, "tenants": tenants}


def _entries(body: Mapping[str, Any], field: str) -> Mapping[str, Any]:
    found = body.get(field)
    return found if isinstance(found, Mapping) else {}


def dump_objects(objects: Iterable[Mapping[str, Any]]) -> str:
    """`objects` as YAML that every reader takes for the same values, kubectl's as well as Python's."""
    return "".join(
        f"---\n{yaml.dump(one, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)}" for one in objects
    )


def _rest(config: Config) -> Iterator[dict[str, Any]]:
    rest = config.model_dump(mode="python", exclude_defaults=True, exclude={"pools", "tenants", "database"})
    if rest:
        yield {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": REST},
            "data": {REST_ENTRY: dump_yaml(rest)},
        }
    if config.database is not None:
        yield {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": DATABASE},
            "type": "Opaque",
            "stringData": {DATABASE_ENTRY: config.database},
        }


def _object(kind: Kind, name: str, platform_name: str, spec: dict[str, Any]) -> dict[str, Any]:
    own = {} if name == platform_name else {"name": platform_name}
    return {"apiVersion": API_VERSION, "kind": kind.name, "metadata": {"name": name}, "spec": {**own, **spec}}


def _document(tenant: Tenant) -> dict[str, Any]:
    """The spec of the tenant's ModePolicy; empty where all is at its default."""
    document = PolicyDocument(policy=tenant.policy, candidate=tenant.candidate)
    spelled = _spelled(PolicyDocument, document, leave=set())
    return {**spelled.pop("policy", {}), **spelled}


def _named(parts: Iterable[Any]) -> Iterator[tuple[Any, str]]:
    """Each pool or tenant with the name of its object: its own where that is possible, else one like it."""
    parts = list(parts)
    taken = {part.name for part in parts}
    for part in parts:
        name = part.name
        if not re.fullmatch(OBJECT_NAME_PATTERN, name):
            labels = (label.strip("-") for label in name.replace("_", "-")[:_LONGEST_NAME].split("."))
            like = name = ".".join(label for label in labels if label)
            number = 1
            while name in taken:
                number += 1
                name = f"{like}-{number}"
            taken.add(name)
        yield part, name


def _spelled(model: type[BaseModel], value: BaseModel, *, leave: set[str]) -> dict[str, Any]:
    plain = _plain(value.model_dump(mode="python", exclude_defaults=True, exclude=leave))
    spelled: dict[str, Any] = to_camel(model, plain)
    return spelled


def _plain(value: Any) -> Any:
    """`value` in the shapes that JSON has; dollars as text, which no reader rounds."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, Decimal):
        return format(abs(value), "f")
    return str(value) if isinstance(value, str) else value


class _Dumper(yaml.SafeDumper):
    """YAML without anchors, with quotes around every text that some reader could take for something else."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_PLAIN_TEXT = re.compile(r"[A-Za-z/][A-Za-z0-9 ./_-]*[A-Za-z0-9/_.-]|[A-Za-z]")
_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf"})


def _represent_text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    if "\n" in value and value.replace("\n", "").isprintable():
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|")
    plain = _PLAIN_TEXT.fullmatch(value) and value.lower() not in _WORDS
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=None if plain else '"')


_Dumper.add_representer(str, _represent_text)
