-- Reads of users of the series G at random: the number of users is the argument. `user_id` in table.rs
-- makes the same ids.

local digits = {}
for value = 0, 31 do
  digits[value] = ("0123456789ABCDEFGHJKMNPQRSTVWXYZ"):sub(value + 1, value + 1)
end

local MILLION = 1000000
local users, random = 1, math.random

function init(arguments)
  users = tonumber(arguments[1])
  math.randomseed(1)
end

function request()
  -- The same work for each number of users.
  local n = random(0, MILLION - 1) % users
  local d = n % 32
  n = (n - d) / 32
  local c = n % 32
  n = (n - c) / 32
  local b = n % 32
  local a = (n - b) / 32
  return "GET /api/users/01BENCHG00000000000000" .. digits[a] .. digits[b] .. digits[c] .. digits[d]
    .. " HTTP/1.1\r\nHost: localhost\r\n\r\n"
end
