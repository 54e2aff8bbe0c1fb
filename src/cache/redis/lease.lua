-- If nothing is there, puts a lease. Answers what is there now.
-- KEYS[1] the slot; ARGV[1] the lease, ARGV[2] its time to live in milliseconds
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then
  return ARGV[1]
end
return redis.call('GET', KEYS[1])
