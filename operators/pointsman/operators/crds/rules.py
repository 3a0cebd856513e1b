"""What the API server itself refuses: the rules between fields, in CEL, beside those in Python that they repeat.

A wrong object is refused when it is applied, by name of the field, and not minutes later by a condition. Names of
engines and families come from the same sets that the rules in Python read. Rules of a whole fleet (prices that
agree, models that exist) look at several objects: the admin API checks those.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from pointsman.contracts import config_pool_rules
from pointsman.contracts.config import (
    BUILTIN_PREFIX,
    LOCAL_PREFIX,
    STARTED_ENGINES,
    Autoscaling,
    Engine,
    Family,
    Pool,
    Tenant,
)
from pointsman.contracts.config_engines import (
    CONTINUING_ENGINES,
    FAMILIES_BY_BEGINNING,
    FAMILIES_CLOSED_BY_TEXT,
    FAMILIES_THAT_FORGET_THINKING,
    FAMILIES_WITH_OPENED_THINKING,
    FAMILIES_WITHOUT_SWITCH,
    OPENING_TEMPLATE,
    SGLANG_ARGS_BY_FIELD,
    SGLANG_ARGS_OF_OURS,
    SGLANG_ARGS_REFUSED,
)
from pointsman.contracts.config_types import DIGEST_PATTERN, PATTERN_MEANINGS
from pointsman.contracts.limits import Budget
from pointsman.contracts.modes import Mode
from pointsman.contracts.policies import Escalation, Match, Policy, Saturation, Trigger
from pointsman.contracts.policies import Rule as PolicyRule
from pointsman.operators.deployment import Toleration, TolerationOperator, Upgrade, WeightsVolume
from pointsman.operators.documents import TenantSettings
from pointsman.operators.spelling import camel
from pointsman.operators.statuses import Status

REQUIRED, FORBIDDEN, DUPLICATE = "FieldValueRequired", "FieldValueForbidden", "FieldValueDuplicate"


@dataclass(frozen=True, slots=True)
class Rule:
    """
    One rule: what must hold, what to say where it does not, and of which field.

    `field` is a path below the object that the rule is of; empty: that object itself. `of` is the rule in Python
    that this one repeats, where that is one of a pool's.
    """

    holds: str
    message: str
    field: str = ""
    reason: str | None = None
    of: Callable[..., Any] | None = None

    def written(self) -> dict[str, str]:
        """The rule as definitions spell it."""
        return {
            "rule": self.holds,
            "message": self.message,
            **({"fieldPath": f".{self.field}"} if self.field else {}),
            **({"reason": self.reason} if self.reason else {}),
        }


def _list(values: Collection[str]) -> str:
    return "[" + ", ".join(f"'{value}'" for value in sorted(values)) + "]"


def pattern_rule(pattern: str) -> Rule:
    """A text matches `pattern`, one of those that are put in words."""
    return Rule(f"self.matches('{pattern}')", PATTERN_MEANINGS[pattern])


def _digests(field: str) -> Rule:
    """
    The entries of `field` are digests: a rule of the object around them, since one of their own would have the API
    server repeat a key that was pasted by mistake.
    """
    return Rule(
        f"!has(self.{field}) || self.{field}.all(one, one.matches('{DIGEST_PATTERN}'))",
        PATTERN_MEANINGS[DIGEST_PATTERN],
        field,
    )


def key_rule(pattern: str) -> Rule:
    """Every key of a mapping matches `pattern`."""
    return Rule(f"self.all(key, key.matches('{pattern}'))", f"each name must match {pattern}")


def money_rule(most: int) -> Rule:
    """Dollars: a whole number, or a text with at most nine decimals, which no API server rounds."""
    spelled = r"^[0-9]{1,7}([.][0-9]{1,9})?$"
    return Rule(
        f"type(self) == int ? self >= 0 && self <= {most} : self.matches('{spelled}') && double(self) <= {most}.0",
        f"must be US dollars from 0 to {most}, as text with at most nine decimals (`'0.60'`) or as a whole number",
    )


LONGEST_LISTS: dict[tuple[type[BaseModel], str], int] = {
    (Match, "models"): 64,
    (Match, "endpoints"): 16,
    (Match, "keys"): 128,
    (Match, "languages"): 64,
    (Escalation, "triggers"): len(Trigger),
    (Pool, "modes"): len(Mode),
    (Status, "conditions"): 32,
}
"""Entries at most of lists inside lists: what their rules cost the API server is bounded by that."""

LONGEST_ENTRIES: dict[tuple[type[BaseModel], str], int] = {(Pool, "urls"): 320}
"""Characters at most of each entry of a list, where the configuration has no bound: as above."""

SETS_AND_MAPS: dict[tuple[type[BaseModel], str], dict[str, Any]] = {
    (Pool, "modes"): {"x-kubernetes-list-type": "set"},
    (Pool, "urls"): {"x-kubernetes-list-type": "set"},
    (Tenant, "key_digests"): {"x-kubernetes-list-type": "set"},
    (TenantSettings, "keys"): {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    (Status, "conditions"): {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
}
"""Lists in which the API server itself refuses what stands there twice."""


def reserved_arguments(model: type[BaseModel], field: str) -> dict[str, Any] | None:
    """Of a pool's `engine_args` those that no SGLang pool may have: named, so that a rule can speak of them."""
    if (model, field) != (Pool, "engine_args"):
        return None
    return {
        name: {"x-kubernetes-int-or-string": True, "description": f"On engine sglang refused: {why}."}
        for name, why in sorted(_REFUSED_ARGUMENTS.items())
    }


