"""The Lua scripts, two of which change a key: values pass through them as bytes, no cjson ever.

Rules: every key is declared. Redis does not roll a script back, so a change is written before it is told,
and what fails half-way (a missing right, a key of a wrong type) is taken back before the error is told. What
cannot be had: a user who may neither announce (XADD) nor undo (HDEL what was new, HSET what was deleted)
leaves a write without its event; that is told as UNTOLD. The id that XADD gives is the revision: it rises
strictly, also across a flush or a failover, and it orders the stream that other hosts read.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass

# An empty argument means "no value": encoded JSON is never empty.
_BEGIN = """
local values, order, index, stream = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local key, scope, length = ARGV[1], ARGV[2], ARGV[3]
local old = redis.call('HGET', values, key)
"""

_OVERWRITE = """
  local added = redis.pcall('HSET', values, key, new)
  if added ~= 0 then return added end
  local id = redis.pcall('XADD', stream, 'MAXLEN', '~', length, '*',
    's', scope, 'k', key, 'o', old, 'n', new)
  if type(id) == 'table' then
    if type(redis.pcall('HSET', values, key, old)) == 'table' then
      return {err = 'UNTOLD the change was written and not announced'}
    end
    return id
  end
"""
"""What `write` does to a key that is there and stays, which is what most calls do: in a line, because to make
`write` takes a fifth of a call's time."""

_WRITE = """
local function write(old, new)
  local changed, rank, fault
  if old and new ~= '' then
    local added = redis.pcall('HSET', values, key, new)
    if added == 0 then changed = true else fault = added end
  elseif old or new ~= '' then
    local _
    _, fault = pcall(function()
      if old then
        rank = redis.call('ZSCORE', order, key)
        redis.call('ZREM', order, key)
        redis.call('HDEL', values, key)
        changed = true
        if redis.call('EXISTS', values) == 0 then
          redis.call('DEL', order)
          redis.call('SREM', index, scope)
        end
      else
        rank = (redis.call('ZREVRANGE', order, 0, 0, 'WITHSCORES')[2] or 0) + 1
        redis.call('SADD', index, scope)
        redis.call('ZADD', order, rank, key)
        redis.call('HSET', values, key, new)
        changed = true
      end
    end)
  end
  if not fault then
    local id = redis.pcall('XADD', stream, 'MAXLEN', '~', length, '*',
      's', scope, 'k', key, 'o', old or '', 'n', new)
    if type(id) ~= 'table' then return id end
    fault = id
  end
  local undone
  if changed and old then undone = redis.pcall('HSET', values, key, old) end
  if changed and not old then undone = redis.pcall('HDEL', values, key) end
  if old and rank then
    redis.pcall('ZADD', order, rank, key)
    redis.pcall('SADD', index, scope)
  elseif not old then
    redis.pcall('ZREM', order, key)
    if redis.pcall('EXISTS', values) == 0 then redis.pcall('SREM', index, scope) end
  end
  if type(undone) == 'table' then fault = {err = 'UNTOLD the change was written and not announced'} end
  if type(fault) ~= 'table' then fault = {err = 'ERR Error running script: ' .. fault} end
  return nil, fault
end
"""

_BLIND = """
local new = ARGV[4]
if old and new ~= '' then
%s
  return {id, old}
end
%s
local id, fault = write(old, new)
return fault or {id, old}
"""

_SWAP = """
if (old or '') ~= ARGV[4] then return {false, old} end
local new = ARGV[5]
if old and #ARGV == 5 and new ~= '' then
%s
  return {id}
end
%s
local ids = {}
for i = 5, #ARGV do
  local id, fault = write(old, ARGV[i])
  if fault and i == 5 then return fault end
  ids[#ids + 1] = id or fault
  if fault then return ids end
  old = ARGV[i] ~= '' and ARGV[i]
end
return ids
"""


_LEFT_BEGIN = """
local values, order, index, stream, ends = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local key, scope, length, name, now = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local old = redis.call('HGET', values, key)
local at = redis.call('ZSCORE', ends, name)
"""

_OVER = """
if at and (not old or tonumber(at) <= now) then
  if old then
    local _, fault = write(old, '')
    if fault then return fault end
    old = false
  end
  redis.call('ZREM', ends, name)
  at = false
end
"""
"""The end of the key came: a delete, told before anything else is done. Or another program deleted it."""


@dataclass(frozen=True)
class Script:
    """A script's source, and the packed beginning of the command that calls it by its digest."""

    source: str

    @functools.cached_property
    def call(self) -> bytes:
        """EVALSHA and the digest."""
        return b"$7\r\nEVALSHA\r\n$40\r\n%b\r\n" % hashlib.sha1(self.source.encode()).hexdigest().encode()


