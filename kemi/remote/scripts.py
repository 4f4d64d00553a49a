# SPDX-License-Identifier: GPL-2.0-or-later
"""The consumers' scripts: each happens in the engine as a whole or not at all.

Items lie in the queue's stream (see `kemi.relay.scripts`) until they are done. Who has reserved one is in the pending
entries of the consumer group; a consumer that does not renew its lease loses them. What was given back belongs to the
consumer "~" and has its moment in the sorted set `back`: the moment from which it is due, or when it was added where it
is due at once, so that these come in order, ahead of the others.

KEYS are always stream, back, stats, and the queue for dead letters (or the stream again, where there is none).
"""

from __future__ import annotations

from kemi.relay.scripts import script

# What several of them need. Replies of the engine to Lua: false for nothing.
_COMMON = """
local stream, back, stats, dead = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local group, nobody = 'mqueue_kemi', '~'
local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
local function parts(id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(seq)
end
local function before(one, other)
  local a, b = parts(one)
  local c, d = parts(other)
  if a ~= c then return a < c end
  return b < d
end
local function count(name, by) -- a counter that cannot be written (of another program, no memory) stops nothing
  redis.pcall('HINCRBY', stats, name, by)
end
local function pending(id)
  local found = redis.call('XPENDING', stream, group, id, id, 1)
  return found[1]
end
local function remove(id)
  redis.call('XACK', stream, group, id)
  redis.call('XDEL', stream, id)
  redis.call('ZREM', back, id)
end
local function bury(id, reason)
  local found = redis.call('XRANGE', stream, id, id)[1]
  if found and dead ~= stream then
    local fields, has_id = found[2], false
    for i = 1, #fields, 2 do has_id = has_id or fields[i] == 'i' end
    if not has_id then fields[#fields + 1] = 'i'; fields[#fields + 1] = id end
    redis.call('XADD', dead, '*', 'r', reason, unpack(fields))
    count('dead_lettered', 1)
  else
    count('dropped', 1)
  end
  remove(id)
end
"""

# ARGV: consumer, most items, lease (ms), most deliveries (0: any number), 1 = look for leases that are over.
# Replies {id, deliveries, fields} for each.
TAKE = script(
    _COMMON
    + """
local me, count, lease, most = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local found = {}
local function claim(id)
  local before = pending(id)
  if before and most > 0 and before[4] >= most and dead ~= stream then
    bury(id, before[4] .. ' deliveries')
    return
  end
  local entry = redis.call('XCLAIM', stream, group, me, 0, id)[1]
  redis.call('ZREM', back, id)
  if not entry then
    redis.call('XACK', stream, group, id)
    return
  end
  found[#found + 1] = {id, (before and before[4] or 0) + 1, entry[2]}
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', back, '-inf', now(), 'LIMIT', 0, count)) do claim(id) end
if ARGV[5] == '1' and #found < count then
  local over = {}
  for _, one in ipairs(redis.call('XINFO', 'CONSUMERS', stream, group)) do
    local about = {}
    for i = 1, #one, 2 do about[one[i]] = one[i + 1] end
    if about.name ~= nobody and about.pending > 0 then
      local held = redis.call('XPENDING', stream, group, 'IDLE', lease, '-', '+', count - #found, about.name)
      for _, entry in ipairs(held) do over[#over + 1] = entry[1] end
    elseif about.name ~= nobody and about.name ~= me and about.idle > 86400000 then
      redis.call('XGROUP', 'DELCONSUMER', stream, group, about.name)
    end
  end
  table.sort(over, before)
  for i = 1, math.min(#over, count - #found) do claim(over[i]) end
end
if #found < count then
  local fresh = redis.call('XREADGROUP', 'GROUP', group, me, 'COUNT', count - #found, 'STREAMS', stream, '>')
  if fresh then
    for _, entry in ipairs(fresh[1][2]) do found[#found + 1] = {entry[1], 1, entry[2]} end
  end
end
return found
"""
)

