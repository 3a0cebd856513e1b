"""Recorded answers in Redis, and who is at work on one: what all routers of an instance share of them.

Stands in the store because the routers write and read while the admin process invalidates. An answer here is bytes
under a scope (who may be given it) and a key; what they mean, and whether they can be trusted, is for the router to
say. Every list is bounded: by the answer, by the scope and in all, so that no tenant can fill the Redis that the
others need too. Every method raises `redis.exceptions.RedisError` where Redis fails.
"""

from __future__ import annotations

from collections.abc import Sequence
from secrets import token_hex
from typing import NamedTuple

from redis.asyncio import Redis

from pointsman.contracts.names import RedisKey

LARGEST = 1024 * 1024
"""Bytes of one answer as it is written; more is neither written nor read."""

MOST_OF_SCOPE = 64 * 1024 * 1024
"""Bytes of answers of one scope; for a new one the oldest go."""

MOST_ANSWERS_OF_SCOPE = 10_000
"""Answers of one scope, likewise."""

MOST = 512 * 1024 * 1024
"""Bytes of answers in all, likewise."""

FLIGHT_TTL = 5.0
"""Seconds after which somebody who works on an answer, and has not said that he still does, is taken for dead."""

ALL = "*"
"""In a generation's name: every scope."""

_BATCH = 500
_REVISION = "revision"  # which is no scope, as a scope is hexadecimal

_LOOK = """
local largest, ttl, told = tonumber(ARGV[1]), tonumber(ARGV[2]), {}
for at = 1, #KEYS, 2 do
  local answer, holder = '', ''
  local size = redis.pcall('STRLEN', KEYS[at])
  if type(size) == 'number' and size > 0 and size <= largest then answer = redis.call('GET', KEYS[at]) end
  local claim = ARGV[2 + (at + 1) / 2]
  if answer == '' and claim ~= '' then
    local held, left = redis.pcall('GET', KEYS[at + 1]), redis.pcall('PTTL', KEYS[at + 1])
    if type(held) == 'string' and left > 0 and left <= ttl then
      holder = string.sub(held, 1, 256)
    else
      redis.call('SET', KEYS[at + 1], claim, 'PX', ttl)
    end
  end
  told[#told + 1] = answer
  told[#told + 1] = holder
end
return told
"""
"""
Takes answer and flight in turn; bytes at most, milliseconds of a flight, then what to claim each flight with. Tells
each answer, and who holds its flight: nothing where it was claimed. A flight that would never end is nobody's.
"""

_DROP = """
local function drop(member)
  local scope, known = string.match(member, '^[^:]+'), redis.call('HGET', KEYS[1], member)
  if known then
    local size = tonumber(string.match(known, '^%d+'))
    redis.call('HDEL', KEYS[1], member)
    if redis.call('HINCRBY', KEYS[1], '=' .. scope, -size) <= 0 then redis.call('HDEL', KEYS[1], '=' .. scope) end
    redis.call('HINCRBY', KEYS[1], '=', -size)
  end
  redis.call('ZREM', KEYS[2], member)
  redis.call('ZREM', ARGV[2] .. scope, member)
  redis.call('UNLINK', ARGV[1] .. member)
end
"""

