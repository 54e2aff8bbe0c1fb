-- Removes the lease, if it is still there.
-- KEYS[1] the slot; ARGV[1] the lease
if redis.pcall('GET', KEYS[1]) == ARGV[1] then
  redis.call('DEL', KEYS[1])
end
return 1
