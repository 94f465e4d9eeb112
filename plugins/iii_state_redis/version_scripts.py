"""The scripts that note versions of keys with each write, and those that read and drop them.

A version is an entry in the stream of its key, under the id of its change. Its one field says what it is and
what was before it: `v` the version before, `m<id>` the key was not there since that id, `g` something that no
host noted, for example a write of a real engine; `d` and `h` are the same as `v` and `g` for a key that is
gone. It is written before the change is told; where that fails the change is taken back.
"""

from __future__ import annotations

from .scripts import EXPIRE, LEFT_BLIND, LEFT_SWAP, Script

_LESS = """
local function less(a, b)
  local m, s = a:match('^(%d+)%-(%d+)$')
  local n, t = b:match('^(%d+)%-(%d+)$')
  m, n = tonumber(m), tonumber(n)
  return m < n or m == n and tonumber(s) < tonumber(t)
end
"""

_KEYS = """
local names, version, clock = KEYS[6], KEYS[7], KEYS[8]
local keep, ahead = ARGV[6], ARGV[7]
local about = #keep > 2 and '~' or '='
"""
"""A hundred versions and more are cut to about as many: an exact cut walks past what was dropped before."""

_USUAL = """
local new = %s
if old and not at and new ~= '' and ahead == '0' then
  local found = redis.pcall('XREVRANGE', version, '+', '-', 'COUNT', 1)
  local last = found[1]
  if last and last[2][2] == old and last[2][1] ~= 'd' and last[2][1] ~= 'h' then
    local added = redis.pcall('HSET', values, key, new)
    if added ~= 0 then return added end
    local id = redis.pcall('XADD', stream, 'MAXLEN', '~', length, '*',
      's', scope, 'k', key, 'o', old, 'n', new)
    local noted = id
    if type(id) ~= 'table' then
      noted = redis.pcall('XADD', version, 'MAXLEN', about, keep, id, 'v', new)
      if type(noted) ~= 'table' then return {id%s} end
      redis.pcall('XDEL', stream, id)
    end
    if type(redis.pcall('HSET', values, key, old)) == 'table' then
      return {err = 'UNTOLD the change was written and not announced'}
    end
    return noted
  end
end
"""
"""What is done to a key that is there and stays, has no end and held its last version, which is what most
calls do: in a line, as `_OVERWRITE` is."""

_NOTE = """
local function note(old, new, id)
  local found = redis.pcall('XREVRANGE', version, '+', '-', 'COUNT', 1)
  if found.err then return found end
  local last = found[1]
  local kind
  if last then
    local was, held = last[2][1], last[2][2]
    local gone = was == 'd' or was == 'h'
    if old then
      kind = not gone and held == old and 'v' or 'g'
    else
      kind = gone and 'm' .. last[1] or 'g'
    end
  else
    kind = old and 'g' or 'm0-0'
    local added = redis.pcall('ZADD', names, 0, name)
    if type(added) == 'table' then return added end
  end
  if new == '' then kind = kind == 'v' and 'd' or 'h' end
  if ahead ~= '0' then
    local since = redis.pcall('ZREVRANGE', clock, 0, 0)
    if since.err then return since end
    if not since[1] or since[1]:match(' (.*)$') ~= ahead then
      local ms, rest = id:match('^(%d+)%-(%d+)$')
      local added = redis.pcall('ZADD', clock, ms, string.format('%s-%07d %s', ms, rest, ahead))
      if type(added) == 'table' then return added end
      redis.pcall('ZREMRANGEBYRANK', clock, 0, -1001)
    end
  end
  local added = redis.pcall('XADD', version, 'MAXLEN', about, keep, id, kind, new)
  if type(added) == 'table' then return added end
end
"""

_TOLD = "    if type(id) ~= 'table' then return id end\n    fault = id\n"
_NOTED = """
    fault = id
    if type(id) ~= 'table' then
      if not old and new == '' then return id end
      fault = note(old, new, id)
      if not fault then return id end
      redis.pcall('XDEL', stream, id)
    end
"""


_AT = "local at = redis.call('ZSCORE', ends, name)"
_AT_IF_ASKED = "local at = now and redis.call('ZSCORE', ends, name)"


def _keeping(script: Script, usual: str = "") -> Script:
    """The script that minds ends, and notes a version of every change; two arguments more."""
    source = script.source
    head = source.index("local function write(")
    rest = source[head:].replace(_TOLD, _NOTED)
    begin = source[:head].replace(_AT, _AT_IF_ASKED)
    for old, new in (("ARGV[6]", "ARGV[8]"), ("for i = 7,", "for i = 9,"), ("i == 7", "i == 9")):
        rest = rest.replace(old, new)
    return Script(begin + _KEYS + usual + _NOTE + rest)


KEPT_BLIND = _keeping(LEFT_BLIND, _USUAL % ("ARGV[8]", ", old"))
KEPT_SWAP = _keeping(LEFT_SWAP, _USUAL % ("#ARGV == 9 and old == ARGV[8] and ARGV[9] or ''", ""))
KEPT_EXPIRE = _keeping(EXPIRE)
"""As LEFT_BLIND, LEFT_SWAP and EXPIRE, with the keys names, version and clock behind the others, and with the
arguments keep and ahead (ms, 0: not) behind `now`, which is '' where no key has an end."""

KEEPING = (KEPT_BLIND, KEPT_SWAP, KEPT_EXPIRE)