_REFUSED_ARGUMENTS = {
    **{
        name: f"say it in the field `{'.'.join(map(camel, field.split('.')))}`"
        for name, field in SGLANG_ARGS_BY_FIELD.items()
    },
    **dict.fromkeys(SGLANG_ARGS_OF_OURS, "Pointsman sets it for each replica"),
    **{name: why.removeprefix("is refused: ") for name, why in SGLANG_ARGS_REFUSED.items()},
}

_URLS = "(has(self.urls) && size(self.urls) > 0)"
_PARSER = "has(self.reasoningParser)"
_THINKS = f"'{Mode.THINK}' in self.modes"
_BUDGET = "has(self.thinkingBudget)"
_OPENS = (
    "(has(self.templateOpensThinking) ? self.templateOpensThinking : "
    f"(has(self.chatTemplate) && self.chatTemplate == '{OPENING_TEMPLATE}') || "
    f"self.family in {_list(FAMILIES_WITH_OPENED_THINKING)})"
)
_CLOSES = (
    f"(self.engine in {_list(CONTINUING_ENGINES)} && "
    f"!(self.engine == '{Engine.VLLM}' && self.family in {_list(FAMILIES_THAT_FORGET_THINKING)}) && "
    f"(self.family in {_list(FAMILIES_CLOSED_BY_TEXT)} || {_OPENS}))"
)
_URL = r"^[Hh][Tt][Tt][Pp]://([A-Za-z0-9._-]+|\\[[0-9A-Fa-f:.]+\\])(:[0-9]{0,5})?/?$"


