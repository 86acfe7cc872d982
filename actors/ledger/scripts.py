"""The ledger's steps in Redis, each one script and so atomic. What they decide is in words in `rules.py`.

Keys hold the server's run id: after a restart, with whatever data, the old ones are not read any more. Each script
is told the run id that its caller knows, and answers `RUN` with the true one when that is another; it answers
`MISSING` when a bucket is not there, which is then read from SQL (`SEED`). A hold lists the buckets that count it.
"""

_RUN = """
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
if run ~= ARGV[1] then return {'RUN', run} end
local function whole(n) return string.format('%.0f', n) end
local function number(v) return tonumber(v or '0') end
local function split(text)
  local found = {}
  for name in string.gmatch(text or '', '[^\\n]+') do found[#found + 1] = name; found[name] = true end
  return found
end
local OPEN = {reserved = true, dispatched = true}
"""

ADMIT = (
    _RUN
    + """
-- KEYS: hold, due, buckets.  ARGV: run, attempt, asked, amount, least, until, hold ttl, target, n; names, limits, ttls;
--   dear
local asked, amount, least, n = number(ARGV[3]), number(ARGV[4]), number(ARGV[5]), number(ARGV[9])
local function arg(part, i) return ARGV[9 + part * n + i] end
local old = redis.call('HMGET', KEYS[1], 'state', 'asked', 'amount', 'charged', 'buckets')
local counted = split(old[5])
local open = {}
for i = 1, n do if not counted[arg(0, i)] then open[#open + 1] = i end end
if old[1] then
  if old[2] ~= ARGV[3] or not OPEN[old[1]] then return {'KNOWN', old[1], old[2], old[3], old[4]} end
  if #open == 0 then
    if ARGV[8] == 'dispatched' then redis.call('HSET', KEYS[1], 'state', 'dispatched') end
    return {'KNOWN', old[1], old[2], old[3], old[4]}
  end
  amount, least = number(old[3]), number(old[3])
end
local granted, full, for_good, paused = amount, nil, nil, nil
for _, i in ipairs(open) do
  local v = redis.call('HMGET', KEYS[2 + i], 's', 'r', 'f')
  if not v[1] then return {'MISSING'} end
  local s, r, limit = number(v[1]), number(v[2]), number(arg(1, i))
  if v[3] == 'suspended' then return {'DENIED', arg(0, i), v[1], v[2], arg(1, i), v[3], '0'} end
  if v[3] == 'paused' and arg(3, 1) == '1' then
    paused = paused or {'DENIED', arg(0, i), v[1], v[2], arg(1, i), v[3], '0'}
  end
  if limit >= 0 then
    local room = limit - s - r
    if room < granted then granted = room end
    if room < least then
      full = full or {'DENIED', arg(0, i), v[1], v[2], arg(1, i), '', '1'}
      if limit - s < least then for_good = for_good or {'DENIED', arg(0, i), v[1], v[2], arg(1, i), '', '0'} end
    end
  end
end
if paused then return paused end
if full then return for_good or full end
for _, i in ipairs(open) do
  redis.call('HINCRBY', KEYS[2 + i], 'r', whole(granted))
  redis.call('PEXPIRE', KEYS[2 + i], arg(2, i))
  counted[#counted + 1] = arg(0, i)
end
local state = (old[1] == 'dispatched') and 'dispatched' or ARGV[8]
redis.call('HSET', KEYS[1], 'state', state, 'asked', ARGV[3], 'amount', whole(granted), 'charged', '0',
  'buckets', table.concat(counted, '\\n'), 'all', table.concat(ARGV, '\\n', 10, 9 + n), 'until', ARGV[6])
redis.call('PEXPIRE', KEYS[1], ARGV[7])
redis.call('ZADD', KEYS[2], ARGV[6], ARGV[2])
return {'OK', whole(granted)}
"""
)

