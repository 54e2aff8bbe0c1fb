-- Removes a writer from the fence, together with the writers past their deadline, and removes the
-- fence if no writer is left. Removes anything else: an entry, a lease, foreign bytes, another type.
-- Returns 1 if the writer was in the fence and its deadline has not passed, else 0.
-- KEYS[1] the slot; ARGV[1] the writer's token
local slot = redis.pcall('GET', KEYS[1])
local fence = ''
local found = 0
local now, latest
if type(slot) == 'string' and string.sub(slot, 1, 6) == 'fence ' then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
  latest = now
  for token, deadline in string.gmatch(slot, ' ([0-7][0-9A-HJKMNP-TV-Z]+)=(%d+)') do
    deadline = tonumber(deadline)
    if #token ~= 26 or deadline >= 2 ^ 53 or deadline <= now then
      -- foreign, as in fence.lua; or its writer has left the fence
    elseif token == ARGV[1] then
      found = 1
    else
      fence = string.format('%s %s=%.0f', fence, token, deadline)
      latest = math.max(latest, deadline)
    end
  end
end
if fence == '' then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], 'fence' .. fence, 'PX', string.format('%.0f', latest - now))
end
return found
