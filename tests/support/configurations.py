"""Any configuration that the schema accepts, drawn from the schema itself; and pools that break its rules, too."""

from __future__ import annotations

from functools import cache
from typing import Any

from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from pointsman.contracts.config import Candidate, Config, Pool, Router, Tenant
from pointsman.contracts.policies import Policy
from pointsman.operators.spelling import model_of_field

Plain = dict[str, Any]

texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20)
# No larger floats: JSON written in Go has them as whole numbers, with other digits beyond the sixteenth.
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e15, 1e15) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
names = st.from_regex(r"[a-z0-9]([a-z0-9._-]{0,10}[a-z0-9])?", fullmatch=True)
digests = st.from_regex(r"[0-9a-f]{64}", fullmatch=True)


@cache
def any_of(model: type[BaseModel]) -> st.SearchStrategy[Plain]:
    """Plain values that `model` accepts; most optional fields are left out."""
    schema = model.model_json_schema()
    required, optional = {}, {}
    for name, node in schema["properties"].items():
        kind = required if name in schema.get("required", ()) else optional
        kind[name] = _values(node, schema.get("$defs", {}), model_of_field(model, name))
    some = st.sets(st.sampled_from(sorted(optional)), max_size=5) if optional else st.just(frozenset())
    drawn = some.flatmap(lambda chosen: st.fixed_dictionaries(required | {name: optional[name] for name in chosen}))
    return drawn if model is Pool else drawn.filter(lambda value: is_valid(model, value))


SHAPES: tuple[Plain, ...] = (
    {"engine": "simulated", "modes": ["think"], "thinking_budget": 200, "replicas": 3},
    {"engine": "simulated", "modes": ["no_think", "think"], "family": "qwen3", "autoscaling": {"max_replicas": 4}},
    {"engine": "sglang", "modes": ["no_think"], "model_path": "/models/m", "capabilities": {"context": 65536}},
    {
        "engine": "sglang",
        "modes": ["think"],
        "model_path": "Org/Model",
        "chat_template": "builtin:think",
        "reasoning_parser": "pointsman",
        "gpu": {"type": "H200", "per_node": 8},
        "nodes": 2,
        "tensor_parallel": 16,
    },
    {"engine": "vllm", "modes": ["think"], "urls": ["http://a:1", "http://[::1]:80/"], "family": "deepseek"},
)
"""What a pool may be, by the fields that go together."""

_TOGETHER = {name for shape in SHAPES for name in shape} | {
    *("pipeline_parallel", "default_max_tokens", "template_opens_thinking", "engine_args", "name", "model")
}


@st.composite
def pools(draw: st.DrawFn) -> Plain:
    """Any pool that has one of the shapes above; everything else in it is drawn."""
    shape = draw(st.sampled_from(SHAPES))
    drawn = {name: value for name, value in draw(any_of(Pool)).items() if name not in _TOGETHER}
    if "urls" not in shape:
        drawn["engine_args"] = draw(st.dictionaries(texts, json_values, max_size=3))
    return drawn | shape


NAMED = {"name": "pool", "model": "model"}


def is_valid(model: type[BaseModel], value: Any) -> bool:
    try:
        model.model_validate(value)
    except ValidationError:
        return False
    return True


