-- Places a lease if nothing is there. Returns what is there afterwards.
-- KEYS[1] the slot; ARGV[1] the lease, ARGV[2] its TTL in milliseconds
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then
  return ARGV[1]
end
-- Redis 6 would hide the code of an error, WRONGTYPE, that `call` raises.
return redis.pcall('GET', KEYS[1])