BLIND = Script(_BEGIN + _BLIND % (_OVERWRITE, _WRITE))
"""Arguments key, scope, length, new: writes whatever is there; gives [revision id, old]."""

SWAP = Script(_BEGIN + _SWAP % (_OVERWRITE, _WRITE))
"""Arguments key, scope, length, expected, new...: writes all in turn when the current bytes are the expected
ones, and gives their revision ids, the last of which may be the error that ended it; else gives [nil, current
bytes] and changes nothing."""

LEFT_BLIND = Script(
    _LEFT_BEGIN
    + _WRITE
    + _OVER
    + """
local id, fault = write(old, ARGV[6])
if fault then return fault end
if at then redis.call('ZREM', ends, name) end
return {id, old}
"""
)
"""The same as BLIND where keys have ends: arguments key, scope, length, name, now, new."""

LEFT_SWAP = Script(
    _LEFT_BEGIN
    + _WRITE
    + _OVER
    + """
if (old or '') ~= ARGV[6] then return {false, old} end
local ids = {}
for i = 7, #ARGV do
  local id, fault = write(old, ARGV[i])
  if fault and i == 7 then return fault end
  ids[#ids + 1] = id or fault
  if fault then return ids end
  old = ARGV[i] ~= '' and ARGV[i]
  if at and not old then
    redis.call('ZREM', ends, name)
    at = false
  end
end
return ids
"""
)
"""The same as SWAP: arguments key, scope, length, name, now, expected, new..."""

EXPIRE = Script(
    _LEFT_BEGIN
    + _WRITE
    + _OVER
    + """
local time = redis.call('TIME')
local clock = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local made = redis.call('ZSCORE', ends, '')
local age = made and clock + tonumber(made) or 0
if not made then redis.call('ZADD', ends, string.format('%.0f', -clock), '') end
if not old then return {0, '', age} end
if ARGV[6] == '' then
  redis.call('ZREM', ends, name)
  at = ''
elseif ARGV[6] ~= 'keep' then
  redis.call('ZADD', ends, ARGV[6], name)
  at = ARGV[6]
end
return {1, at or '', age}
"""
)
"""Arguments key, scope, length, name, now, end ('': none, 'keep': only tell): gives [whether it is there, its
end, for how many ms the set has been there]."""

LEFT = Script("""
local at = redis.call('ZSCORE', KEYS[2], ARGV[2])
if at and tonumber(at) <= tonumber(ARGV[3]) then return false end
return redis.call('HGET', KEYS[1], ARGV[1])
""")
"""Keys hash and ends, arguments key, name, now: the value, unless the key is over."""

WITH_ORDER = "return {redis.call(ARGV[1], KEYS[1]), redis.call('ZRANGE', KEYS[2], 0, -1)}"
"""What a transaction of the two reads gives, as a script: slower for a large scope."""

PAGE = """
local total = redis.call('HLEN', KEYS[1])
if redis.call('ZCARD', KEYS[2]) ~= total then return false end
local names = redis.call('ZRANGEBYSCORE', KEYS[2], ARGV[1], '+inf', 'LIMIT', 0, ARGV[2])
local found = {}
for i, name in ipairs(names) do
  local value = redis.call('HGET', KEYS[1], name)
  if not value then return false end
  found[2 * i - 1], found[2 * i] = name, value
end
return {found, names[1] and redis.call('ZSCORE', KEYS[2], names[#names]) or '', total}
"""
"""Keys hash and order, arguments first place and most: [names and values in turn, place of the last, keys in
all] at one moment; nil where another program's fields stand in no order."""

CUT = """
local stream, most, fewest = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2])
local memory = redis.pcall('INFO', 'memory')
local limit = type(memory) == 'string' and tonumber(memory:match('maxmemory:(%d+)')) or 0
if limit > 0 then most = math.min(most, limit / tonumber(ARGV[3])) end
local length = redis.call('XLEN', stream)
while length > 1 do
  local used = redis.pcall('MEMORY', 'USAGE', stream, 'SAMPLES', 0)
  if type(used) == 'table' then return redis.call('XTRIM', stream, 'MAXLEN', fewest) end
  if used <= most then return end
  length = length - math.ceil(length / 8)
  redis.call('XTRIM', stream, 'MAXLEN', length)
end
"""
"""Arguments bytes, entries, share: drops the oldest entries of a stream until it takes no more than those
bytes and that share (8: an eighth) of the server's `maxmemory`, and hardly more than it must, because other
hosts may be a little behind; where MEMORY USAGE is not allowed, keeps so many entries."""

SCRIPTS = (BLIND, SWAP, LEFT_BLIND, LEFT_SWAP, EXPIRE, LEFT)
