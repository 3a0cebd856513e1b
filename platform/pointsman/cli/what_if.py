"""What the router would decide on a request that nobody sends: the same steps, short of engines and clocks.

Behind `pointsman explain` and `predict`, imported by them when they run: it stands on the router's room. What only
a running gateway knows is left out: load, the day's thinking, and what thinking usually costs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import orjson

from pointsman.contracts.config import Config, Tenant
from pointsman.contracts.config_file import ConfigError, load_config
from pointsman.contracts.errors import ApiError
from pointsman.contracts.modes import Mode, ModeDecision, choose_mode
from pointsman.router.exchange import Endpoint, Exchange
from pointsman.router.pipeline.parse import Parse
from pointsman.router.policies import Arm
from pointsman.router.tenant_view import ModelView, compile_terms, models_of, view_of

ANY_MODEL = "any"
"""Stands for a model that is served in both modes."""


class WhatIfError(Exception):
    """Why nothing can be said, in words for people."""


class WhatIf:
    """
    A tenant's way of deciding. `config` None stands for a tenant whose policy is the default one.

    `model`: as a client gives it; None for the tenant's only one. `metadata` and `tools` are those of the requests.
    Raises `WhatIfError` where the file, the tenant or the model can't be used.
    """

    def __init__(
        self,
        config: Path | None,
        tenant: str | None,
        *,
        model: str | None = None,
        metadata: Mapping[str, str] | None = None,
        tools: bool = False,
    ) -> None:
        if config is None:
            said, models = Tenant(name="anybody"), {ANY_MODEL: ModelView(ANY_MODEL, {}, frozenset(Mode))}
        else:
            loaded = _loaded(config)
            said, models = _tenant(loaded, tenant, config), models_of(loaded.pools)
        self._tenant = view_of(said.name, compile_terms(said, models))
        # A rule may ask for a key: it is known which one where there is one only.
        self._key = bytes.fromhex(said.key_digests[0]) if len(said.key_digests) == 1 else b""
        self._fields: dict[str, Any] = {"model": model or _only(self._tenant.models)}
        if metadata:
            self._fields["metadata"] = dict(metadata)
        if tools:
            self._fields["tools"] = [{"type": "function", "function": {"name": "any"}}]
        self._parse = Parse()

    def request(self, messages: Sequence[object]) -> Exchange:
        """The chat request with `messages`, read; raises `WhatIfError` where the router would refuse it."""
        exchange = Exchange(
            cast(Any, None), Endpoint.CHAT, {}, orjson.dumps({**self._fields, "messages": messages})
        )
        exchange.tenant, exchange.key = self._tenant, self._key
        try:
            self._parse(exchange)
        except ApiError as error:
            raise WhatIfError(error.message) from None
        return exchange

    def decision(self, exchange: Exchange, probability: float | None) -> ModeDecision:
        """What is decided on `exchange`; raises `WhatIfError` where it would be refused."""
        ruling, arm = exchange.ruling, exchange.arm
        assert ruling is not None
        assert arm is not None
        try:
            decision = _decided(exchange, arm, probability)
        except ApiError as error:
            raise WhatIfError(error.message) from None
        other = ruling.other(arm)
        return decision if other is None else decision._replace(shadow=_mode(exchange, other, probability))


def _decided(exchange: Exchange, arm: Arm, probability: float | None) -> ModeDecision:
    model = exchange.model
    assert model is not None
    policy = arm.modes
    if arm.rules is not None:
        policy = arm.rules.modes_for(
            model.name, exchange.endpoint, exchange.key, exchange.payload, exchange.question
        )
    return choose_mode(exchange.signals, probability=probability, policy=policy, offered=model.modes)


def _mode(exchange: Exchange, arm: Arm, probability: float | None) -> Mode | None:
    try:
        return _decided(exchange, arm, probability).mode
    except ApiError:
        return None


def _loaded(config: Path) -> Config:
    try:
        return load_config(config)
    except ConfigError as error:
        raise WhatIfError(str(error)) from None


def _tenant(loaded: Config, name: str | None, config: Path) -> Tenant:
    tenants = {each.name: each for each in loaded.tenants}
    if name is None or name not in tenants:
        names = ", ".join(tenants) or "it has none"
        raise WhatIfError(f"--tenant must name one of the tenants in {config}: {names}")
    return tenants[name]


def _only(models: Mapping[str, ModelView]) -> str:
    if len(models) != 1:
        raise WhatIfError(f"--model must name one of the tenant's models: {', '.join(models)}")
    return next(iter(models))
