"""What a counted projection asks of Redis in one step, in Lua: `counted_projection.py` runs it and says why.

A revision is `CHAIN.NUMBER`, and the stream of changes has an entry `NUMBER-0` for each: both move in one script,
or neither does. In the stream a name is the field `tenant`, whatever it names: routers of earlier releases, which
knew no other copy than that of tenants, read the same one while a release is rolled out.
"""

from __future__ import annotations

PUT = """
local revision = redis.call('GET', KEYS[2])
if not revision then return false end
local chain, number = string.match(revision, '^(%x+)%.(%d+)$')
if not chain then return false end
local changed = {}
for position = 2, #ARGV, 3 do
  local name, version, entry = ARGV[position], ARGV[position + 1], ARGV[position + 2]
  local present = redis.call('HGET', KEYS[1], name)
  local held = present and string.match(present, '^{"version":(%d+),')
  if not held or tonumber(held) < tonumber(version) then
    redis.call('HSET', KEYS[1], name, entry)
    changed[#changed + 1] = name
  end
end
for _, name in ipairs(changed) do
  number = string.format('%d', tonumber(number) + 1)
  local added = redis.pcall('XADD', KEYS[3], 'MAXLEN', '~', ARGV[1], number .. '-0', 'tenant', name)
  if type(added) == 'table' and added.err then
    redis.call('DEL', KEYS[2])
    return false
  end
end
redis.call('SET', KEYS[2], chain .. '.' .. number)
return chain .. '.' .. number
"""
"""
Takes the keys of hash, revision and stream; the stream's length, then name, version and entry of each change.
Returns the revision that is there, or false where all must be written anew: Redis was emptied, or lost a part.
"""

SET_ADMINS = """
redis.call('DEL', KEYS[1])
if #ARGV > 1 then redis.call('HSET', KEYS[1], unpack(ARGV, 2)) end
local revision = redis.call('GET', KEYS[2])
local chain, number = string.match(revision or '', '^(%x+)%.(%d+)$')
if not chain then return false end
number = string.format('%d', tonumber(number) + 1)
local added = redis.pcall('XADD', KEYS[3], 'MAXLEN', '~', ARGV[1], number .. '-0', 'tenant', '')
if type(added) == 'table' and added.err then
  redis.call('DEL', KEYS[2])
  return false
end
redis.call('SET', KEYS[2], chain .. '.' .. number)
return chain .. '.' .. number
"""
"""Takes the keys of admin keys, revision and stream; the stream's length, then digests and roles. As `PUT`."""

FINISH = """
if redis.call('EXISTS', KEYS[4]) == 1 then
  redis.call('PERSIST', KEYS[4])
  redis.call('UNLINK', KEYS[1])
  redis.call('RENAME', KEYS[4], KEYS[1])
else
  if ARGV[2] ~= '0' then return false end
  redis.call('UNLINK', KEYS[1])
end
redis.call('DEL', KEYS[3])
redis.call('SET', KEYS[2], ARGV[1])
return ARGV[1]
"""
"""Takes the keys of hash, revision, stream and the built copy; the revision and the number of entries built."""

SOME = """
local found = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
return {found[1], table.concat(found[2], '\\0')}
"""
"""
Takes the key of the hash; a cursor and how many entries. Returns the next cursor, and names and entries in turn
with a zero byte between, which neither can hold: as one value, since a client takes longer to find the beginning of
the next of two hundred thousand values than to read it.
"""
