// The page's data: unpacked, and as text for people and for CSV.

const info = JSON.parse($("data").textContent);
const points = { n: info.n };

/** Makes an element. Text goes in as text, never as HTML. */
function el(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child != null));
  return node;
}

const number = (value) => value.toLocaleString("en-US");
const rounded = (value) => (Number.isFinite(value) ? String(Number(value.toPrecision(4))) : "–");

/** Decodes base64, inflates it, and cuts it into arrays. */
async function unpack() {
  const holder = $("points");
  const text = atob(holder.textContent.trim());
  holder.textContent = "";
  const packed = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) packed[i] = text.charCodeAt(i);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  for (const { name, kind, start, bytes: length } of info.arrays) points[name] = array(kind, bytes.subarray(start, start + length));
}

function array(kind, bytes) {
  if (kind === "u8") return bytes;
  if (kind === "text") return new TextDecoder().decode(bytes).split("\n");
  const n = kind === "u16" ? bytes.length / 2 : bytes.length / 4;
  if (kind === "u16") {
    const out = new Uint16Array(n);
    for (let i = 0; i < n; i++) out[i] = bytes[i] | (bytes[n + i] << 8);
    return out;
  }
  const out = new Uint32Array(n);
  for (let i = 0; i < n; i++) out[i] = bytes[i] | (bytes[n + i] << 8) | (bytes[2 * n + i] << 16) | (bytes[3 * n + i] << 24);
  if (kind === "f32") return new Float32Array(out.buffer);
  for (let i = 1; i < n; i++) out[i] += out[i - 1]; // row numbers: differences
  return out;
}

const rowOf = (i) => (points.row ? points.row[i] : i);
const fraction = (list, i) => (list && list[i] !== 255 ? list[i] / 254 : null);
const className = (i) => (points.class && points.class[i] ? info.classes[points.class[i] - 1] : null);
const clusterName = (c) => info.clusters[c].name;

/** The point of a row of the data; −1 where the map does not have it. */
function pointOf(row) {
  if (!points.row) return row < points.n ? row : -1;
  let low = 0;
  let high = points.n;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (points.row[middle] < row) low = middle + 1;
    else high = middle;
  }
  return low < points.n && points.row[low] === row ? low : -1;
}

/** What is known of a point: pairs of name and value. */
function facts(i) {
  const list = [["Cluster", clusterName(points.cluster[i])]];
  const confidence = fraction(points.confidence, i);
  if (confidence !== null) list.push(["Confidence", confidence.toFixed(2)]);
  if (points.second) list.push(["Second choice", clusterName(points.second[i])]);
  if (points.class) list.push(["Class", className(i) ?? "–"]);
  const outlier = fraction(points.outlier, i);
  if (outlier !== null) list.push(["Outlier score", outlier.toFixed(2)]);
  info.columns.forEach((name, c) => list.push([name, rounded(points["column" + c][i])]));
  return list;
}

/** One field of a CSV file. Text that a spreadsheet would run as a formula gets an apostrophe before it. */
function field(value) {
  let text = String(value ?? "");
  const formula = /^[\s\u0000]*[=+\-@\t\r\uff1d\uff0b\uff0d\uff20|%]/.test(text);
  if (typeof value !== "number" && formula && !/^[+-]?\d+(\.\d+)?$/.test(text)) text = "'" + text;
  return /[",;\r\n']/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text;
}

function csv(chosen) {
  const head = ["row"];
  if (points.id) head.push("id");
  head.push("cluster");
  if (points.confidence) head.push("confidence");
  if (points.second) head.push("second_choice");
  if (points.class) head.push("class");
  if (points.outlier) head.push("outlier_score");
  head.push(...info.columns);
  const lines = [head.map(field).join(",")];
  const whole = (list, i) => { const value = fraction(list, i); return value === null ? "" : Number(value.toFixed(3)); };
  for (const i of chosen) {
    const line = [rowOf(i)];
    if (points.id) line.push(points.id[i]);
    line.push(points.cluster[i]);
    if (points.confidence) line.push(whole(points.confidence, i));
    if (points.second) line.push(points.second[i]);
    if (points.class) line.push(className(i));
    if (points.outlier) line.push(whole(points.outlier, i));
    info.columns.forEach((_, c) => { const value = points["column" + c][i]; line.push(Number.isFinite(value) ? Number(value.toPrecision(4)) : ""); });
    lines.push(line.map(field).join(","));
  }
  return lines.join("\r\n") + "\r\n";
}

function download(name, content, type) {
  const url = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type }));
  const link = el("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

/** A picture from the sprite sheet. */
function picture(tile, size, label) {
  const node = el("span", { class: "px " + size, role: "img", "aria-label": label });
  node.style.setProperty("--x", tile % info.sheet);
  node.style.setProperty("--y", Math.floor(tile / info.sheet));
  return node;
}

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
/** "#rrggbb" → [r, g, b]. */
const channels = (hex) => (hex.length === 4 ? [...hex.slice(1)].map((c) => parseInt(c + c, 16)) : [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)));
/** The colours of clusters and classes, as the style sheet has them. */
const palette = () => Array.from({ length: 20 }, (_, c) => {
  const probe = el("i", { class: "c" + c, hidden: true });
  document.body.append(probe);
  const value = getComputedStyle(probe).getPropertyValue("--c").trim();
  probe.remove();
  return value;
});