FINISH = (
    _RUN
    + """
-- KEYS: hold, due, buckets.  ARGV: run, attempt, state, charged, only; names
local RANK = {reserved = 1, dispatched = 2, released = 3, expired = 4, settled = 5}
for i = 3, #KEYS do if redis.call('EXISTS', KEYS[i]) == 0 then return {'MISSING'} end end
local old = redis.call('HMGET', KEYS[1], 'state', 'amount', 'charged', 'buckets')
if not old[1] then return {'UNKNOWN'} end
if RANK[ARGV[3]] <= RANK[old[1]] then return {'OLD', old[1]} end
if ARGV[5] ~= '' and old[1] ~= ARGV[5] then return {'NOT', old[1]} end
local counted = split(old[4])
local held = (OPEN[old[1]] and not OPEN[ARGV[3]]) and -number(old[2]) or 0
local more = number(ARGV[4]) - number(old[3])
for i = 3, #KEYS do
  if counted[ARGV[3 + i]] then
    redis.call('HINCRBY', KEYS[i], 'r', whole(held))
    redis.call('HINCRBY', KEYS[i], 's', whole(more))
  end
end
redis.call('HSET', KEYS[1], 'state', ARGV[3], 'charged', ARGV[4])
if not OPEN[ARGV[3]] then redis.call('ZREM', KEYS[2], ARGV[2]) end
return {'OK'}
"""
)

SEED = (
    _RUN
    + """
-- KEYS: due, buckets, holds.  ARGV: run, buckets, holds; (name, spent, flag, ttl)...;
--   (attempt, state, asked, amount, charged, until, ttl, all names)...
local nb, nh = number(ARGV[2]), number(ARGV[3])
local fresh = {}
for i = 1, nb do
  local at, key = 3 + (i - 1) * 4, KEYS[1 + i]
  if redis.call('EXISTS', key) == 0 then
    redis.call('HSET', key, 's', ARGV[at + 2], 'r', '0', 'f', ARGV[at + 3])
    redis.call('PEXPIRE', key, ARGV[at + 4])
    fresh[ARGV[at + 1]] = key
  end
end
for i = 1, nh do
  local at, key = 3 + nb * 4 + (i - 1) * 8, KEYS[1 + nb + i]
  local all = split(ARGV[at + 8])
  for _, name in ipairs(all) do
    local bucket = fresh[name]
    if bucket then
      local h = redis.call('HMGET', key, 'state', 'amount', 'charged', 'buckets')
      if not h[1] then
        h = {ARGV[at + 2], ARGV[at + 4], ARGV[at + 5], ''}
        redis.call('HSET', key, 'state', h[1], 'asked', ARGV[at + 3], 'amount', h[2], 'charged', h[3],
          'buckets', '', 'all', ARGV[at + 8], 'until', ARGV[at + 6])
        redis.call('PEXPIRE', key, ARGV[at + 7])
        if OPEN[h[1]] then redis.call('ZADD', KEYS[1], ARGV[at + 6], ARGV[at + 1]) end
      end
      if OPEN[h[1]] then redis.call('HINCRBY', bucket, 'r', h[2]) end
      redis.call('HINCRBY', bucket, 's', whole(number(h[3]) - number(ARGV[at + 5])))
      if not split(h[4])[name] then
        redis.call('HSET', key, 'buckets', (h[4] == '' or not h[4]) and name or (h[4] .. '\\n' .. name))
      end
    end
  end
end
return {'OK'}
"""
)

READ = (
    _RUN
    + """
-- KEYS: buckets.  ARGV: run
local found = {'OK'}
for i = 1, #KEYS do
  local v = redis.call('HMGET', KEYS[i], 's', 'r', 'f')
  if not v[1] then return {'MISSING'} end
  found[#found + 1] = v
end
return found
"""
)

FLAG = (
    _RUN
    + """
-- KEYS: bucket.  ARGV: run, flag
if redis.call('EXISTS', KEYS[1]) == 0 then return {'MISSING'} end
redis.call('HSET', KEYS[1], 'f', ARGV[2])
return {'OK'}
"""
)

DUE = (
    _RUN
    + """
-- KEYS: due.  ARGV: run, now, most
local found = {'OK'}
for _, attempt in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[2], 'LIMIT', 0, ARGV[3])) do
  found[#found + 1] = attempt
end
return found
"""
)

HOLD = (
    _RUN
    + """
-- KEYS: hold.  ARGV: run
local h = redis.call('HMGET', KEYS[1], 'state', 'asked', 'amount', 'charged', 'all', 'until')
if not h[1] then return {'UNKNOWN'} end
return {'OK', h[1], h[2], h[3], h[4], h[5], h[6]}
"""
)
