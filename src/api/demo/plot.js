// Time per read: the plot, the medians, and their quotient.

const PLOT_HEIGHT = 230,
  MARGIN = { left: 52, right: 12, top: 12, bottom: 12 };

/** A read of a user, as it is plotted. */
const measurement = (answer) => ({
  source: sourceOf(answer),
  browser: answer.ms,
  handler: (answer.timing.cache ?? 0) + (answer.timing.table ?? 0),
});

function median(values) {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** The number of reads from a source and their medians, or `undefined` if there was none. */
function summary(reads, source) {
  const ofSource = reads.filter((read) => read.source === source);
  if (!ofSource.length) return undefined;
  return {
    count: ofSource.length,
    browser: median(ofSource.map(({ browser }) => browser)),
    handler: median(ofSource.map(({ handler }) => handler)),
  };
}

/** Points on a logarithmic scale, because a hit and an outage are a factor of a thousand apart. */
function drawPlot(container, reads) {
  const width = Math.max(container.clientWidth, 280);
  const scale = logarithmic(reads.map(({ browser }) => browser));
  const drawing = svg("svg", { width, height: PLOT_HEIGHT, role: "img", "aria-label": plotInWords(reads) });
  for (const tick of scale.ticks) drawing.append(...drawTick(tick, scale.y(tick), width));
  for (const source of ["table", "cache"]) {
    const found = summary(reads, source);
    if (found)
      drawing.append(
        svg("line", {
          class: `median ${source}`,
          x1: MARGIN.left,
          x2: width - MARGIN.right,
          y1: scale.y(found.browser),
          y2: scale.y(found.browser),
        }),
      );
  }
  const pace = (width - MARGIN.left - MARGIN.right - 8) / Math.max(reads.length - 1, 40);
  reads.forEach(({ source, browser }, nth) =>
    drawing.append(mark(source, MARGIN.left + 6 + nth * pace, scale.y(browser))),
  );
  container.replaceChildren(drawing);
}

function logarithmic(values) {
  const low = Math.floor(Math.log10(Math.min(...values, 1)));
  const high = Math.ceil(Math.log10(Math.max(...values, 10)));
  const unit = (PLOT_HEIGHT - MARGIN.top - MARGIN.bottom) / (high - low);
  const ticks = [];
  for (let decade = low; decade <= high; decade += 1) {
    ticks.push(...[1, 2, 5].map((digit) => digit * 10 ** decade).filter((tick) => tick <= 10 ** high));
  }
  return {
    ticks,
    y: (ms) => PLOT_HEIGHT - MARGIN.bottom - (Math.log10(Math.max(ms, 10 ** low)) - low) * unit,
  };
}

function drawTick(tick, y, width) {
  const text = `${Number(tick.toPrecision(1))} ms`;
  return [
    svg("line", { class: "grid", x1: MARGIN.left, x2: width - MARGIN.right, y1: y, y2: y }),
    svg("text", { class: "faint", x: MARGIN.left - 6, y: y + 4, "text-anchor": "end" }, text),
  ];
}

function plotInWords(reads) {
  if (!reads.length) return "Time per read: none yet";
  const said = ["table", "cache", "memory"].flatMap((source) => {
    const found = summary(reads, source);
    return found ? [`${found.count} from ${SOURCES[source]}, median ${inMilliseconds(found.browser)}`] : [];
  });
  return `Time per read, on a logarithmic scale: ${said.join("; ")}.`;
}

const SOURCES = { table: "the table", cache: "the cache", memory: "copies in the handler", error: "errors" };

function drawLegend(list) {
  const entry = (drawn, text) =>
    html("li", {}, svg("svg", { viewBox: "-6 -6 12 12", "aria-hidden": "true" }, drawn), text);
  const sources = Object.entries(SOURCES).map(([source, text]) => entry(mark(source, 0, 0), text));
  list.replaceChildren(...sources, entry(svg("path", { class: "median", d: "M-6 0 h12" }), "median"));
}

/** Shows the hit ratio, the medians, and the quotient of the table's and the cache's. */
function showMedians(reads) {
  const [table, cache] = [summary(reads, "table"), summary(reads, "cache")];
  const answered = reads.filter(({ source }) => source !== "error");
  const hits = answered.filter(({ source }) => source !== "table");
  byId("hit-ratio").textContent = answered.length
    ? `${Math.round((100 * hits.length) / answered.length)} %`
    : "–";
  for (const where of ["browser", "handler"])
    byId(`quotient-${where}`).textContent = quotient(table, cache, where);
  const rows = ["table", "cache", "memory", "error"].flatMap((source) =>
    medianRow(source, summary(reads, source)),
  );
  byId("medians").tBodies[0].replaceChildren(...rows);
}

/** How many times as long the table takes. */
const quotient = (table, cache, where) =>
  table && cache?.[where] ? `${(table[where] / cache[where]).toFixed(1)} ×` : "–";

const number = (text) => html("td", { class: "number" }, text);

function medianRow(source, found) {
  if (!found) return [];
  const handler = source === "error" ? "" : inMilliseconds(found.handler);
  return [
    html(
      "tr",
      { class: source },
      html("th", { scope: "row" }, SOURCES[source]),
      number(String(found.count)),
      number(inMilliseconds(found.browser)),
      number(handler),
    ),
  ];
}
