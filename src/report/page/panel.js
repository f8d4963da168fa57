// What is beside the map: colours, legend, the row that is kept, the selection.

class Panel {
  constructor(map) {
    this.map = map;
    this.mode = "cluster";
    this.order = null;
    this.colour();
    this.legend();
    $("colour").addEventListener("change", (event) => { this.mode = event.target.value; this.colour(); this.legend(); map.draw(); });
    $("all").addEventListener("click", () => this.showOnly(() => true));
    $("none").addEventListener("click", () => this.showOnly(() => false));
    $("filter").addEventListener("input", (event) => this.find(event.target.value));
    $("csv").addEventListener("click", () => this.save());
    $("clear").addEventListener("click", () => this.select(null));
  }

  /** The values that colours stand for; null in the modes that have names. */
  values() {
    if (this.mode === "cluster" || this.mode === "class") return null;
    const list = this.mode === "confidence" || this.mode === "outlier" ? points[this.mode] : points["column" + this.mode];
    return list instanceof Uint8Array ? { list, missing: 255, by: 1 / 254, low: 0, high: 254 } : { list, missing: NaN, by: 1, ...range(list) };
  }

  colour() {
    const { map } = this;
    const value = ([r, g, b]) => (b << 16) | (g << 8) | r;
    const named = palette().map((hex) => value(channels(hex)));
    const none = value(channels(css("--line2")));
    map.shapes = this.mode === "cluster" ? info.clusters.map((cluster) => cluster.shape) : null;
    const values = this.values();
    if (!values) {
      const of = this.mode === "cluster" ? (i) => named[info.clusters[points.cluster[i]].colour] : (i) => (points.class[i] ? named[(points.class[i] - 1) % 20] : none);
      for (let i = 0; i < points.n; i++) map.colours[i] = of(i);
      return;
    }
    const ramp = ramps().map(value);
    const { list, missing, low, high } = values;
    const down = this.mode === "confidence";
    for (let i = 0; i < points.n; i++) {
      const v = list[i];
      if (v === missing || Number.isNaN(v)) { map.colours[i] = none; continue; }
      let share = high > low ? Math.min(Math.max((v - low) / (high - low), 0), 1) : 0.5;
      if (down) share = 1 - share;
      map.colours[i] = ramp[Math.round(share * (ramp.length - 1))];
    }
  }

  legend() {
    const box = $("legend");
    box.replaceChildren();
    const values = this.values();
    const clusters = this.mode === "cluster";
    $("legend-all").hidden = !clusters;
    $("filter").hidden = !clusters || info.clusters.length <= 20;
    $("legend-title").textContent = $("colour").selectedOptions[0].textContent + (clusters ? "s" : "");
    if (clusters) box.append(...info.clusters.map((cluster, c) => this.entry(cluster, c)));
    else if (this.mode === "class") box.append(...info.classes.map((name, c) => el("div", { class: "entry" }, el("span", { class: "toggle" }, el("i", { class: "mark c" + (c % 20) }), el("bdi", {}, name)))));
    else {
      const ends = [values.low, values.high].map((v) => rounded(v * values.by));
      const shorten = values.cut ? ["≤ ", "≥ "] : ["", ""];
      box.append(el("div", { class: "scale" + (this.mode === "confidence" ? " down" : "") }, el("i", { "aria-hidden": "true" }), el("div", {}, el("span", {}, shorten[0] + ends[0]), el("span", {}, shorten[1] + ends[1]))));
    }
  }