def _pool_rules() -> list[Rule]:
    rules = config_pool_rules
    external = Rule(
        f"!{_URLS} || !has(self.{{0}})",
        "has no effect on a pool with `urls`: whoever runs those servers sets it there",
    )
    unused = [
        Rule(external.holds.format(field), external.message, field, FORBIDDEN, rules._upstream_urls)
        for field in ("engineArgs", "chatTemplate", "autoscaling")
    ]
    return [
        Rule(
            f"self.engine in {_list(STARTED_ENGINES)} || {_URLS}",
            "is needed: this engine is not started by Pointsman, list its replicas here",
            "urls",
            REQUIRED,
            rules._weights_or_urls,
        ),
        Rule(
            f"self.engine != '{Engine.SGLANG}' || {_URLS} || has(self.modelPath)",
            "engine sglang needs weights: a folder or a hub name",
            "modelPath",
            REQUIRED,
            rules._weights_or_urls,
        ),
        Rule(
            f"!has(self.urls) || self.urls.all(url, url.matches('{_URL}'))",
            "each must be http://host:port and nothing after it, without a user name or password",
            "urls",
            of=rules._upstream_urls,
        ),
        *unused,
        Rule(
            f"size(self.modes) < 2 || !(self.family in {_list(FAMILIES_WITHOUT_SWITCH)})",
            "has no switch on the request: name a family that has one, or make a pool for each mode",
            "family",
            of=rules._modes_of_the_family,
        ),
        Rule(
            f"size(self.modes) < 2 || !(self.family in {_list(FAMILIES_BY_BEGINNING)}) || "
            f"self.engine in {_list(CONTINUING_ENGINES)}",
            "is told its mode by how its turn begins, which this engine can't be told: make a pool for each mode",
            "family",
            of=rules._modes_of_the_family,
        ),
        Rule(
            f"self.family != '{Family.KIMI_K2}' || !({_THINKS})",
            "family kimi_k2 has no thinking: its pools answer no_think only",
            "modes",
            of=rules._modes_of_the_family,
        ),
        Rule(
            f"self.family != '{Family.KAT}' || !{_PARSER}",
            "must be left out for family kat: no engine knows its tags, the router does",
            "reasoningParser",
            FORBIDDEN,
            rules._reasoning_parser_of_the_family,
        ),
        Rule(
            f"self.family != '{Family.GPT_OSS}' || self.engine != '{Engine.SGLANG}' || {_PARSER}",
            "is missing: engine sglang needs `gpt-oss` to tell the channels of gpt-oss apart",
            "reasoningParser",
            REQUIRED,
            rules._reasoning_parser_of_the_family,
        ),
        Rule(
            f"!has(self.templateOpensThinking) || !self.templateOpensThinking || {_THINKS}",
            "is set on a pool that never thinks",
            "templateOpensThinking",
            of=rules._reasoning_parser_of_the_family,
        ),
        Rule(
            "self.defaultMaxTokens < self.capabilities.context",
            "leaves no room in `capabilities.context`",
            "defaultMaxTokens",
            of=rules._token_limits,
        ),
        Rule(
            f"!{_BUDGET} || self.thinkingBudget < self.capabilities.context",
            "leaves no room in `capabilities.context`",
            "thinkingBudget",
            of=rules._token_limits,
        ),
        Rule(
            f"!{_BUDGET} || {_THINKS}",
            "is set on a pool that never thinks",
            "thinkingBudget",
            of=rules._token_limits,
        ),
        Rule(
            f"!{_BUDGET} || self.engine == '{Engine.SIMULATED}' || "
            f"(self.engine == '{Engine.SGLANG}' && {_PARSER}) || {_CLOSES} || '{Mode.NO_THINK}' in self.modes",
            "can't be enforced: engine sglang needs `reasoningParser`, others a family that the router can close",
            "thinkingBudget",
            of=rules._token_limits,
        ),
        Rule(
            "self.nodes < 2 || has(self.gpu)",
            "more than one node needs `gpu`: the accelerators on each of them",
            "nodes",
            of=rules._accelerators,
        ),
        Rule(
            "!has(self.gpu) || self.gpu.perNode * self.nodes == self.tensorParallel * self.pipelineParallel",
            "times `nodes` must equal `tensorParallel` times `pipelineParallel`",
            "gpu.perNode",
            of=rules._accelerators,
        ),
        *(
            Rule(
                f"self.engine != '{Engine.SGLANG}' || !has(self.engineArgs) || !has(self.engineArgs.{name})",
                why,
                f"engineArgs.{name}",
                FORBIDDEN,
                rules._engine_args_that_are_ours,
            )
            for name, why in sorted(_REFUSED_ARGUMENTS.items())
        ),
        Rule(
            f"!has(self.chatTemplate) || self.chatTemplate != '{BUILTIN_PREFIX}'",
            "names no template after builtin:",
            "chatTemplate",
            of=rules._names_of_ours,
        ),
        Rule(
            f"!has(self.modelPath) || self.modelPath != '{LOCAL_PREFIX}'",
            "names no model after local:",
            "modelPath",
            of=rules._names_of_ours,
        ),
        Rule(
            f"!self.capabilities.tools || self.engine != '{Engine.SGLANG}' || {_URLS} || has(self.toolCallParser)",
            "is missing: without it engine sglang gives tool calls as text",
            "toolCallParser",
            REQUIRED,
            rules._capabilities,
        ),
        Rule(
            "!has(self.toolCallParser) || self.capabilities.tools",
            "has no effect without `capabilities.tools`: requests with tools are refused",
            "toolCallParser",
            of=rules._capabilities,
        ),
        Rule(
            "!has(self.capabilities.toolsWarning) || self.capabilities.tools",
            "has no effect without `capabilities.tools`",
            "capabilities.toolsWarning",
            of=rules._capabilities,
        ),
        Rule(
            "!self.capabilities.remoteImages || self.capabilities.images",
            "has no effect without `capabilities.images`",
            "capabilities.remoteImages",
            of=rules._capabilities,
        ),
        Rule("self.model == oldSelf.model", "can't be changed: make another pool", "model"),
        Rule("self.engine == oldSelf.engine", "can't be changed: make another pool", "engine"),
        Rule(
            f"{_URLS} == {_URLS.replace('self', 'oldSelf')}",
            "a pool that Pointsman starts can't become one by URL, nor the other way round: make another pool",
            "urls",
        ),
    ]


