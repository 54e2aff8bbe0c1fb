-- Adds a writer to the fence that is there, or replaces whatever else is there with a fence. Each
-- writer has a deadline of its own, by this server's clock; the key lives until the latest one.
-- KEYS[1] the slot; ARGV[1] the writer's token, ARGV[2] its TTL in milliseconds
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local latest = now + ARGV[2]
local fence = string.format('fence %s=%.0f', ARGV[1], latest)

local slot = redis.pcall('GET', KEYS[1])
if type(slot) == 'string' and string.sub(slot, 1, 6) == 'fence ' then
  for token, deadline in string.gmatch(slot, ' (%w+)=(%d+)') do
    deadline = tonumber(deadline)
    if token ~= ARGV[1] and deadline > now then
      fence = string.format('%s %s=%.0f', fence, token, deadline)
      latest = math.max(latest, deadline)
    end
  end
end
redis.call('SET', KEYS[1], fence, 'PX', string.format('%.0f', latest - now))
return 1
