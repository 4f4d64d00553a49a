# SPDX-License-Identifier: GPL-2.0-or-later
"""What runs inside of the engine: Lua scripts, each of which happens as a whole or not at all, and the keys' names.

A queue Q is the stream mqk:{Q}; what belongs to it has {Q} in its name too, so that all lies in one place:

    mqk:{Q}                items: fields i (id), t (time of adding), k (key), v (value), and f (flags, when not 0)
    mqk:{Q}:seen:SOURCE    what came from one source: slot -> turn of the last item that was in it; ~ counts resends
    mqk:{Q}:sources        the sources that there were
    mqk:{Q}:reader         the way back: which host reads the stream, and the name of its positions
    mqk:{Q}:back           consumers: entries that were given back, by the moment (ms) from which they are due
    mqk:{Q}:stats          consumers: counters

A source is one life of a local queue. A slot holds one item at a time, and its turns only grow; an item leaves its slot
when the engine has it for good. So an item whose turn is not higher than the slot's last is one that came before.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

GROUP = "mqueue_kemi"  # the consumer group
RETIRED = 30 * 86400  # seconds that what is known of a source is kept after the next one began


class Script(NamedTuple):
    """A script, and the name that the engine has for it."""

    text: str
    sha: str


def script(text: str) -> Script:
    """A script, with its name."""
    return Script(text, hashlib.sha1(text.encode()).hexdigest())  # noqa: S324 - the engine's own name for it


# KEYS: stream, seen. ARGV: most items in the stream (0: any number), then of each item "slot turn flags id time", key,
# value. Replies {added, dropped}, or {-1, items} when the stream is too full for the batch.
# - It always writes, also when it drops all: by their documentation WAIT and WAITAOF wait for the last write of this
#   connection, and a resend comes over a new one.
# - The first write is to a hash: what the ACL does not allow, or no memory is left for, fails before anything counts.
FORWARD = script("""
local slots, turns, rest = {}, {}, {}
local count = (#ARGV - 1) / 3
for i = 1, count do
  slots[i], turns[i], rest[i] = string.match(ARGV[i * 3 - 1], '^(%d+) (%d+) (.*)$')
end
local seen = count > 0 and redis.call('HMGET', KEYS[2], unpack(slots)) or {}
local new = {}
for i = 1, count do
  if tonumber(turns[i]) > tonumber(seen[i] or '-1') then new[#new + 1] = i end
end
local most = tonumber(ARGV[1])
if most > 0 and #new > 0 then
  local length = redis.call('XLEN', KEYS[1])
  if length + #new > most then return {-1, length} end
end
redis.call('HINCRBY', KEYS[2], '~', count - #new)
local last = {}
for n, i in ipairs(new) do
  local flags, id, time = string.match(rest[i], '^(%d+) (%S+) (%S+)$')
  if flags == '0' then
    redis.call('XADD', KEYS[1], '*', 'i', id, 't', time, 'k', ARGV[i * 3], 'v', ARGV[i * 3 + 1])
  else
    redis.call('XADD', KEYS[1], '*', 'i', id, 't', time, 'k', ARGV[i * 3], 'v', ARGV[i * 3 + 1], 'f', flags)
  end
  last[n * 2 - 1], last[n * 2] = slots[i], turns[i]
end
if #new > 0 then redis.call('HSET', KEYS[2], unpack(last)) end
return {#new, count - #new}
""")
MOST_ITEMS = 1000  # of one call: unpack gives Lua's stack no more than 8000 values

# KEYS: sources, then the key of what was seen of each older source. ARGV: the new source, seconds.
NEW_SOURCE = script("""
redis.call('SADD', KEYS[1], ARGV[1])
for i = 2, #KEYS do
  if redis.call('TTL', KEYS[i]) == -1 then redis.call('EXPIRE', KEYS[i], ARGV[2]) end
end
return 1
""")

# KEYS: reader, stream. ARGV: who wants to read the stream, a new name for its positions, which life of this host it is,
# the last position there ("" if none is known yet), seconds for which another life's claim holds.
# Replies whose it is, the name, and for how many seconds it is another life's.
# - One life at a time: hosts that were cloned with their machine-id are the same by name.
# - A stream whose last id is before the position was deleted and began anew: its positions have another name.
CLAIM = script("""
redis.call('HSETNX', KEYS[1], 'owner', ARGV[1])
redis.call('HSETNX', KEYS[1], 'name', ARGV[2])
local owner, name, life, at = unpack(redis.call('HMGET', KEYS[1], 'owner', 'name', 'life', 'at'))
if owner ~= ARGV[1] then return {owner, name, 0} end
local now = tonumber(redis.call('TIME')[1])
local left = tonumber(at or '0') + tonumber(ARGV[5]) - now
if life and life ~= ARGV[3] and left > 0 and left <= tonumber(ARGV[5]) then return {owner, name, left} end
if ARGV[4] ~= '' and redis.call('EXISTS', KEYS[2]) == 1 then
  local about = redis.call('XINFO', 'STREAM', KEYS[2])
  for i = 1, #about, 2 do
    if about[i] == 'last-generated-id' then
      local ms, seq = string.match(about[i + 1], '^(%d+)-(%d+)$')
      local last_ms, last_seq = string.match(ARGV[4], '^(%d+)-(%d+)$')
      ms, last_ms = tonumber(ms), tonumber(last_ms)
      if ms < last_ms or (ms == last_ms and tonumber(seq) < tonumber(last_seq)) then name = ARGV[2] end
    end
  end
end
redis.call('HSET', KEYS[1], 'name', name, 'life', ARGV[3], 'at', now)
return {owner, name, 0}
""")

# KEYS: reader. ARGV: the life that reads no more.
RELEASE = script("""
if redis.call('HGET', KEYS[1], 'life') == ARGV[1] then redis.call('HDEL', KEYS[1], 'life', 'at') end
return 1
""")


def stream_of(queue: str) -> str:
    """The key of a queue's items."""
    return f"mqk:{{{queue}}}"


def seen_of(queue: str, source: str) -> str:
    """The key of what came to a queue from one source."""
    return f"{stream_of(queue)}:seen:{source}"


def sources_of(queue: str) -> str:
    """The key of the names of all sources of a queue."""
    return f"{stream_of(queue)}:sources"