SHOW = """
local version, clock = KEYS[1], KEYS[2]
local before, left, keep, room = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local lowest, from, following = '-', '+', ''
local many = redis.call('XLEN', version) - keep
if many > 0 then
  -- The oldest of those that are kept, from the side that has less to pass.
  local passed = many < keep and redis.call('XRANGE', version, '-', '+', 'COUNT', many + 1)
    or redis.call('XREVRANGE', version, '+', '-', 'COUNT', keep)
  lowest = passed[#passed][1]
end
if before ~= '' then
  local found = redis.call('XRANGE', version, before, '+', 'COUNT', 1)[1]
  following, from = found and found[1] or '', '(' .. before
end
local rows = {}
while left > 0 and room > 0 do
  local some = redis.call('XREVRANGE', version, from, lowest, 'COUNT', math.min(left, 50))
  for _, row in ipairs(some) do
    if room > 0 then
      rows[#rows + 1] = row
      room = room - #row[2][2]
      from = '(' .. row[1]
    end
  end
  left = left - #some
  if #some < 50 then break end
end
return {following, rows, redis.call('ZRANGE', clock, 0, -1)}
"""
"""Keys version and clock, arguments before (id or ''), most, keep, bytes: [id of the version that replaced
the first one, or ''; versions, the newest first; the clocks that were ahead]."""

NOW = """
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
return {last and last[1] or '0-0', redis.call('ZRANGE', KEYS[2], 0, -1)}
"""
"""Keys stream and clock: [id of the last change; the clocks that were ahead]."""

THEN = (
    _LESS
    + """
local moment, room = ARGV[1], tonumber(ARGV[2])
local floor = redis.call('GET', KEYS[1]) or ''
local ends = redis.call('ZRANGEBYSCORE', KEYS[2], moment:match('^%d+'), '+inf', 'LIMIT', 0, 64)
for _, one in ipairs(ends) do
  local before, last = one:match('^(%S+) (%S+)$')
  if less(before, moment) and less(moment, last) then moment = before end
end
local from = floor:match('^%S+')
local at = from and less(moment, from) and from or moment
local rows = {}
for i = 5, #KEYS, 2 do
  local version, values, key = KEYS[i], KEYS[i + 1], ARGV[(i + 1) / 2]
  local held = redis.call('XREVRANGE', version, at, '-', 'COUNT', 1)[1] or false
  local after = redis.call('XRANGE', version, '(' .. at, '+', 'COUNT', 1)[1]
  local now = not after and redis.call('HGET', values, key)
  local same = not held and 1 or (now or '') == held[2][2] and 1 or 0
  if held then
    room = room - #held[2][2]
    now = false
  end
  if now then room = room - #now end
  rows[#rows + 1] = {held, after and {after[1], after[2][1]} or false, same, now}
  if room < 0 then break end
end
return {floor, moment, redis.call('ZRANGE', KEYS[3], 0, -1), rows, redis.call('EXISTS', KEYS[4])}
"""
)
"""Keys floor, together, clock and filling, then version and values for each name; arguments moment (id),
bytes, then the key of each name: [floor, moment that splits nothing, the clocks that were ahead, for each
name: the version at that moment (at the floor, where that is later), id and kind of the one that followed,
whether the key holds the last version, the value of a key without any; whether names are missing]. There may
be fewer names than asked for."""

_RAISE = (
    _LESS
    + """
local function raise(floor, id, at)
  local there = redis.call('GET', floor)
  if not there or less(there:match('^%S+'), id) then redis.call('SET', floor, id .. ' ' .. at) end
end
"""
)
RAISE = (
    _RAISE
    + """
if ARGV[3] == 'first' and redis.call('EXISTS', KEYS[1]) == 1 then return end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) + tonumber(ARGV[2])
raise(KEYS[1], ARGV[1], string.format('%.0f', now))
redis.call('SET', KEYS[2], 1)
"""
)
"""Keys floor and filling, arguments id, ahead, 'first' (only where there is none) or '': from now on all is
noted, as soon as the names of all keys are among the others."""

FORGET = (
    _RAISE
    + """
for i = 3, #KEYS, 2 do
  local version, values = KEYS[i], KEYS[i + 1]
  local name, key = ARGV[i + 1], ARGV[i + 2]
  redis.call('XTRIM', version, 'MAXLEN', ARGV[1])
  local newest = redis.call('XREVRANGE', version, '+', '-', 'COUNT', 1)[1]
  local old = newest and redis.call('XREVRANGE', version, ARGV[2], '-', 'COUNT', 1)[1]
  local gone = redis.call('HEXISTS', values, key) == 0
  if not newest then
    if gone then redis.call('ZREM', KEYS[1], name) end
  elseif old and old[1] == newest[1] and (old[2][1] == 'd' or old[2][1] == 'h') then
    if gone then
      redis.call('DEL', version)
      redis.call('ZREM', KEYS[1], name)
      raise(KEYS[2], old[1], ARGV[3])
    end
  elseif old then
    redis.call('XTRIM', version, 'MINID', old[1])
  end
end
"""
)
"""Keys names and floor, then version and values of each name; arguments keep, id of the last change that is
too old, its time at most, then each name and its key: drops what is not shown any more."""

BEGIN_TOGETHER = """
local last = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]
redis.call('SET', KEYS[1], last and last[1] or '0-0')
"""
END_TOGETHER = """
local before = redis.call('GET', KEYS[1])
redis.call('DEL', KEYS[1])
local last = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]
if last and last[1] ~= before then
  redis.call('ZADD', KEYS[3], last[1]:match('^%d+'), before .. ' ' .. last[1])
  redis.call('ZREMRANGEBYRANK', KEYS[3], 0, -10001)
end
"""
"""Keys mark, stream and together, first and last in a transaction: no moment lies between its changes."""