SAME_NAME = Rule(
    "has(self.name) == has(oldSelf.name) && (!has(self.name) || self.name == oldSelf.name)",
    "can't be changed: bills and metrics go by it",
    "name",
)
"""Of every kind whose objects may have a name of their own."""

SHORT_NAME = Rule(
    "has(self.spec.name) || size(self.metadata.name) <= 63",
    "is needed where the object's name has more than 63 characters",
    "spec.name",
    REQUIRED,
)
"""Of the whole object: without `spec.name` its own name is the platform's."""

RULES: dict[type[BaseModel], list[Rule]] = {
    Pool: _pool_rules(),
    Tenant: [_digests("keyDigests")],
    Match: [_digests("keys")],
    Autoscaling: [
        Rule("self.minReplicas <= self.maxReplicas", "must not be above `maxReplicas`", "minReplicas"),
    ],
    Budget: [
        Rule(
            "!has(self.softUsd) || !has(self.hardUsd) || double(self.softUsd) <= double(self.hardUsd)",
            "must not be above `hardUsd`",
            "softUsd",
        )
    ],
    PolicyRule: [
        Rule(
            "has(self.mode) || has(self.threshold) || has(self.defaultMode)",
            "say what the rule does: `mode`, `threshold` or `defaultMode`",
            "mode",
            REQUIRED,
        ),
        Rule(
            "!has(self.mode) || !(has(self.threshold) || has(self.defaultMode))",
            "leaves nothing to `threshold` or `defaultMode`: say one or the other",
            "mode",
        ),
    ],
    Saturation: [Rule("self.fromLoad < self.fullLoad", "must be below `fullLoad`", "fromLoad")],
    Escalation: [
        Rule(
            f"('{Trigger.CONFIDENCE}' in self.triggers) == has(self.minMeanLogprob)",
            "goes with the trigger `confidence`: give both or neither",
            "minMeanLogprob",
        )
    ],
    Policy: [
        Rule(
            "!has(self.abstain) || self.abstain[0] <= self.abstain[1]",
            "must be two probabilities, the lower one first",
            "abstain",
        ),
        Rule(
            "!has(self.saturation) || self.saturation.highestThreshold >= self.threshold",
            "must not be below `threshold`",
            "saturation.highestThreshold",
        ),
        Rule(
            "!has(self.rules) || self.rules.all(one, self.rules.exists_one(other, other.name == one.name))",
            "two of them have the same name",
            "rules",
            DUPLICATE,
        ),
    ],
    Toleration: [
        Rule(
            f"self.operator != '{TolerationOperator.EQUAL}' || has(self.key)",
            "is missing: only operator Exists goes without",
            "key",
            REQUIRED,
        ),
        Rule(
            f"self.operator != '{TolerationOperator.EXISTS}' || !has(self.value) || self.value == ''",
            "goes with operator Equal alone",
            "value",
            FORBIDDEN,
        ),
    ],
    WeightsVolume: [Rule("has(self.claim) != has(self.hostPath)", "give this or `hostPath`, one of them", "claim")],
    Upgrade: [
        Rule(
            "self.shares.isSorted() && self.shares.all(one, self.shares.exists_one(other, other == one))",
            "must rise from one to the next",
            "shares",
        )
    ],
}
"""Rules by the model whose objects they are of."""