_KEEP = (
    _DROP
    + """
local answer, flight, scope, generations = KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local member, value, ttl, model, token = ARGV[3], ARGV[4], tonumber(ARGV[5]), ARGV[6], ARGV[7]
if token ~= '' and redis.call('GET', flight) == token then redis.call('DEL', flight) end
local generation = 0
for at = 12, #ARGV do generation = generation + tonumber(redis.call('HGET', generations, ARGV[at]) or '0') end
if generation ~= tonumber(ARGV[11]) then return 0 end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, 100)) do drop(gone) end
drop(member)
redis.call('SET', answer, value, 'PX', ttl)
redis.call('ZADD', KEYS[2], now + ttl, member)
redis.call('ZADD', scope, now + ttl, member)
redis.call('HSET', KEYS[1], member, #value .. ' ' .. model)
local of_scope = redis.call('HINCRBY', KEYS[1], '=' .. string.match(member, '^[^:]+'), #value)
redis.call('HINCRBY', KEYS[1], '=', #value)
-- All others wait for this script: what takes too many others' places leaves some free for the next one and goes.
local drops = 100
local function full()
  if of_scope > tonumber(ARGV[8]) or redis.call('ZCARD', scope) > tonumber(ARGV[9]) then return scope end
  if tonumber(redis.call('HGET', KEYS[1], '=') or '0') > tonumber(ARGV[10]) then return KEYS[2] end
end
local place = full()
while place do
  local oldest = drops > 0 and redis.call('ZRANGE', place, 0, 0)[1]
  if not oldest then
    drop(member)
    return 0
  end
  drops = drops - 1
  drop(oldest)
  of_scope = tonumber(redis.call('HGET', KEYS[1], '=' .. string.match(member, '^[^:]+')) or '0')
  place = full()
end
return 1
"""
)
"""Writes one answer, ends its flight, and makes room; nothing is written that was invalidated meanwhile."""

_FORGET = (
    _DROP
    + """
for at = 3, #ARGV do drop(ARGV[at]) end
"""
)

_HOLDERS = """
for at = 2, #ARGV do
  if redis.pcall('GET', KEYS[at - 1]) == ARGV[at] then
    if ARGV[1] == '0' then redis.call('DEL', KEYS[at - 1]) else redis.call('PEXPIRE', KEYS[at - 1], ARGV[1]) end
  end
end
"""
"""Takes flights; the milliseconds they are to last from now on (0: they end), and who must hold each."""

_ANSWER_PREFIX = RedisKey.ANSWER.partition("{")[0]
_SCOPE_PREFIX = RedisKey.ANSWERS.partition("{")[0]
_PREFIXES = (_ANSWER_PREFIX, _SCOPE_PREFIX)


class AnswerKey(NamedTuple):
    """Which answer: `scope` and `key` are hexadecimal."""

    scope: str
    key: str

    @property
    def member(self) -> str:
        return f"{self.scope}:{self.key}"

    @property
    def answer(self) -> str:
        return RedisKey.ANSWER.format(scope=self.scope, key=self.key)

    @property
    def flight(self) -> str:
        return RedisKey.FLIGHT.format(scope=self.scope, key=self.key)


class Look(NamedTuple):
    """What was found: the `answer`, or who holds its flight; neither where the flight was claimed."""

    answer: bytes
    holder: bytes


class Usage(NamedTuple):
    """How many answers there are, and how many bytes they have."""

    answers: int
    bytes: int


def generation_fields(scope: str, model: str) -> tuple[str, ...]:
    """The generations that an answer of `scope` by `model` hangs on."""
    return (ALL, f"{ALL}:{model}", scope, f"{scope}:{model}")


