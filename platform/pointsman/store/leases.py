"""What is left of each tenant's limits and budgets, shared by all routers, and who holds how much of it.

Stands in the store because routers take leases here and the ledger writer puts right what dead routers held. One
script takes a router's words on many tenants at once and answers each: whatever it does, it does wholly.

Money is told in whole amounts, never in changes (`s:RUN` settled so far, `l:RUN` held and not settled), and each
word of a run has a number: so a word that is told twice, or arrives after a later one, changes nothing. No more is
leased than the budget less all that is settled or held. Limits by the minute are buckets that fill up with time;
what routers hold of one counts as if it were in it, so that no more than a minute's worth is ever there at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

import orjson
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from pointsman.contracts.names import RedisKey

LEASE = 10.0
"""Seconds that a lease lasts in Redis; a router stops spending it earlier, by its own clock."""

RATES = ("requests", "tokens", "input", "output")
"""The limits by the minute, in the order in which they are asked for."""

_EXCHANGE = """
local run, asks, lease = ARGV[1], cjson.decode(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ready = redis.call('EXISTS', KEYS[1])

local function whole(number) return string.format('%.0f', number) end

local function fields(key)
  local flat, found = redis.call('HGETALL', key), {}
  for at = 1, #flat, 2 do found[flat[at]] = flat[at + 1] end
  return found
end

-- What can be given of `left` to one who needs `first` at once and `every` for all that wait, and would like `want`
-- beside that, but no less than `unit` of it.
local function grant(left, first, every, want, unit, sharers)
  if left < first or left <= 0 then return 0 end
  if left <= every then return math.floor(left) end
  local more = math.min(want, math.floor((left - every) / (4 * sharers)))
  if more < unit then more = 0 end
  return every + more
end

local function numbers(text)
  local found = {}
  for number in string.gmatch(text, '[^,]+') do found[#found + 1] = tonumber(number) end
  return found
end

-- Limits by the minute, and places.
local function allowance(key, number, rates, places, answer)
  local hash = fields(key)
  local mine = hash['h:' .. run]
  if mine and numbers(mine)[1] >= number then return false end
  local others, used, sharers = {0, 0, 0, 0, 0}, 0, 1
  for name, value in pairs(hash) do
    if string.sub(name, 1, 2) == 'h:' and name ~= 'h:' .. run then
      local held = numbers(value)
      if held[2] > now then
        sharers = sharers + 1
        for kind = 1, 5 do others[kind] = others[kind] + held[kind + 2] end
        used = used + held[8]
      else
        redis.call('HDEL', key, name)
      end
    end
  end
  local levels, at = {}, now
  if hash['b'] then
    local bucket = numbers(hash['b'])
    at = math.min(bucket[5], now)
    levels = bucket
  end
  local kept, after = {number, now + lease, 0, 0, 0, 0, 0, 0}, {}
  for kind = 1, 4 do
    local ask = rates and rates[kind]
    if ask then
      local limit, keep, back = ask[1], ask[2], ask[3]
      local level = levels[kind]
      if not level or level == -1e15 then level = limit end
      level = level + (now - at) * limit / 60000 + back
      level = math.max(-limit, math.min(level, limit - others[kind] - keep))
      local given = grant(level, ask[4], ask[5], ask[6], ask[7], sharers)
      level = level - given
      kept[kind + 2], after[kind] = keep + given, level
      answer[#answer + 1] = whole(given)
      answer[#answer + 1] = whole(math.floor(level))
      answer[#answer + 1] = whole(others[kind])
    else
      after[kind] = -1e15
    end
  end
  if places then
    local running, keep = places[2], places[3]
    local given = grant(places[1] - others[5] - running - keep, places[4], places[5], places[6], 1, sharers)
    kept[7], kept[8] = running + keep + given, running
    answer[#answer + 1] = whole(given)
    answer[#answer + 1] = whole(others[5])
    answer[#answer + 1] = whole(used)
  end
  local text = {}
  for kind = 1, 4 do text[kind] = string.format('%.3f', after[kind]) end
  text[5] = whole(now)
  for at = 1, 8 do kept[at] = whole(kept[at]) end
  redis.call('HSET', key, 'b', table.concat(text, ','), 'h:' .. run, table.concat(kept, ','))
  redis.call('PEXPIRE', key, 180000)
  answer[#answer + 1] = whole(sharers)
  return true
end

-- The money of one period.
local function money(key, period, number, ask, answer)
  local hash = fields(key)
  local last = hash['n:' .. run]
  if last and tonumber(last) >= number then return false end
  local hard, settled, held = ask[1], ask[2], ask[3]
  local spent, leased, sharers, told = 0, 0, 1, tonumber(hash['s:' .. run] or '0')
  for name, value in pairs(hash) do
    local kind = string.sub(name, 1, 2)
    if kind == 's:' then
      spent = spent + tonumber(value)
    elseif kind == 'l:' and name ~= 'l:' .. run then
      leased, sharers = leased + tonumber(value), sharers + 1
    end
  end
  if settled > told then
    spent = spent + settled - told
    redis.call('HSET', key, 's:' .. run, whole(settled))
  end
  local left, given = hard - spent - leased - held, 0
  if hard >= 0 and ready == 1 then given = grant(left, ask[4], ask[5], ask[6], ask[7], sharers) end
  local scarce = 0
  if hard >= 0 then
    local wanted = tonumber(hash['w'] or '0')
    if ask[4] > 0 and given < ask[5] then
      wanted = now + 1500
      redis.call('HSET', key, 'w', whole(wanted))
    end
    if wanted > now or left - given < 4 * sharers * ask[7] then scarce = 1 end
  end
  if held + given > 0 then
    redis.call('HSET', key, 'l:' .. run, whole(held + given))
    if not hash['l:' .. run] then
      redis.call('SADD', KEYS[2], period)
      redis.call('EXPIRE', KEYS[2], 3456000)
    end
  else
    redis.call('HDEL', key, 'l:' .. run)
  end
  redis.call('HSET', key, 'n:' .. run, whole(number))
  redis.call('EXPIREAT', key, whole(ask[8]))
  answer[#answer + 1] = whole(given)
  answer[#answer + 1] = whole(spent)
  answer[#answer + 1] = whole(leased)
  answer[#answer + 1] = whole(math.max(settled, told))
  answer[#answer + 1] = whole(scarce)
  return true
end

local answers = {}
for index, ask in ipairs(asks) do
  local first, answer, heard = 3 * index, {}, true
  local number = ask[1]
  if ask[2] or ask[3] then heard = allowance(KEYS[first], number, ask[2], ask[3], answer) end
  if heard and ask[4] then heard = money(KEYS[first + 1], ask[6], number, ask[4], answer) end
  if heard and ask[5] then heard = money(KEYS[first + 2], ask[7], number, ask[5], answer) end
  answers[index] = heard and table.concat(answer, ',') or 'late'
end
return table.concat(answers, ';') .. ';' .. ready
"""
"""
Takes the keys of the mark that budgets are known and of the periods that the run holds money of, then for each
tenant those of its allowance, its day and its month; the run, the asks as JSON, and the milliseconds of a lease.
"""

_SETTLE = """
local run, nano, ended = ARGV[1], ARGV[2], ARGV[4] ~= ''
if tonumber(nano) > tonumber(redis.call('HGET', KEYS[1], 's:' .. run) or '0') then
  redis.call('HSET', KEYS[1], 's:' .. run, nano)
end
if ended then
  redis.call('HDEL', KEYS[1], 'l:' .. run)
  redis.call('HSET', KEYS[1], 'n:' .. run, '9007199254740992')
  redis.call('SREM', KEYS[2], ARGV[4])
end
if redis.call('TTL', KEYS[1]) < 0 then redis.call('EXPIRE', KEYS[1], ARGV[3]) end
"""
"""
Takes a budget's key and that of the run's periods; the run, its nano-dollars, seconds, and, where the run has
ended, the name of tenant and period.
"""

KEPT = 40 * 86_400
"""Seconds after which money of a period is forgotten that nobody has asked for."""

Rate = tuple[int, int, int, int, int, int, int]
"""Limit a minute, kept, given back (below 0: used beyond what was held), needed by the first that waits and by all,
wanted beside that, and the least that is worth giving of it."""

Places = tuple[int, int, int, int, int, int]
"""Limit, in use, kept, needed by the first that waits and by all, and wanted beside that."""

Money = tuple[int, int, int, int, int, int, int, int]
"""Hard mark (-1: none), settled by the run so far, held and not settled, needed by the first that waits and by all,
wanted beside that, the least that is worth giving of it, and the Unix time at which nobody asks any more."""

_FINISH = """
if redis.call('DEL', KEYS[1]) == 0 then return 0 end
redis.call('SET', KEYS[2], '1')
return 1
"""
"""Lets money be leased, unless Redis was emptied since the rebuilding began."""


class Ask(NamedTuple):
    """What a run says of one tenant, and asks for. Periods are `YYYY-MM-DD` and `YYYY-MM`. `number` only grows."""

    tenant: str
    number: int
    rates: tuple[Rate | None, Rate | None, Rate | None, Rate | None] | None
    places: Places | None
    day_period: str
    day: Money | None
    month_period: str
    month: Money | None


class RateGrant(NamedTuple):
    """Given, left in the bucket afterwards, and held by other runs."""

    given: int
    level: int
    others: int


class PlacesGrant(NamedTuple):
    """Given, held by other runs, and in use there."""

    given: int
    others: int
    used: int


class MoneyGrant(NamedTuple):
    """Given, settled by all runs, leased to others, settled by this run, and whether it is too little to hoard."""

    given: int
    spent: int
    leased: int
    settled: int
    scarce: bool


class Grant(NamedTuple):
    """The answer to an `Ask`, part by part. `sharers`: the runs that hold part of the limits by the minute."""

    rates: tuple[RateGrant | None, ...]
    places: PlacesGrant | None
    sharers: int
    day: MoneyGrant | None
    month: MoneyGrant | None


class LeaseStore:
    """A router's side. Every method raises `redis.exceptions.RedisError` where Redis fails."""

    def __init__(self, redis: AsyncRedis) -> None:
        self._exchange = redis.register_script(_EXCHANGE)

    async def exchange(self, run: str, asks: Sequence[Ask]) -> tuple[list[Grant | None], bool]:
        """
        Tell `asks`, all of them in one step; the answer to each, and whether money is leased at all.

        None where a later word of the run was there before: what was told changed nothing.
        """
        keys = [RedisKey.BUDGETS_READY, RedisKey.BUDGET_PERIODS.format(router=run)]
        told = []
        for tenant, number, rates, places, day_period, day, month_period, month in asks:
            keys += (
                RedisKey.ALLOWANCE.format(tenant=tenant),
                RedisKey.BUDGET.format(tenant=tenant, period=day_period),
                RedisKey.BUDGET.format(tenant=tenant, period=month_period),
            )
            names = (f"{tenant}:{day_period}", f"{tenant}:{month_period}")
            kinds = False if rates is None else [rate or False for rate in rates]
            told.append((number, kinds, places or False, day or False, month or False, *names))
        answer = await self._exchange(keys=keys, args=[run, orjson.dumps(told), int(LEASE * 1000)])
        *texts, ready = (answer if isinstance(answer, bytes) else answer.encode()).split(b";")
        return [_grant(ask, text) for ask, text in zip(asks, texts, strict=True)], ready == b"1"


class BudgetKeeper:
    """The ledger writer's side. Every method raises `redis.exceptions.RedisError` where Redis fails."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._settle = redis.register_script(_SETTLE)
        self._finish = redis.register_script(_FINISH)

    def settled(self, run: str, amounts: Mapping[tuple[str, str], int]) -> None:
        """
        `run`, which may live, has settled at least `amounts` (nano-dollars by tenant and period).

        What it has said itself of the same money stays, where that is more. Changes nothing when told again.
        """
        with self._redis.pipeline(transaction=False) as batch:
            for (tenant, period), nano in amounts.items():
                self._tell(run, tenant, period, nano, ended=False, client=batch)
            batch.execute()

    def ended(self, run: str, amounts: Mapping[tuple[str, str], int]) -> None:
        """
        The dead `run` has settled `amounts` (nano-dollars by tenant and period), and nothing more will come of it.

        What it held goes back, in other periods and of other tenants too, and what it may still be about to say is
        not heard any more. Changes nothing when told again.
        """
        for tenant, period in {*amounts, *self.leases_of(run)}:
            self._tell(run, tenant, period, amounts.get((tenant, period), 0), ended=True)

    def charged(self, tenant: str, period: str, nano: int) -> None:
        """Corrections and charges of `tenant` add up to `nano` nano-dollars in `period`; below 0 they give back."""
        key = RedisKey.BUDGET.format(tenant=tenant, period=period)
        with self._redis.pipeline(transaction=True) as batch:
            batch.hset(key, "s:ledger", str(nano))
            batch.expire(key, KEPT, nx=True)
            batch.execute()

    def leases_of(self, run: str) -> list[tuple[str, str]]:
        """The tenants and periods of which `run` has ever held money, unless it was `ended` there since."""
        found = cast(set[bytes], self._redis.smembers(RedisKey.BUDGET_PERIODS.format(router=run)))
        pairs = (name.decode().rpartition(":") for name in found)
        return [(tenant, period) for tenant, _, period in pairs]

    def ready(self) -> bool:
        """Whether money is leased: not after Redis was emptied, until `mark_ready`."""
        return bool(self._redis.exists(RedisKey.BUDGETS_READY))

    def rebuild(self) -> None:
        """Begin to write down anew all that was settled in the running day and month."""
        self._redis.set(RedisKey.BUDGETS_REBUILDING, "1")

    def rebuilding(self) -> bool:
        """Whether what was written down since `rebuild` is still there: not where Redis was emptied once more."""
        return bool(self._redis.exists(RedisKey.BUDGETS_REBUILDING))

    def mark_ready(self) -> bool:
        """
        All that was settled is there again, and has been for `LEASE` seconds; False where it is not any more.

        That long it takes until every router has told again what it holds, or has stopped spending it.
        """
        return bool(self._finish(keys=[RedisKey.BUDGETS_REBUILDING, RedisKey.BUDGETS_READY]))

    def _tell(
        self, run: str, tenant: str, period: str, nano: int, *, ended: bool, client: Redis | None = None
    ) -> None:
        name = f"{tenant}:{period}"
        keys = [RedisKey.BUDGET.format(tenant=tenant, period=period), RedisKey.BUDGET_PERIODS.format(router=run)]
        self._settle(keys=keys, args=[run, nano, KEPT, name if ended else ""], client=client)


def _grant(ask: Ask, text: bytes) -> Grant | None:
    if text == b"late":
        return None
    numbers = iter([int(number) for number in text.split(b",")] if text else [])
    places, sharers = None, 1
    rates = tuple(
        None if rate is None else RateGrant(next(numbers), next(numbers), next(numbers)) for rate in ask.rates or ()
    )
    if ask.places is not None:
        places = PlacesGrant(next(numbers), next(numbers), next(numbers))
    if ask.rates is not None or ask.places is not None:
        sharers = next(numbers)
    day, month = (
        None
        if money is None
        else MoneyGrant(next(numbers), next(numbers), next(numbers), next(numbers), next(numbers) == 1)
        for money in (ask.day, ask.month)
    )
    return Grant(rates, places, sharers, day, month)
