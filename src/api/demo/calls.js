// Calls of the API, and what their answers say of themselves.

// If the functions require a key, the page has been opened with it, and its calls need it too.
const functionKey = new URLSearchParams(location.search).get("code");

/** Calls the API. What it returns has the status 0 if there was no answer. */
async function call(method, path, { name } = {}) {
  const request = { method, headers: {}, cache: "no-store" };
  if (functionKey) request.headers["x-functions-key"] = functionKey;
  if (name !== undefined) {
    request.headers["content-type"] = "application/json";
    request.body = JSON.stringify({ name });
  }
  const started = performance.now();
  try {
    const response = await fetch(path, request);
    const text = await response.text();
    return { method, path, ms: performance.now() - started, ...read(response, text) };
  } catch (error) {
    return {
      method,
      path,
      ms: performance.now() - started,
      status: 0,
      body: {},
      timing: {},
      problem: error.message,
    };
  }
}

const pathOf = (id) => `/api/users/${encodeURIComponent(id)}`;
const readUser = (id) => call("GET", pathOf(id));
const createUser = (name) => call("POST", "/api/users", { name });
const renameUser = (id, name) => call("PATCH", pathOf(id), { name });
const deleteUser = (id) => call("DELETE", pathOf(id));

function read(response, text) {
  const header = (name) => response.headers.get(name) ?? "";
  return {
    status: response.status,
    body: parseJson(text),
    cacheStatus: header("cache-status"),
    serverTiming: header("server-timing"),
    retryAfter: header("retry-after"),
    cache: parseCacheStatus(header("cache-status")),
    timing: parseServerTiming(header("server-timing")),
  };
}

/** The body, or an empty object: the host answers some calls itself, without one. */
function parseJson(text) {
  try {
    return JSON.parse(text) ?? {};
  } catch {
    return {};
  }
}

/** `cache-aside; hit; ttl=7` as `{hit: true, ttl: "7"}`. A cache in between may have added its own. */
function parseCacheStatus(value) {
  const members = value.split(",").map((member) => member.trim().split(/\s*;\s*/));
  const ours = members.find(([name]) => name === "cache-aside");
  if (!ours) return null;
  const parameters = ours.slice(1).map((parameter) => parameter.split("="));
  return Object.fromEntries(parameters.map(([name, value]) => [name, value ?? true]));
}

/** `cache;dur=0.827, table;dur=4.595` as `{cache: 0.827, table: 4.595}`. */
function parseServerTiming(value) {
  const found = [...value.matchAll(/(\w+);dur=([\d.]+)/g)];
  return Object.fromEntries(found.map(([, name, ms]) => [name, Number(ms)]));
}

/**
 * How a call was answered:
 *
 * - `hit`: the cache had it; `local`: the handler's own copy, without asking the cache
 * - `loaded`: read from the table; `collapsed`: another reader's load was shared
 * - `stale`: a copy past its life, because the table is unavailable
 * - `written`: a write succeeded
 * - `refused`: an error of the client, or a read that reached neither the cache nor the table
 * - `failed`: an error of the server; `unanswered`: no answer
 */
function outcome({ method, status, cache }) {
  if (status === 0) return "unanswered";
  if (status >= 500) return "failed";
  if (cache?.detail === "table-unavailable") return "stale";
  if (cache?.hit) return cache.detail === "local" ? "local" : "hit";
  if (cache?.fwd) return cache.collapsed ? "collapsed" : "loaded";
  return method !== "GET" && status < 400 ? "written" : "refused";
}

/** Which of the sources, as they are coloured, an answer came from. */
function sourceOf(answer) {
  const sources = { hit: "cache", local: "memory", stale: "memory", loaded: "table", collapsed: "table" };
  return sources[outcome(answer)] ?? "error";
}