def _values(node: Plain, definitions: Plain, model: type[BaseModel] | None) -> st.SearchStrategy[Any]:
    match node:
        case {"$ref": reference}:
            name = reference.rpartition("/")[2]
            return (
                any_of(model)
                if model and model.__name__ == name
                else _values(definitions[name], definitions, model)
            )
        case {"anyOf": [{"type": "number", "maximum": most}, {"type": "string"}, *_]}:
            return st.decimals(0, most, places=9, allow_nan=False) | st.integers(0, most)
        case {"anyOf": [*kinds]}:
            return st.one_of(_values(kind, definitions, model) for kind in kinds if kind.get("type") != "null")
        case {"enum": choices}:
            return st.sampled_from(choices)
        case {"type": "array", "prefixItems": items}:
            return st.tuples(*(_values(item, definitions, model) for item in items)).map(list)
        case {"type": "array", "items": items}:
            return st.lists(_values(items, definitions, model), min_size=node.get("minItems", 0), max_size=3)
        case {"type": "object", "additionalProperties": {"type": "string"}}:
            return st.dictionaries(texts, texts, max_size=2)
        case {"type": "object"}:
            return st.dictionaries(texts, json_values, max_size=3)
        case {"type": "string", "pattern": pattern}:
            return st.from_regex(pattern, fullmatch=True).filter(lambda text: len(text) <= 64 and text.isascii())
        case {"type": "string"}:
            return texts
        case {"type": "integer", "minimum": least, "maximum": most}:
            return st.integers(least, most)
        case {"type": "number"}:
            above = "exclusiveMinimum" in node
            least = node["exclusiveMinimum"] if above else node["minimum"]
            return st.floats(least, node["maximum"], exclude_min=above)
        case {"type": "boolean"}:
            return st.booleans()
    raise AssertionError(node)


@st.composite
def configurations(draw: st.DrawFn) -> Config:
    """Any configuration, with a model of its own for each pool, so that prices need not agree."""
    fleet = [
        draw(pools().filter(lambda pool: is_valid(Pool, pool | NAMED))) | {"name": name, "model": f"model-{number}"}
        for number, name in enumerate(draw(st.lists(names, min_size=1, max_size=3, unique=True)))
    ]
    tenants = []
    for number, name in enumerate(draw(st.lists(names, max_size=3, unique=True))):
        tenant = draw(any_of(Tenant)) | {"name": name, "models": None, "key_digests": [f"{number:064x}"]}
        tenants.append(tenant | {"policy": draw(any_of(Policy)), "candidate": draw(st.none() | any_of(Candidate))})
    router = draw(any_of(Router)) | {"admin_key_digests": [f"{99:064x}"]}
    database = draw(st.none() | st.just("postgresql+psycopg://me:secret@db/pointsman"))
    whole = {"pools": fleet, "tenants": tenants, "router": router, "database": database}
    return Config.model_validate(whole)


DOUBTS: dict[str, list[Any]] = {
    "modes": [["think"], ["no_think"], ["think", "no_think"]],
    "engine": ["sglang", "simulated", "vllm", "openai"],
    "family": ["plain", "qwen3", "deepseek", "kimi_k2", "gpt_oss", "glm", "kat"],
    "model_path": ["/models/m", "local:"],
    "urls": [["http://a:1"], ["HTTP://[::1]:80/", "http://b"], ["https://a"], ["http://a/v1"], ["http://me@a"]],
    "engine_args": [{"mem_fraction_static": 0.8}, {"tp_size": 2}, {"host": "a"}],
    "chat_template": ["builtin:think", "builtin:"],
    "template_opens_thinking": [True, False],
    "reasoning_parser": ["pointsman"],
    "tool_call_parser": ["qwen"],
    "thinking_budget": [100, 10_000],
    "default_max_tokens": [10_000],
    "capabilities": [{"context": 20_000}, {"tools": True}, {"tools_warning": "Beware."}, {"remote_images": True}],
    "tensor_parallel": [8],
    "nodes": [2],
    "gpu": [{"type": "H100", "per_node": 1}, {"type": "H100", "per_node": 8}],
    "autoscaling": [{"min_replicas": 0, "max_replicas": 2}, {"min_replicas": 3, "max_replicas": 2}],
}
"""Values that are fine by themselves, and with others perhaps not."""


@st.composite
def doubtful_pools(draw: st.DrawFn) -> Plain:
    """A pool all of whose fields are in their bounds, and whose rules hold or not."""
    changed = draw(st.sets(st.sampled_from(sorted(DOUBTS)), min_size=1, max_size=4))
    doubts = {name: draw(st.sampled_from(DOUBTS[name])) for name in sorted(changed)}
    return {"model": "m", "prices": {"input": 1, "output": 2}} | draw(st.sampled_from(SHAPES)) | doubts