class AnswerStore:
    """Reads, writes, invalidates."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._look = redis.register_script(_LOOK)
        self._keep = redis.register_script(_KEEP)
        self._forget = redis.register_script(_FORGET)
        self._holders = redis.register_script(_HOLDERS)

    async def look(self, wanted: Sequence[tuple[AnswerKey, bytes]]) -> list[Look]:
        """What there is of each key; the flight of what there is not, and nobody works on, is claimed as told."""
        names = [name for key, _ in wanted for name in (key.answer, key.flight)]
        claims = [claim for _, claim in wanted]
        told = await self._look(keys=names, args=[LARGEST, int(FLIGHT_TTL * 1000), *claims])
        return [Look(bytes(told[at]), bytes(told[at + 1])) for at in range(0, len(told), 2)]

    async def keep(
        self, key: AnswerKey, answer: bytes, *, ttl: int, model: str, generation: int, claim: bytes
    ) -> bool:
        """
        Write `answer` for `ttl` milliseconds and end its flight, if `claim` holds it.

        False, and nothing is written, where answers of this `generation` are invalid now, or where more than a
        hundred others would have to go for it.
        """
        fields = generation_fields(key.scope, model)
        written = await self._keep(
            keys=[
                RedisKey.ANSWER_SIZES,
                RedisKey.ANSWER_EXPIRIES,
                key.answer,
                key.flight,
                RedisKey.ANSWERS.format(scope=key.scope),
                RedisKey.ANSWER_GENERATIONS,
            ],
            args=[
                *_PREFIXES,
                key.member,
                answer,
                ttl,
                model,
                claim,
                MOST_OF_SCOPE,
                MOST_ANSWERS_OF_SCOPE,
                MOST,
                generation,
                *fields,
            ],
        )
        return bool(written)

    async def release(self, flights: Sequence[tuple[AnswerKey, bytes]]) -> None:
        """End the flights that were claimed as told."""
        await self._holders(keys=[key.flight for key, _ in flights], args=[0, *(claim for _, claim in flights)])

    async def renew(self, flights: Sequence[tuple[AnswerKey, bytes]]) -> None:
        """Say of flights that were claimed as told that their answers are still being worked on."""
        ttl = int(FLIGHT_TTL * 1000)
        await self._holders(keys=[key.flight for key, _ in flights], args=[ttl, *(claim for _, claim in flights)])

    async def revision(self) -> str:
        """A word that changes with the generations; empty where there is none."""
        value = await self._redis.hget(RedisKey.ANSWER_GENERATIONS, _REVISION)
        return "" if value is None else _text(value)

    async def generations(self) -> dict[str, int]:
        """The generations by their names (`generation_fields`); what is not among them is 0."""
        fields = await self._redis.hgetall(RedisKey.ANSWER_GENERATIONS)
        return {name: int(value) for key, value in fields.items() if (name := _text(key)) != _REVISION}

    async def invalidate(self, scope: str, model: str | None) -> int:
        """
        Let no answer of `scope` (`ALL`: of any) by `model` (None: by any) be given any more, and delete them.

        Returns how many were deleted. What is being worked on will not be kept.
        """
        field = scope if model is None else f"{scope}:{model}"
        async with self._redis.pipeline(transaction=True) as batch:
            batch.hincrby(RedisKey.ANSWER_GENERATIONS, field, 1)
            batch.hset(RedisKey.ANSWER_GENERATIONS, _REVISION, token_hex(8))
            await batch.execute()
        members = RedisKey.ANSWER_EXPIRIES if scope == ALL else RedisKey.ANSWERS.format(scope=scope)
        return await self._delete(members, model)

    async def usage(self, scope: str) -> Usage:
        """What there is of `scope` (`ALL`: of all), what has expired of late included."""
        of_all = scope == ALL
        name = RedisKey.ANSWER_EXPIRIES if of_all else RedisKey.ANSWERS.format(scope=scope)
        number = await self._redis.zcard(name)
        size = await self._redis.hget(RedisKey.ANSWER_SIZES, "=" if of_all else f"={scope}")
        return Usage(int(number), int(size or 0))

    async def _delete(self, members: str, model: str | None) -> int:
        deleted, batch = 0, list[str]()
        known = [_text(member) async for member, _ in self._redis.zscan_iter(members, count=_BATCH)]
        for at in range(0, len(known), _BATCH):
            batch = known[at : at + _BATCH]
            if model is not None:
                told = await self._redis.hmget(RedisKey.ANSWER_SIZES, batch)
                batch = [
                    member
                    for member, value in zip(batch, told, strict=True)
                    if value is not None and _text(value).partition(" ")[2] == model
                ]
            if batch:
                await self._forget(
                    keys=[RedisKey.ANSWER_SIZES, RedisKey.ANSWER_EXPIRIES], args=[*_PREFIXES, *batch]
                )
                deleted += len(batch)
        return deleted


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
