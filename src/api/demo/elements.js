// Elements made by the script. Text becomes text nodes, never HTML: names are not trusted.

const SVG = "http://www.w3.org/2000/svg";

const byId = (id) => document.getElementById(id);
const numberIn = (id) => Number(byId(id).value);

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const html = (name, attributes = {}, ...children) => fill(document.createElement(name), attributes, children);
const svg = (name, attributes = {}, ...children) =>
  fill(document.createElementNS(SVG, name), attributes, children);

/** Each source has a shape besides its colour: a circle of radius 4, and others of about its size. */
function mark(source, x, y) {
  const shapes = {
    cache: () => svg("circle", { cx: x, cy: y, r: 3.6, class: "mark cache" }),
    table: () => svg("rect", { x: x - 3.5, y: y - 3.5, width: 7, height: 7, class: "mark table" }),
    memory: () => svg("path", { d: `M${x} ${y - 4.5} l4.5 8 h-9 z`, class: "mark open memory" }),
    error: () => svg("path", { d: `M${x - 4} ${y - 4} l8 8 m0 -8 l-8 8`, class: "mark open error" }),
  };
  return shapes[source]();
}

/** Replaces the rows of a table by pairs of a heading and a number. */
function showCounts(table, counts) {
  const rows = counts.map(([heading, count, kind = ""]) =>
    html(
      "tr",
      {},
      html("th", { scope: "row", class: kind }, heading),
      html("td", { class: "number" }, String(count)),
    ),
  );
  table.tBodies[0].replaceChildren(...rows);
}
