-- Counts a failed login, of all whose it is, by Redis' own clock; or none of them, where one has to wait until he may fail again.
-- The arithmetic is tenancy::limit's, as in ask.lua.
-- KEYS: whose failures, each kept as the moment at which all are forgiven and the one until which the door is shut. ARGV: the
-- longest wait; then for each what one failure costs, the capacity, and the highest level that there can be.
-- Returns who has to wait (0: nobody) and how long.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local longest = tonumber(ARGV[1])
local levels, waits = {}, {}
for i = 1, #KEYS do
  local forgiven, shut = string.match(redis.call('GET', KEYS[i]) or '', '^(%d+) (%d+)$')
  levels[i] = math.max(tonumber(forgiven or '0') - now, 0)
  waits[i] = math.min(math.max(tonumber(shut or '0') - now, 0), longest)
  if waits[i] > 0 then
    return {i, waits[i]}
  end
end
for i = 1, #KEYS do
  local cost, capacity, highest = tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i]), tonumber(ARGV[3 * i + 1])
  local level = math.min(levels[i] + cost, highest)
  local over = math.ceil(math.max(level - capacity, 0) / cost)
  local wait = 0
  if over > 0 then
    wait = math.min(1000000 * 2 ^ (over - 1), longest)
  end
  local kept = math.max(level, wait)
  redis.call('SET', KEYS[i], string.format('%.0f %.0f', now + level, now + wait), 'PX', math.ceil(kept / 1000) + 1)
end
return {0, 0}
