// Many readers of a user who is not cached, at once.

// One letter for each way, so that the cells can be told apart without colour.
const READERS = {
  loaded: ["T", "table", "read the table"],
  collapsed: ["S", "table", "shared another reader’s load"],
  hit: ["C", "cache", "found it in the cache"],
  local: ["L", "memory", "got the handler’s own copy"],
  stale: ["O", "memory", "got a stale copy"],
  failed: ["E", "error", "got an error"],
};

/** Lets that many readers read a new user, and returns how each was answered, in the order sent. */
async function stampede(readers) {
  const created = await createUser("Stampede");
  const id = created.body.RowKey;
  if (!id) return { created, outcomes: [] };
  const answers = await Promise.all(Array.from({ length: readers }, () => readUser(id)));
  await deleteUser(id);
  const known = (answer) => (outcome(answer) in READERS ? outcome(answer) : "failed");
  return { created, outcomes: answers.map(known) };
}

function showStampede({ created, outcomes }) {
  const cells = outcomes.map((kind) => html("span", { class: READERS[kind][1] }, READERS[kind][0]));
  byId("stampede-cells").replaceChildren(...cells);
  const count = (kind) => outcomes.filter((outcome) => outcome === kind).length;
  const rows = Object.entries(READERS)
    .filter(([kind]) => count(kind) || ["loaded", "collapsed", "hit"].includes(kind))
    .map(([kind, [letter, source, text]]) => [`${letter}: ${text}`, count(kind), source]);
  showCounts(byId("stampede-counts"), outcomes.length ? rows : []);
  byId("stampede-said").textContent = outcomes.length
    ? `Of ${outcomes.length} readers, ${count("loaded")} read the table.`
    : explain(created);
}