  entry(cluster, c) {
    const toggle = el("button", { type: "button", class: "toggle", "aria-pressed": String(!this.map.hidden[c]) },
      el("i", { class: `mark c${cluster.colour} s${cluster.shape}`, "aria-hidden": "true" }), el("bdi", { title: cluster.name }, cluster.name), el("span", { class: "quiet" }, number(cluster.size)));
    const only = el("button", { type: "button", class: "only", "aria-label": "Show cluster " + c + " only" }, "only");
    const node = el("div", { class: "entry", "data-entry": c }, toggle, only);
    toggle.addEventListener("click", () => { this.map.hidden[c] ^= 1; toggle.setAttribute("aria-pressed", String(!this.map.hidden[c])); this.map.draw(); });
    only.addEventListener("click", () => this.showOnly((other) => other === c));
    node.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && this.bring(c));
    node.addEventListener("pointerleave", () => this.bring(-1));
    return node;
  }

  bring(cluster) {
    if (this.map.focus === cluster) return;
    this.map.focus = cluster;
    this.map.draw();
  }

  showOnly(shown) {
    info.clusters.forEach((_, c) => (this.map.hidden[c] = shown(c) ? 0 : 1));
    document.querySelectorAll("[data-entry]").forEach((node) => node.firstChild.setAttribute("aria-pressed", String(!this.map.hidden[node.dataset.entry])));
    this.map.draw();
  }

  find(text) {
    const wanted = text.toLowerCase();
    document.querySelectorAll("[data-entry]").forEach((node) => (node.hidden = !info.clusters[node.dataset.entry].name.toLowerCase().includes(wanted)));
  }

  /** A row in words and pictures. */
  describe(i, most) {
    const name = points.id ? points.id[i] : null;
    const head = el("div", { class: "rowhead" });
    if (points.tile && points.tile[i]) head.append(picture(points.tile[i] - 1, "large", "Row " + rowOf(i)));
    head.append(el("div", {}, el("strong", {}, "Row " + number(rowOf(i))), name ? el("div", {}, el("bdi", {}, name)) : null));
    const list = el("dl", { class: "facts2" });
    facts(i).slice(0, most).forEach(([label, value]) => {
      const dd = el("dd", {}, el("bdi", {}, value));
      if (label === "Cluster") { const mark = info.clusters[points.cluster[i]]; dd.prepend(el("i", { class: `mark c${mark.colour} s${mark.shape}`, "aria-hidden": "true" })); }
      list.append(el("dt", {}, el("bdi", {}, label)), dd);
    });
    return [head, list];
  }

  tip(i, x, y) {
    const tip = $("tip");
    if (this.map.hover === i && !tip.hidden === i >= 0) return;
    this.map.hover = i;
    tip.hidden = i < 0;
    if (i >= 0) {
      tip.replaceChildren(...this.describe(i, 6));
      const [w, h] = [tip.offsetWidth, tip.offsetHeight];
      tip.style.left = Math.max(4, x + 14 + w > this.map.width ? x - w - 14 : x + 14) + "px";
      tip.style.top = Math.min(Math.max(4, y - h / 2), Math.max(4, this.map.height - h - 4)) + "px";
    }
    this.map.drawOver();
  }

  keep(i) {
    this.map.pin = i;
    const box = $("pinned");
    if (i < 0) box.replaceChildren(el("p", { class: "quiet" }, "Point at a row to see it. Click to keep it here."));
    else box.replaceChildren(...this.describe(i, 99));
    this.map.drawOver();
  }

  say(text) {
    $("live").textContent = text;
  }

  /** Says a row aloud. */
  sayRow(i) {
    this.say(`Row ${rowOf(i)}${points.id ? ", " + points.id[i] : ""}. ` + facts(i).slice(0, 5).map(([name, value]) => name + " " + value).join(", "));
  }

  select(list) {
    const { map } = this;
    map.selected = list && list.length ? new Uint8Array(points.n) : null;
    if (map.selected) list.forEach((i) => (map.selected[i] = 1));
    this.chosen = map.selected ? list : null;
    $("selection").hidden = !this.chosen;
    const text = this.chosen ? `${number(list.length)} ${list.length === 1 ? "row" : "rows"} selected` : "Nothing is selected";
    $("selected").textContent = text;
    this.say(text);
    map.draw();
  }

  save() {
    if (this.chosen) download(info.file + "-selection.csv", csv(this.chosen), "text/csv;charset=utf-8");
  }

  /** Steps to another row: clusters in their order, middle rows first. */
  walk(by) {
    const { map } = this;
    if (!this.order) this.order = walkOrder(map);
    const shown = this.order.filter((i) => !map.hidden[points.cluster[i]]);
    if (!shown.length) return;
    const at = shown.indexOf(map.pin);
    let next = at < 0 ? 0 : (at + by + shown.length) % shown.length;
    if (by === Infinity) {
      const here = at < 0 ? -1 : points.cluster[map.pin];
      next = Math.max(shown.findIndex((i) => points.cluster[i] > here), 0);
    }
    this.keep(shown[next]);
    map.reach(shown[next]);
    this.sayRow(shown[next]);
  }
}

/** All points, by cluster, nearest to its middle first. */
function walkOrder(map) {
  map.centres ||= medians(map.x, map.y);
  const middle = [];
  map.centres.forEach(({ cluster, x, y }) => (middle[cluster] = [x, y]));
  const far = new Float64Array(points.n);
  for (let i = 0; i < points.n; i++) far[i] = (map.x[i] - middle[points.cluster[i]][0]) ** 2 + (map.y[i] - middle[points.cluster[i]][1]) ** 2;
  return Array.from({ length: points.n }, (_, i) => i).sort((a, b) => points.cluster[a] - points.cluster[b] || far[a] - far[b]);
}

/** Smallest and largest value, without the outermost hundredth where that is far out. */
function range(list) {
  const sorted = list.filter((value) => Number.isFinite(value)).sort();
  if (!sorted.length) return { low: 0, high: 1, cut: false };
  const at = (share) => sorted[Math.round(share * (sorted.length - 1))];
  const [low, high, p1, p99] = [at(0), at(1), at(0.01), at(0.99)];
  const cut = p99 > p1 && high - low > 2 * (p99 - p1);
  return cut ? { low: p1, high: p99, cut } : { low, high, cut };
}

/** The ramp of the style sheet in 65 steps. */
function ramps() {
  const stops = [0, 1, 2, 3, 4].map((stop) => channels(css("--ramp" + stop)));
  return Array.from({ length: 65 }, (_, step) => {
    const [at, part] = [Math.min(Math.floor(step / 16), 3), step / 16 - Math.min(Math.floor(step / 16), 3)];
    return stops[at].map((value, c) => Math.round(value + (stops[at + 1][c] - value) * part));
  });
}
