// The controls, and what they show.

const MOST_LOGGED = 12;
const MOST_READS = 500;

const page = {
  last: undefined, // the answer in the diagram
  reads: [], // what is plotted: the last reads
  users: new Map(), // the name of each user created here, by id
  lives: new Map(), // by id: what is known of the entry in the cache
  interval: undefined, // the timer of the next read of a series
  // While these run, the browser has no connection to spare:
  stampede: false,
  race: undefined,
};

const selected = () => byId("id").value.trim();

/* Calls that are shown one by one */

/** Shows an answer everywhere. During a series of calls, only its end is announced to screen readers. */
function show(answer, { announce = true, animate = true } = {}) {
  page.last = answer;
  if (answer.method === "GET" && !page.stampede && !page.race) plot(answer);
  remember(answer);
  drawDiagram(byId("diagram"), answer, { animate });
  byId("said").setAttribute("aria-live", announce ? "polite" : "off");
  byId("said").textContent =
    `${answer.body.data?.Name ? `“${answer.body.data.Name}”. ` : ""}${explain(answer)}`;
  showReads();
  log(answer);
  showLife();
  if (isDegraded(answer)) askHealthSoon();
  return answer;
}

function plot(answer) {
  page.reads = [...page.reads.slice(1 - MOST_READS), measurement(answer)];
}

function showReads() {
  drawPlot(byId("plot"), page.reads);
  showMedians(page.reads);
}

function log({ method, path, status, body, cacheStatus, serverTiming, ms, problem }) {
  const cell = (text) => html("td", {}, text);
  const code = (text) => html("td", { class: "code" }, text);
  const failure = status === 0 || status >= 500 ? (problem ?? body.detail ?? "") : undefined;
  const row = html(
    "tr",
    { class: failure === undefined ? "" : "error" },
    code(`${method} ${shortened(path)}`),
    cell(String(status || "–")),
    cell(body.source ?? ""),
    code(failure ?? cacheStatus),
    code(serverTiming),
    html("td", { class: "number" }, ms.toFixed(1)),
  );
  const rows = byId("log").tBodies[0];
  rows.prepend(row);
  if (rows.rows.length > MOST_LOGGED) rows.lastElementChild.remove();
}

/** A path with the end of its id: ids that were created at about the same time begin alike. */
const shortened = (path) => path.replace(/(users\/).*(.{6})$/, "$1…$2");

/* The life of an entry in the cache */

/** `ttl` is rounded down, so the entry expires within a second more than it says. */
function remember(answer) {
  const id = decodeURIComponent(answer.path.split("/")[3] ?? "");
  if (answer.method === "DELETE" || answer.method === "PATCH") page.lives.delete(id);
  if (answer.cache?.stored) page.lives.set(id, { stored: true });
  if (!answer.cache?.hit || outcome(answer) === "stale") return;
  const life = (Number(answer.cache.ttl) + 1) * 1000;
  const longest = Math.max(page.lives.get(id)?.longest ?? 0, life);
  page.lives.set(id, { expires: performance.now() + life, longest });
}

function showLife() {
  const life = page.lives.get(selected());
  const left = life?.expires ? Math.max(life.expires - performance.now(), 0) : 0;
  byId("life-left").max = life?.longest ?? 1;
  byId("life-left").value = left;
  byId("life-text").textContent = lifeInWords(life, left);
}

function lifeInWords(life, left) {
  if (!life) return "Nothing is known about an entry in the cache.";
  if (life.stored) return "Stored in the cache. The next read tells how long it has left.";
  if (left === 0) return "The entry has expired: the next read goes to the table.";
  return `The entry in the cache expires within ${(left / 1000).toFixed(1)} s.`;
}

/* Users */

function showUsers() {
  const options = [...page.users].map(([id, name]) =>
    html("option", { value: id }, `${name} (…${id.slice(-6)})`),
  );
  byId("users").replaceChildren(...options.reverse());
  byId("users").value = selected();
}

function select(id) {
  byId("id").value = id;
  byId("users").value = id;
  showLife();
}

async function create() {
  const name = byId("new-name").value.trim();
  const answer = show(await createUser(name || undefined));
  if (answer.status !== 201) return;
  byId("new-name").value = "";
  page.users.set(answer.body.RowKey, answer.body.Name);
  select(answer.body.RowKey);
  showUsers();
}

async function rename() {
  const answer = show(await renameUser(selected(), byId("renamed").value));
  if (answer.status !== 200) return;
  byId("renamed").value = "";
  if (page.users.has(answer.body.RowKey)) page.users.set(answer.body.RowKey, answer.body.Name);
  showUsers();
}

async function remove() {
  if (!byId("id").reportValidity()) return;
  const id = selected();
  const answer = show(await deleteUser(id));
  if (answer.status === 204) page.users.delete(id);
  showUsers();
}

