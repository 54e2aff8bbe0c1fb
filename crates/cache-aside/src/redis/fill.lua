-- Replaces the lease with the entry, if that lease is still there. Returns 1 if it did, else 0.
-- KEYS[1] the slot; ARGV[1] the lease, ARGV[2] the entry, ARGV[3] its TTL in milliseconds
if redis.pcall('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
