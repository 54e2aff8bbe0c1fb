-- Adds a writer to the fence that is there, or replaces whatever else is there with a fence. Each
-- writer has a deadline of its own, by this server's clock; the key lives until the latest one. A token
-- that is not a ULID is foreign and left out, and so is a deadline of 2^53 or more, where the numbers of Lua
-- are not exact: otherwise readers would take the new fence for foreign, too.
-- KEYS[1] the slot; ARGV[1] the writer's token, ARGV[2] its TTL in milliseconds
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local latest = now + ARGV[2]
local fence = string.format('fence %s=%.0f', ARGV[1], latest)

local slot = redis.pcall('GET', KEYS[1])
if type(slot) == 'string' and string.sub(slot, 1, 6) == 'fence ' then
  for token, deadline in string.gmatch(slot, ' ([0-7][0-9A-HJKMNP-TV-Z]+)=(%d+)') do
    deadline = tonumber(deadline)
    local is_ours = #token == 26 and deadline < 2 ^ 53
    if is_ours and token ~= ARGV[1] and deadline > now then
      fence = string.format('%s %s=%.0f', fence, token, deadline)
      latest = math.max(latest, deadline)
    end
  end
end
redis.call('SET', KEYS[1], fence, 'PX', string.format('%.0f', latest - now))
return 1
