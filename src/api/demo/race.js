// Writers and readers of one user, and whether a read was ever too old.

// Between two writes of one writer there is time for the entry to be stored and read.
const LONGEST_PAUSE_MS = 150;
const MOST_EXAMPLES = 5;

/**
 * What is known of the numbers, in the order of events in this page. Each event has a moment: a number that
 * grows. Number v is older than number w if the write of v was answered before that of w was sent; if the
 * writes overlapped, either may have come last.
 */
class History {
  moment = 0;
  sent = new Map(); // number: when its write was sent
  answered = new Map(); // number: when its write was answered; without one, it may be applied at any time
  lastNumber = 0;
  newestAnswered = 0; // the latest moment at which a write was sent that has been answered
  newestRead = 0; // the latest moment at which a write was sent whose number has been read

  write() {
    const number = (this.lastNumber += 1);
    this.sent.set(number, (this.moment += 1));
    return number;
  }

  writeAnswered(number) {
    this.answered.set(number, (this.moment += 1));
    this.newestAnswered = Math.max(this.newestAnswered, this.sent.get(number));
  }

  /** What a read that begins now must not be older than. */
  readBegins() {
    return { written: this.newestAnswered, read: this.newestRead };
  }

  /** Whether a read that returned this number is too old. */
  readEnds(number, floor) {
    const settled = this.answered.get(number) ?? Infinity;
    this.newestRead = Math.max(this.newestRead, this.sent.get(number) ?? 0);
    return { old: settled < floor.written, backwards: settled < floor.read };
  }
}

/** A race over one new user. */
class Race {
  history = new History();
  counts = {
    written: 0,
    unknown: 0,
    table: 0,
    cache: 0,
    memory: 0,
    marked: 0,
    failed: 0,
    old: 0,
    backwards: 0,
  };
  examples = [];
  running = true;

  async run({ seconds, writers, readers, onProgress }) {
    const created = await createUser(this.nextName().name);
    if (created.status !== 201) return created;
    this.history.writeAnswered(1);
    this.id = created.body.RowKey;
    const until = performance.now() + seconds * 1000;
    const goesOn = () => this.running && performance.now() < until;
    const progress = setInterval(() => onProgress(1 - (until - performance.now()) / (seconds * 1000)), 100);
    await Promise.all([
      ...Array.from({ length: writers }, () => this.writeWhile(goesOn)),
      ...Array.from({ length: readers }, () => this.readWhile(goesOn)),
    ]);
    clearInterval(progress);
    await deleteUser(this.id);
    return created;
  }

  nextName() {
    const number = this.history.write();
    return { number, name: `Race ${String(number).padStart(6, "0")}` };
  }

  async writeWhile(goesOn) {
    while (goesOn()) {
      const { number, name } = this.nextName();
      const answer = await renameUser(this.id, name);
      if (answer.status === 200) {
        this.history.writeAnswered(number);
        this.counts.written += 1;
      } else {
        this.counts.unknown += 1;
      }
      await new Promise((resume) => setTimeout(resume, Math.random() * LONGEST_PAUSE_MS));
    }
  }

  async readWhile(goesOn) {
    while (goesOn()) {
      const floor = this.history.readBegins();
      const answer = await readUser(this.id);
      if (answer.status === 200) this.check(answer, floor);
      else await this.pauseAfterError();
    }
  }

  /** An error may come at once: without a pause, readers would send thousands of requests. */
  async pauseAfterError() {
    this.counts.failed += 1;
    await new Promise((resume) => setTimeout(resume, LONGEST_PAUSE_MS));
  }

  check(answer, floor) {
    if (outcome(answer) === "stale") {
      this.counts.marked += 1;
      return;
    }
    this.counts[sourceOf(answer)] += 1;
    const number = Number(answer.body.data.Name.replace(/\D/g, ""));
    const { old, backwards } = this.history.readEnds(number, floor);
    if (old) this.counts.old += 1;
    if (backwards) this.counts.backwards += 1;
    if ((old || backwards) && this.examples.length < MOST_EXAMPLES) {
      const what = [
        old && "a newer number was already written",
        backwards && "a newer number was already read",
      ];
      this.examples.push(
        `A read returned ${number} (${answer.cacheStatus}), although ${what.filter(Boolean).join(", and ")}.`,
      );
    }
  }
}

function showRace({ counts, examples }) {
  for (const [id, count] of [
    ["race-old", counts.old],
    ["race-backwards", counts.backwards],
  ]) {
    byId(id).textContent = count;
    byId(id).className = count ? "wrong" : "";
  }
  const always = [
    ["writes answered", counts.written],
    ["reads from the table", counts.table, "table"],
    ["reads from the cache", counts.cache, "cache"],
  ];
  const sometimes = [
    ["reads from the handler’s own copies", counts.memory, "memory"],
    ["reads marked as stale, which are not checked", counts.marked, "memory"],
    ["writes with an unknown outcome, or refused", counts.unknown, "error"],
    ["reads with an error", counts.failed, "error"],
  ];
  showCounts(byId("race-counts"), [...always, ...sometimes.filter(([, count]) => count)]);
  byId("race-examples").replaceChildren(
    ...examples.map((example) => html("li", { class: "wrong" }, example)),
  );
}

function verdict({ old, backwards, table, cache, memory }) {
  const reads = table + cache + memory;
  if (!reads) return "No read was answered, so nothing was checked.";
  const found =
    old || backwards
      ? `${old} were too old, and ${backwards} went backwards`
      : "none was too old, and none went backwards";
  return `Of ${reads} reads, ${found}.`;
}