/* Reads: one, several, and every so often */

async function burst() {
  if (!byId("id").reportValidity()) return;
  const id = selected();
  const answers = [];
  for (let left = numberIn("burst-size"); left > 0; left -= 1) {
    answers.push(show(await readUser(id), { announce: left === 1, animate: left === 1 }));
  }
  const hits = answers.filter((answer) => sourceOf(answer) === "cache").length;
  byId("said").append(` ${hits} of these ${answers.length} reads were answered from the cache.`);
}

function toggleInterval() {
  if (page.interval === undefined) {
    if (!byId("id").reportValidity()) return;
    readAgainLater(0);
  } else {
    clearTimeout(page.interval);
    page.interval = undefined;
  }
  const isReading = page.interval !== undefined;
  byId("interval-button").setAttribute("aria-pressed", isReading);
  byId("interval-button").textContent = isReading ? "Stop reading" : "Start reading";
}

/** The next read begins when the one before has ended, so that a slow answer is not met with more calls. */
function readAgainLater(pause) {
  page.interval = setTimeout(async () => {
    if (selected()) show(await readUser(selected()), { announce: false });
    if (page.interval !== undefined) readAgainLater(Math.max(numberIn("interval-ms"), 50));
  }, pause);
}

/* Stampede and race */

async function runStampede() {
  byId("stampede-said").textContent = "Reading …";
  page.stampede = true;
  showStampede(await stampede(numberIn("stampede-size")));
  page.stampede = false;
}

async function toggleRace() {
  if (page.race) {
    page.race.running = false;
    return;
  }
  const race = (page.race = new Race());
  byId("race-button").textContent = "Stop";
  byId("race-said").textContent = "Racing …";
  const refresh = (part) => {
    byId("race-progress").value = part;
    showRace(race);
  };
  const created = await race.run({
    seconds: numberIn("race-seconds"),
    writers: numberIn("race-writers"),
    readers: numberIn("race-readers"),
    onProgress: refresh,
  });
  page.race = undefined;
  refresh(1);
  byId("race-button").textContent = "Race";
  byId("race-said").textContent = created.status === 201 ? verdict(race.counts) : explain(created);
}

/* Health */

/** Whether an answer says that Redis or the table does not work. */
const isDegraded = (answer) =>
  ["failed", "unanswered", "stale"].includes(outcome(answer)) || answer.cache?.detail === "cache-unavailable";

let healthTimer;

/** Asks until all works: no request is sent while nothing is wrong. */
function askHealthSoon() {
  healthTimer ??= setTimeout(async () => {
    healthTimer = undefined;
    if (!(await showHealth())) askHealthSoon();
  }, 1000);
}

async function showHealth() {
  const { status, body, problem } = await call("GET", "/api/health");
  const words = body.status ? partsInWords(body) : `The health report failed: ${problem ?? status}.`;
  byId("health").replaceChildren(
    html("b", { class: body.status === "healthy" ? "right" : "wrong" }, capital(body.status ?? "no answer")),
    ` – ${words}`,
  );
  return body.status === "healthy";
}

function partsInWords({ cache, store }) {
  parts.cache = names.cache[cache.kind] ?? cache.kind;
  parts.store = names.store[store.kind] ?? store.kind;
  const state = (part) => (part.status === "ok" ? "works" : "cannot be reached");
  return `cache: ${parts.cache} ${state(cache)}; users: ${parts.store} ${state(store)}.`;
}

/* Wiring */

/** Runs an action when a form is submitted, one at a time. */
function onSubmit(form, action) {
  let isRunning = false;
  byId(form).addEventListener("submit", async (event) => {
    event.preventDefault();
    if (isRunning) return;
    isRunning = true;
    try {
      await action();
    } finally {
      isRunning = false;
    }
  });
}

onSubmit("create", create);
onSubmit("read", async () => show(await readUser(selected())));
onSubmit("burst", burst);
onSubmit("rename", async () => byId("id").reportValidity() && rename());
onSubmit("stampede", runStampede);
byId("race").addEventListener("submit", (event) => (event.preventDefault(), toggleRace()));
byId("interval").addEventListener("submit", (event) => (event.preventDefault(), toggleInterval()));
byId("delete").addEventListener("click", remove);
byId("users").addEventListener("change", (event) => select(event.target.value));
byId("id").addEventListener("input", () => select(selected()));
byId("forget").addEventListener("click", () => {
  page.reads = [];
  showReads();
});
setInterval(showLife, 200);
addEventListener("resize", draw);

function draw() {
  drawDiagram(byId("diagram"), page.last);
  showReads();
}

drawLegend(byId("legend"));
draw();
await showHealth();
draw(); // with the name of the cache, which the health report has
