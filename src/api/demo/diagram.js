// The sequence diagram of one call: which way it took, and how long the parts took.

const USER = 0,
  HANDLER = 1,
  CACHE = 2,
  TABLE = 3;
const LANE_TOP = 46,
  STEP_HEIGHT = 30,
  MOST_STEPS = 8;

/** A message in the diagram; `kind` is call, reply, or lost if nothing came back. */
const message = (from, to, label, kind = "call") => ({ from, to, label, kind });
const roundTrip = (to, label, answer) => [message(HANDLER, to, label), message(to, HANDLER, answer, "reply")];
const inside = (label) => [message(HANDLER, HANDLER, label)];

/** The messages of a call, in order. */
function messages(answer) {
  const status = answer.status ? `${answer.status} ${answer.body.source ?? ""}`.trim() : "no answer";
  return [
    message(USER, HANDLER, answer.method),
    ...(answer.method === "GET" ? readMessages(answer) : writeMessages(answer)),
    message(HANDLER, USER, status, answer.status && answer.status < 500 ? "reply" : "lost"),
  ];
}

function readMessages(answer) {
  switch (outcome(answer)) {
    case "hit":
      return roundTrip(CACHE, "get", "hit");
    case "local":
      return inside("own copy");
    case "collapsed":
      return [...roundTrip(CACHE, "get", "miss"), ...inside("shared load")];
    case "stale":
      return [message(HANDLER, TABLE, "load", "lost"), ...inside("stale copy")];
    case "loaded":
      return loadMessages(answer);
    case "failed":
      return [message(HANDLER, TABLE, "load", "lost")];
    default:
      return [];
  }
}

function loadMessages({ cache, status }) {
  const asked = {
    "cache-unavailable": [message(HANDLER, CACHE, "get", "lost")],
    fence: roundTrip(CACHE, "get", "fence"),
    lease: roundTrip(CACHE, "get", "lease taken"),
  };
  return [
    ...(asked[cache.detail] ?? roundTrip(CACHE, "get", "miss, lease")),
    ...roundTrip(TABLE, "load", status === 404 ? "no row" : "row"),
    ...(cache.stored ? [message(HANDLER, CACHE, "fill")] : []),
  ];
}

/** A write removes what is cached before it changes the table, except for a new, random id. */
function writeMessages(answer) {
  if (outcome(answer) === "refused" && answer.timing.table === undefined) return [];
  const fenced = answer.method !== "POST";
  const change =
    answer.status === 0 || answer.status >= 500
      ? [message(HANDLER, TABLE, "change", "lost")]
      : roundTrip(TABLE, "change", answer.status === 404 ? "no row" : "done");
  return [
    ...(fenced ? [message(HANDLER, CACHE, "fence")] : []),
    ...change,
    ...(fenced ? [message(HANDLER, CACHE, "release")] : []),
  ];
}

/**
 * Draws the call in the width that there is. Its messages light up one after another, unless calls follow each
 * other too fast for that.
 */
function drawDiagram(container, answer, { animate = false } = {}) {
  const width = Math.max(container.clientWidth, 280);
  const steps = answer ? messages(answer) : [];
  const x = (lane) => (width / 4) * (lane + 0.5);
  const height = LANE_TOP + STEP_HEIGHT * (MOST_STEPS + 0.4);
  const drawing = svg("svg", {
    width,
    height,
    role: "img",
    class: animate ? "animated" : "",
    "aria-label": inWords(answer, steps),
  });
  for (const lane of [USER, HANDLER, CACHE, TABLE]) {
    drawing.append(
      drawLane(x(lane), width / 4 - 10, height, laneTitle(lane), spent(answer, lane), usage(steps, lane)),
    );
  }
  steps.forEach((step, nth) => drawing.append(drawStep(step, nth, x)));
  container.replaceChildren(drawing);
}

function laneTitle(lane) {
  const cache = parts.cache === names.cache.redis ? "Redis" : "Cache";
  return ["User", "Function", cache, "Table"][lane];
}

/** What a lane's header says of the time. The handler's is what remains, with the host and the network. */
function spent(answer, lane) {
  if (!answer) return "";
  const { ms, timing } = answer;
  const rest = Math.max(ms - (timing.cache ?? 0) - (timing.table ?? 0), 0);
  return [
    `${inMilliseconds(ms)}`,
    `${inMilliseconds(rest)}`,
    inMilliseconds(timing.cache),
    inMilliseconds(timing.table),
  ][lane];
}

/** The class of a lane that takes part in the call. */
function usage(steps, lane) {
  const used = steps.some(({ from, to }) => from === lane || to === lane);
  return used ? ["used", "used", "used cache", "used table"][lane] : "";
}

function drawLane(x, width, height, title, time, usage) {
  return svg(
    "g",
    { class: `lane ${usage}` },
    svg("line", { x1: x, x2: x, y1: LANE_TOP - 4, y2: height }),
    svg("rect", { x: x - width / 2, y: 1, width, height: LANE_TOP - 5, rx: 5 }),
    svg("text", { x, y: 18 }, title),
    svg("text", { x, y: 34, class: "faint" }, time),
  );
}

function drawStep({ from, to, label, kind }, nth, x) {
  const y = LANE_TOP + STEP_HEIGHT * (nth + 0.7);
  const source = ["", "", "cache", "table"][Math.max(from, to)];
  const step = svg("g", { class: `step ${kind} ${source}` });
  step.style.setProperty("--nth", nth);
  if (from === to) {
    step.append(
      svg("path", { class: "shaft", d: `M${x(from)} ${y - 6} h12 v12 h-10` }),
      arrowhead(x(from) + 1, y + 6, -1),
      svg("text", { class: "inside", x: x(from) + 20, y: y + 4 }, label),
    );
    return step;
  }
  const direction = Math.sign(x(to) - x(from));
  // A message that was lost ends before it arrives.
  const end = kind === "lost" ? x(to) - direction * 16 : x(to) - direction * 2;
  step.append(
    svg("path", { class: "shaft", d: `M${x(from)} ${y} H${end}` }),
    kind === "lost" ? cross(end, y) : arrowhead(end, y, direction),
    svg("text", { x: labelCentre(from, to, x), y: y - 5 }, label),
  );
  return step;
}

/** A label is beside the handler's lane, so that a message to the table is not labelled on the cache's line. */
function labelCentre(from, to, x) {
  const near = Math.min(from, to);
  return (x(near) + x(near + 1)) / 2;
}

const arrowhead = (x, y, direction) =>
  svg("path", { d: `M${x - direction * 7} ${y - 4} L${x} ${y} l${-direction * 7} 4` });
const cross = (x, y) => svg("path", { d: `M${x - 5} ${y - 5} l10 10 m0 -10 l-10 10` });

function inWords(answer, steps) {
  if (!answer) return "No call yet";
  const said = steps.map(({ from, to, label, kind }) => {
    const way = from === to ? laneTitle(from) : `${laneTitle(from)} to ${laneTitle(to)}`;
    return `${way}: ${label}${kind === "lost" ? " (failed)" : ""}`;
  });
  const times = [CACHE, TABLE]
    .filter((lane) => spent(answer, lane))
    .map((lane) => `${laneTitle(lane)} ${spent(answer, lane)}`);
  return `${said.join("; ")}. ${[...times, `in all ${inMilliseconds(answer.ms)}`].join(", ")}.`;
}
