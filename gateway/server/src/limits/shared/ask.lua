-- Takes what is asked of several limits, all of it or nothing, by Redis' own clock. The arithmetic is tenancy::limit's, in
-- whole microseconds, which Lua's numbers hold exactly until the year 2255.
-- KEYS: the limits. ARGV, for each: what must fit (0: it is never refused), what is taken, the capacity, and the highest level
-- that there can be: a clock that was set back must not make a debt of nothing.
-- Returns which limit refuses (0: none) and how long it will, then each limit's level afterwards.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local refuses, wait = 0, 0
local answer = {0, 0}
for i = 1, #KEYS do
  local need, capacity, highest = tonumber(ARGV[4 * i - 3]), tonumber(ARGV[4 * i - 1]), tonumber(ARGV[4 * i])
  local level = math.min(math.max(tonumber(redis.call('GET', KEYS[i]) or '0') - now, 0), highest)
  if refuses == 0 and need > 0 and level + need > capacity then
    refuses, wait = i, level + need - capacity
  end
  answer[i + 2] = level
end
if refuses == 0 then
  for i = 1, #KEYS do
    local take = tonumber(ARGV[4 * i - 2])
    if take > 0 then
      local level = math.min(answer[i + 2] + take, tonumber(ARGV[4 * i]))
      redis.call('SET', KEYS[i], string.format('%.0f', now + level), 'PX', math.ceil(level / 1000) + 1)
      answer[i + 2] = level
    end
  end
end
answer[1], answer[2] = refuses, wait
return answer
