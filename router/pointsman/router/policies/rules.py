"""The rules of one policy, laid out so that the first that matches is found without trying one after the other.

What a rule asks of a request is of two kinds. Model, endpoint, key and tools are the same for thousands of
requests: which rules can match at all is worked out once for each combination that is seen. What is left is looked
up: `metadata` by name and value, the language of the question by its code. The language is told only where a rule
that would count asks for it, since that takes longer than all the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from pointsman.contracts.modes import ModePolicy
from pointsman.contracts.policies import Match, Rule
from pointsman.router.policies.language import language_of
from pointsman.router.predictor.question import last_message

MOST_COMBINATIONS = 4096
"""Combinations of model, endpoint, key and tools that one policy remembers; with more, all are forgotten."""

_NEVER = 1 << 30
"""The place of a rule that there is not."""

Combination = tuple[str, str, bytes, bool]
"""Model, endpoint, digest of the key, and whether there are tools."""


class _Ruled(NamedTuple):
    """A rule: its place among all, what it asks of `metadata` and language, and what it makes of the policy."""

    place: int
    metadata: tuple[tuple[str, str], ...]
    languages: frozenset[str]
    modes: ModePolicy


class Rules:
    """
    The rules of a policy; `otherwise` holds where none matches.

    Nothing is laid out before the first request: thousands of policies may change at once, while streams are
    running.
    """

    __slots__ = ("_known", "_ruled", "_rules", "otherwise")

    def __init__(self, rules: Sequence[Rule], otherwise: ModePolicy) -> None:
        self.otherwise = otherwise
        self._rules = rules
        self._ruled: list[tuple[Match, _Ruled]] = []
        self._known: dict[Combination, _Lookup] = {}

    def modes_for(
        self, model: str, endpoint: str, key: bytes, payload: Mapping[str, Any], question: str | None
    ) -> ModePolicy:
        """
        What the policy says about a request, after the first of its rules that matches.

        `model`: its public name; `endpoint`: the path; `key`: digest of the key; `payload`: the request's fields,
        of which `tools` and `metadata` count; `question`: what its language is told from.
        """
        combination = (model, endpoint, key, bool(payload.get("tools")))
        lookup = self._known.get(combination)
        if lookup is None:
            lookup = self._remember(combination)
        return lookup.modes if lookup.settled else lookup.find(payload, question)

    def _remember(self, combination: Combination) -> _Lookup:
        if len(self._known) >= MOST_COMBINATIONS:
            self._known.clear()
        if not self._ruled:
            self._ruled = [(rule.match, _ruled(at, rule, self.otherwise)) for at, rule in enumerate(self._rules)]
        able = (ruled for match, ruled in self._ruled if _can_match(match, combination))
        lookup = self._known[combination] = _Lookup(able, self.otherwise)
        return lookup


class _Lookup:
    """
    The rules that can match requests of one combination. `modes` holds where nothing more particular matches, and
    for all of them where that is `settled`.
    """

    __slots__ = ("_names", "_place", "_tongue", "_tongues", "modes", "settled")

    def __init__(self, able: Iterable[_Ruled], otherwise: ModePolicy) -> None:
        self.modes, self._place = otherwise, _NEVER
        names: dict[str, dict[str, list[_Ruled]]] = {}
        tongues: dict[str, _Ruled] = {}
        for ruled in able:
            if ruled.metadata:
                name, value = ruled.metadata[0]
                names.setdefault(name, {}).setdefault(value, []).append(ruled)
            elif ruled.languages:
                for language in ruled.languages:
                    tongues.setdefault(language, ruled)
            else:
                self.modes, self._place = ruled.modes, ruled.place
                break  # it matches whatever else is said: none after it counts
        self._names, self._tongues = names, tongues
        self._tongue = min((ruled.place for ruled in tongues.values()), default=_NEVER)
        self.settled = not (names or tongues)

    def find(self, payload: Mapping[str, Any], question: str | None) -> ModePolicy:
        """What holds for one request; see `Rules.modes_for`."""
        place, modes = self._place, self.modes
        names = self._names
        in_language: list[_Ruled] = []
        given = payload.get("metadata")
        if given and names:
            for name in given if len(given) < len(names) else names:
                value = given.get(name)
                if type(value) is not str or name not in names:
                    continue
                for ruled in names[name].get(value, ()):
                    if ruled.place >= place:
                        break
                    if len(ruled.metadata) > 1 and not all(
                        given.get(each) == said for each, said in ruled.metadata
                    ):
                        continue
                    if ruled.languages:
                        in_language.append(ruled)
                    else:
                        place, modes = ruled.place, ruled.modes
                        break
        if self._tongue < place or in_language:
            language = language_of(last_message(question))
            if language is not None:
                tongue = self._tongues.get(language)
                if tongue is not None:
                    in_language.append(tongue)
                for ruled in in_language:
                    if ruled.place < place and language in ruled.languages:
                        place, modes = ruled.place, ruled.modes
        return modes


def _ruled(place: int, rule: Rule, otherwise: ModePolicy) -> _Ruled:
    own = rule.threshold is not None
    modes = ModePolicy(
        threshold=otherwise.threshold if rule.threshold is None else rule.threshold,
        abstain_below=otherwise.abstain_below,
        abstain_above=otherwise.abstain_above,
        default=rule.default_mode or otherwise.default,
        required=rule.mode,
        rule=rule.name,
        substitute=otherwise.substitute,
        refuse_spent=otherwise.refuse_spent,
        cost_of_wrong_fast=None if own else otherwise.cost_of_wrong_fast,
    )
    match = rule.match
    return _Ruled(place, tuple(match.metadata.items()), frozenset(match.languages), modes)


def _can_match(match: Match, combination: Combination) -> bool:
    model, endpoint, key, tools = combination
    return (
        (not match.models or model in match.models)
        and (not match.endpoints or endpoint in match.endpoints)
        and (not match.keys or key.hex() in match.keys)
        and (match.tools is None or match.tools is tools)
    )
