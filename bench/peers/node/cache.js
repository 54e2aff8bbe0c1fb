// Users in Redis.

import { Redis } from "ioredis";

/** The key of a user. */
const key = (id) => `user:${id}`;

export class Cache {
  /** `ttl` is in seconds. */
  constructor(url, ttl) {
    this.redis = new Redis(url, {
      // Commands of the same turn of the event loop are sent together.
      enableAutoPipelining: true,
      // While Redis is out of reach, a request fails with the next attempt to connect, instead of
      // waiting for the twentieth.
      maxRetriesPerRequest: 1,
    });
    this.redis.on("error", (error) => console.error(`Redis: ${error.message}`));
    this.ttl = ttl;
  }

  /** The entry, or null. */
  async get(id) {
    const cached = await this.redis.get(key(id));
    return cached === null ? null : JSON.parse(cached);
  }

  /** Caches a user and its entity tag. Returns the entry. */
  async set(id, { etag, user }) {
    const entry = { expires: Date.now() + this.ttl * 1000, etag, user };
    await this.redis.set(key(id), JSON.stringify(entry), "EX", this.ttl);
    return entry;
  }

  async delete(id) {
    await this.redis.del(key(id));
  }
}
