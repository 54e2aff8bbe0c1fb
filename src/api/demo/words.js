// What answers say, in words.

// Which cache and store they are, as the health report says.
const parts = { cache: "the cache", store: "the table" };
const names = {
  cache: { redis: "Redis", memory: "the cache in process" },
  store: { table: "the table", memory: "the store in process" },
};

const capital = (text) => text[0].toUpperCase() + text.slice(1);

function inMilliseconds(ms) {
  if (ms === undefined) return "";
  return `${ms.toFixed(ms < 10 ? 2 : ms < 100 ? 1 : 0)} ms`;
}

/** One or two sentences about an answer. */
function explain(answer) {
  const words = { hit, local, loaded, collapsed, stale, written, refused, failed, unanswered };
  const missing = answer.method === "GET" && answer.status === 404 && answer.cache;
  const what = missing ? "There is no such user. " : "";
  return `${what}${words[outcome(answer)](answer)}`;
}

const hit = ({ cache }) =>
  `${capital(parts.cache)} had the answer. The entry expires within ${Number(cache.ttl) + 1} s.`;

const local = ({ cache }) =>
  `The handler used its own copy, without asking ${parts.cache}. It expires within ${Number(cache.ttl) + 1} s.`;

function loaded({ cache }) {
  const why = {
    fence: `A writer is changing the user, so ${parts.cache} is bypassed`,
    lease: "Another handler was loading for too long",
    "cache-unavailable": `${capital(parts.cache)} did not answer. No request fails because of that`,
  };
  const because = why[cache.detail] ?? `${capital(parts.cache)} did not have it`;
  const stored = cache.stored ? `is stored in ${parts.cache} now` : "was not stored";
  return `${because}: the answer comes from ${parts.store}, and ${stored}.`;
}

const collapsed = () => "Another reader was loading the user: this read shares its answer.";

const stale = ({ cache }) =>
  `${capital(parts.store)} cannot be reached. This is a copy, which may be out of date${expired(cache)}. ` +
  "The answer says so in Cache-Status.";

const expired = ({ ttl }) => (Number(ttl) < 0 ? `: it expired ${-Number(ttl)} s ago` : "");

function written({ method, body }) {
  const done = { POST: "Created", PATCH: "Renamed", DELETE: "Deleted" }[method];
  const name = body.Name ? ` “${body.Name}”` : "";
  const then = method === "POST" ? "" : ` No read that begins now returns what was there before.`;
  return `${done}${name}.${then}`;
}

function refused({ status, body }) {
  return `Refused with ${status} ${body.status ?? ""}${body.detail ? `: ${body.detail}` : ""}.`;
}

function failed({ status, body, retryAfter }) {
  const detail = body.detail ? `: ${body.detail}` : "";
  const again = retryAfter ? ` Retry-After: ${retryAfter} s.` : "";
  return `Failed with ${status} ${body.status ?? ""}${detail}.${again}`;
}

const unanswered = ({ problem }) => `No answer (${problem}). Is the handler running?`;