# ARGV: consumer, what ("done", "give back", "reject"), seconds to wait, 1 = this delivery counts, reason, ids.
# Replies which of them were not the consumer's.
SETTLE = script(
    _COMMON
    + """
local me, what, after, counted, reason = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4] == '1', ARGV[5]
local lost = {}
for n = 6, #ARGV do
  local id = ARGV[n]
  local held = pending(id)
  if not held or held[2] ~= me then
    lost[#lost + 1] = id
  else
    if what == 'done' then
      remove(id)
      count('fetched', 1)
    elseif what == 'reject' then
      bury(id, reason)
    else
      local deliveries = held[4]
      if not counted then deliveries = math.max(0, deliveries - 1) end
      redis.call('XCLAIM', stream, group, nobody, 0, id, 'RETRYCOUNT', deliveries, 'JUSTID')
      local ms, seq = parts(id)
      local due = ms + math.min(seq, 4095) / 4096
      if after > 0 then due = now() + after * 1000 end
      redis.call('ZADD', back, string.format('%.4f', due), id)
    end
  end
end
return lost
"""
)

# ARGV: consumer, ids. Replies how many of them are still the consumer's; its lease begins anew.
RENEW = script(
    _COMMON
    + """
local kept = 0
for n = 2, #ARGV do
  local held = pending(ARGV[n])
  if held and held[2] == ARGV[1] then
    redis.call('XCLAIM', stream, group, ARGV[1], 0, ARGV[n], 'RETRYCOUNT', held[4], 'JUSTID')
    kept = kept + 1
  end
end
return kept
"""
)

# ARGV: most items in the queue (0: any number), then of each item "flags time", key, value.
# Replies how many were added, the first ones; the others are too many.
ADD = script(
    _COMMON
    + """
local most, added = tonumber(ARGV[1]), 0
local length = redis.call('XLEN', stream)
for n = 2, #ARGV, 3 do
  if most > 0 and length + added >= most then break end
  local flags, time = string.match(ARGV[n], '^(%d+) (%S+)$')
  if flags == '0' then
    redis.call('XADD', stream, '*', 't', time, 'k', ARGV[n + 1], 'v', ARGV[n + 2])
  else
    redis.call('XADD', stream, '*', 't', time, 'k', ARGV[n + 1], 'v', ARGV[n + 2], 'f', flags)
  end
  added = added + 1
end
count('added', added)
if added * 3 < #ARGV - 1 then count('refused', (#ARGV - 1) / 3 - added) end
return added
"""
)

# ARGV: most items (0: all), 1 = also those that are reserved. Replies {id, fields} for each.
PEEK = script(
    _COMMON
    + """
local count, held = tonumber(ARGV[1]), {}
if ARGV[2] ~= '1' then
  for _, entry in ipairs(redis.call('XPENDING', stream, group, '-', '+', 1000000)) do held[entry[1]] = true end
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', back, '-inf', now())) do held[id] = nil end
end
local found, from = {}, '-'
repeat
  local some = redis.call('XRANGE', stream, from, '+', 'COUNT', 1000)
  for _, entry in ipairs(some) do
    if not held[entry[1]] and (count == 0 or #found < count) then found[#found + 1] = entry end
    from = '(' .. entry[1]
  end
until #some < 1000 or (count > 0 and #found >= count)
return found
"""
)

# Replies items, pending ones, given back and due, given back and not yet due, ever added (-1: not known), the counters.
STATS = script(
    _COMMON
    + """
local all = redis.call('ZCARD', back)
local due = redis.call('ZCOUNT', back, '-inf', now())
local held = redis.call('XPENDING', stream, group)
local added, about = -1, redis.call('XINFO', 'STREAM', stream)
for i = 1, #about, 2 do
  if about[i] == 'entries-added' then added = about[i + 1] end
end
local counters = redis.pcall('HGETALL', stats)
return {redis.call('XLEN', stream), held[1], due, all - due, added, counters.err and {} or counters}
"""
)
