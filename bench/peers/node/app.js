// The calls: plain cache-aside, with the handler's responses.

import { STATUS_CODES } from "node:http";

import Fastify from "fastify";

import { Cache } from "./cache.js";
import { Table } from "./table.js";
import {
  BadRequest,
  parseId,
  parseJson,
  parseName,
  newUser,
  randomName,
  userWith,
} from "./user.js";

const HEADERS = { "content-type": "application/json", "cache-control": "private, no-cache" };

export async function createApp(settings) {
  const cache = new Cache(settings.REDIS_URL, Number(settings.CACHE_TTL ?? 10));
  const table = new Table(settings.USERS_TABLE_CONNECTION);
  await table.create();

  const app = Fastify({ logger: false });
  // A body is JSON, whatever its content type; that of a POST may be empty.
  app.removeAllContentTypeParsers();
  app.addContentTypeParser("*", { parseAs: "string" }, async (_request, body) => parseJson(body));

  app.post("/api/users", async (request, reply) => {
    const user = newUser(parseName(request.body) ?? randomName());
    const start = performance.now();
    const etag = await table.insert(user);
    const headers = timing(null, performance.now() - start);
    headers.location = `/api/users/${user.RowKey}`;
    headers.etag = etag;
    return send(reply, 201, user, headers);
  });

  app.get("/api/users/:id", async (request, reply) => {
    const given = request.params.id;
    const id = parseId(given);
    if (id === null) return notFound(reply, given);

    const start = performance.now();
    const cached = await cache.get(id);
    let cacheTime = performance.now() - start;
    if (cached !== null) {
      const ttl = Math.floor((cached.expires - Date.now()) / 1000);
      const headers = timing(cacheTime, null);
      headers["cache-status"] = `cache-aside; hit; ttl=${ttl}`;
      return found(request, reply, "redis", cached, headers);
    }

    const missed = performance.now();
    const row = await table.get(id);
    const loaded = performance.now();
    if (row === null) {
      const headers = timing(cacheTime, loaded - missed);
      headers["cache-status"] = "cache-aside; fwd=miss";
      return notFound(reply, given, headers);
    }
    const entry = await cache.set(id, row);
    cacheTime += performance.now() - loaded;
    const headers = timing(cacheTime, loaded - missed);
    headers["cache-status"] = "cache-aside; fwd=miss; stored";
    return found(request, reply, "table", entry, headers);
  });

  app.patch("/api/users/:id", async (request, reply) => {
    const name = parseName(request.body);
    if (name === null) throw new BadRequest("name is missing");
    const id = parseId(request.params.id);
    if (id === null) return notFound(reply, request.params.id);

    const user = userWith(id, name);
    const start = performance.now();
    const etag = await table.merge(user);
    if (etag === null) return notFound(reply, request.params.id);
    const written = performance.now();
    await cache.delete(id);
    const headers = timing(performance.now() - written, written - start);
    headers.etag = etag;
    return send(reply, 200, user, headers);
  });

  app.delete("/api/users/:id", async (request, reply) => {
    const id = parseId(request.params.id);
    if (id === null) return notFound(reply, request.params.id);

    const start = performance.now();
    const existed = await table.delete(id);
    if (!existed) return notFound(reply, request.params.id);
    const deleted = performance.now();
    await cache.delete(id);
    return send(reply, 204, null, timing(performance.now() - deleted, deleted - start));
  });

  app.get("/api/live", async (_request, reply) => send(reply, 200, { status: "alive" }));

  app.setNotFoundHandler((_request, reply) => sendError(reply, 404, "there is no such call"));
  app.setErrorHandler((error, _request, reply) => {
    // Fastify refuses requests, too: those with a body that is too large, for example.
    if (error instanceof BadRequest || (error.code?.startsWith("FST_") && error.statusCode < 500)) {
      return sendError(reply, error.statusCode, error.message);
    }
    console.error(`${error.name}: ${error.message}`);
    return sendError(reply, 500, "Redis or the table cannot be used: see the log");
  });
  return app;
}

/** The user, or 304 if the client has this version. */
function found(request, reply, source, { etag, user }, headers) {
  headers.etag = etag;
  const tags = request.headers["if-none-match"];
  if (tags !== undefined && matches(tags, etag)) return send(reply, 304, null, headers);
  return send(reply, 200, { source, data: user }, headers);
}

function notFound(reply, given, headers) {
  return send(reply, 404, { user_id: given, status: "Not found" }, headers);
}

function sendError(reply, code, detail) {
  const [first, ...rest] = STATUS_CODES[code];
  return send(reply, code, { status: first + rest.join("").toLowerCase(), detail });
}

/** Whether one of these entity tags is this one, compared weakly. */
function matches(tags, etag) {
  const opaque = (tag) => tag.trim().replace(/^W\//, "");
  return tags.trim() === "*" || tags.split(",").some((tag) => opaque(tag) === opaque(etag));
}

function timing(cache, table) {
  const parts = [];
  if (cache !== null) parts.push(`cache;dur=${cache.toFixed(3)}`);
  if (table !== null) parts.push(`table;dur=${table.toFixed(3)}`);
  return { "server-timing": parts.join(", ") };
}

function send(reply, status, body, headers) {
  reply.code(status).headers(HEADERS);
  if (headers !== undefined) reply.headers(headers);
  // Bytes, because Fastify adds a charset to the content type of text.
  return reply.send(body === null ? undefined : Buffer.from(JSON.stringify(body)));
}
