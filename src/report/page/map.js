// The map: view, drawing, what is under the pointer, lasso.

class RowMap {
  constructor(stage) {
    this.stage = stage;
    this.raster = new Raster($("dots"));
    this.over = $("over").getContext("2d");
    this.hidden = new Uint8Array(info.clusters.length);
    this.colours = new Uint32Array(points.n);
    this.shapes = null;
    this.focus = -1;
    this.hover = -1;
    this.pin = -1;
    this.selected = null;
    this.path = null;
    // A fixed order that does not favour any cluster.
    this.step = 1 + 2 * Math.floor(points.n * 0.309);
    while (gcd(this.step, points.n) !== 1) this.step++;
    this.useLayout(0);
    new ResizeObserver(() => this.resize()).observe(stage);
    this.resize();
  }

  useLayout(layout) {
    this.x = points["map" + layout + "x"];
    this.y = points["map" + layout + "y"];
    this.grid = null;
    this.centres = null;
    this.fit(false);
  }

  resize() {
    const { clientWidth: width, clientHeight: height } = this.stage;
    if (!width || !height) return;
    this.dpr = Math.min(window.devicePixelRatio || 1, 2);
    this.width = width;
    this.height = height;
    this.raster.resize(Math.round(width * this.dpr), Math.round(height * this.dpr));
    this.over.canvas.width = Math.round(width * this.dpr);
    this.over.canvas.height = Math.round(height * this.dpr);
    if (!this.moved) this.fit(false);
    this.draw();
  }

  /** Shows all that is not hidden. */
  fit(redraw = true) {
    let [x0, x1, y0, y1] = [65535, 0, 65535, 0];
    for (let i = 0; i < points.n; i++) {
      if (this.hidden && this.hidden[points.cluster[i]]) continue;
      const x = this.x[i];
      const y = this.y[i];
      if (x < x0) x0 = x;
      if (x > x1) x1 = x;
      if (y < y0) y0 = y;
      if (y > y1) y1 = y;
    }
    if (x1 < x0) [x0, x1, y0, y1] = [0, 65535, 0, 65535];
    const pad = 28;
    this.base = Math.min((this.width - 2 * pad) / Math.max(x1 - x0, 64), (this.height - 2 * pad) / Math.max(y1 - y0, 64));
    this.scale = this.base;
    this.cx = (x0 + x1) / 2;
    this.cy = (y0 + y1) / 2;
    this.moved = false;
    if (redraw) this.draw();
  }

  screenX(i) { return (this.x[i] - this.cx) * this.scale + this.width / 2; }
  screenY(i) { return (this.cy - this.y[i]) * this.scale + this.height / 2; }

  pan(dx, dy) {
    this.cx -= dx / this.scale;
    this.cy += dy / this.scale;
    this.moved = true;
    this.draw();
  }

  /** Zooms about a place on the screen. */
  zoom(factor, sx = this.width / 2, sy = this.height / 2) {
    const scale = Math.min(Math.max(this.scale * factor, this.base * 0.4), Math.max(this.base * 400, 2));
    const x = (sx - this.width / 2) / this.scale + this.cx;
    const y = this.cy - (sy - this.height / 2) / this.scale;
    this.scale = scale;
    this.cx = x - (sx - this.width / 2) / scale;
    this.cy = y + (sy - this.height / 2) / scale;
    this.moved = true;
    this.draw();
  }

  /** What keys and buttons zoom about: the row that is kept, where it is in view, else the middle. */
  eye() {
    const middle = [this.width / 2, this.height / 2];
    if (this.pin < 0) return middle;
    const [x, y] = [this.screenX(this.pin), this.screenY(this.pin)];
    return x > 0 && y > 0 && x < this.width && y < this.height ? [x, y] : middle;
  }

  /** Moves a point into view. */
  reach(i) {
    const [x, y] = [this.screenX(i), this.screenY(i)];
    if (x < 30 || y < 30 || x > this.width - 30 || y > this.height - 30) {
      this.cx = this.x[i];
      this.cy = this.y[i];
      this.moved = true;
    }
    this.draw();
  }

  /** Radius of a point in CSS pixels. */
  radius() {
    const start = Math.min(Math.max(Math.sqrt((this.width * this.height) / points.n) * 0.15, 1.05), 3.4);
    return Math.min(start * Math.pow(Math.max(this.scale / this.base, 1), 0.45), 8);
  }

  draw() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => { this.waiting = false; this.drawNow(); });
  }

  drawNow() {
    const { raster, hidden, selected, focus } = this;
    if (!raster.pixels) return;
    raster.clear(channels(css("--map")));
    const r = this.radius() * this.dpr;
    const faint = selected !== null || focus >= 0;
    const bright = points.n > 20000 ? 205 : 215;
    if (faint) this.pass(r, 34, (i) => !hidden[points.cluster[i]] && !this.stands(i));
    this.pass(r, bright, (i) => !hidden[points.cluster[i]] && this.stands(i));
    raster.show();
    this.drawOver();
  }

  /** Whether a point is among those that are in focus. */
  stands(i) {
    return (this.focus < 0 || points.cluster[i] === this.focus) && (this.selected === null || this.selected[i] === 1);
  }

  pass(r, alpha, wanted) {
    const { raster, dpr, scale, cx, cy, x, y, colours, shapes, step } = this;
    const [w, h] = [raster.canvas.width, raster.canvas.height];
    const [s, ox, oy] = [scale * dpr, w / 2, h / 2];
    const margin = r + 1;
    const marks = [0, 1, 2, 3, 4].map((shape) => raster.stamp(shape, r));
    for (let count = 0, i = 0; count < points.n; count++, i = (i + step) % points.n) {
      const px = (x[i] - cx) * s + ox;
      const py = (cy - y[i]) * s + oy;
      if (px < -margin || py < -margin || px > w + margin || py > h + margin || !wanted(i)) continue;
      raster.put(marks[shapes ? shapes[points.cluster[i]] : 0], Math.round(px), Math.round(py), colours[i], alpha);
    }
  }

  /** Labels, rings and the lasso. */
  drawOver() {
    const c = this.over;
    c.setTransform(this.dpr, 0, 0, this.dpr, 0, 0);
    c.clearRect(0, 0, this.width, this.height);
    this.pictured = this.drawPictures(c);
    if (!this.pictured) this.drawLabels(c);
    for (const [i, weight] of [[this.hover, 1.5], [this.pin, 2.5]]) {
      if (i < 0) continue;
      c.beginPath();
      c.arc(this.screenX(i), this.screenY(i), this.pictured ? 24 : this.radius() + 3.5, 0, 7);
      c.strokeStyle = css("--ink");
      c.lineWidth = weight;
      c.stroke();
    }
    if (this.path && this.path.length > 1) {
      c.beginPath();
      this.path.forEach(([px, py], place) => (place ? c.lineTo(px, py) : c.moveTo(px, py)));
      c.closePath();
      c.fillStyle = css("--accent") + "22";
      c.fill();
      c.setLineDash([4, 3]);
      c.strokeStyle = css("--accent");
      c.lineWidth = 1.5;
      c.stroke();
      c.setLineDash([]);
    }
  }

  /** Where few points are in view: their pictures, framed in their colour. */
  drawPictures(c) {
    if (!points.tile || !this.sprite || this.scale < this.base * 1.5) return false;
    const size = 30;
    const inView = [];
    for (let i = 0; i < points.n; i++) {
      if (this.hidden[points.cluster[i]] || !points.tile[i]) continue;
      const [x, y] = [this.screenX(i), this.screenY(i)];
      if (x < -size || y < -size || x > this.width + size || y > this.height + size) continue;
      inView.push([i, x, y]);
      if (inView.length > 250) return false;
    }
    const { width, height } = this.tile;
    const shrink = size / Math.max(width, height);
    const [w, h] = [width * shrink, height * shrink];
    c.imageSmoothingEnabled = shrink < 1;
    for (const [i, x, y] of inView) {
      const at = points.tile[i] - 1;
      const colour = this.colours[i];
      c.globalAlpha = this.stands(i) ? 1 : 0.2;
      c.fillStyle = `rgb(${colour & 255} ${(colour >> 8) & 255} ${(colour >> 16) & 255})`;
      c.fillRect(x - w / 2 - 2, y - h / 2 - 2, w + 4, h + 4);
      c.drawImage(this.sprite, (at % info.sheet) * width, Math.floor(at / info.sheet) * height, width, height, x - w / 2, y - h / 2, w, h);
    }
    c.globalAlpha = 1;
    return true;
  }

  /** Loads the sprite sheet, which the style sheet has. */
  async loadPictures() {
    if (!points.tile) return;
    const probe = el("span", { class: "px", hidden: true });
    document.body.append(probe);
    const source = getComputedStyle(probe).backgroundImage.slice(5, -2);
    probe.remove();
    const sprite = new Image();
    sprite.src = source;
    await sprite.decode();
    this.tile = { width: Number(css("--tw")), height: Number(css("--th")) };
    this.sprite = sprite;
    this.draw();
  }

  /** Numbers at the clusters' middles, largest clusters first, none over another. */
  drawLabels(c) {
    this.centres ||= medians(this.x, this.y);
    const taken = [];
    c.font = "600 12px system-ui, sans-serif";
    c.textAlign = "center";
    c.textBaseline = "middle";
    c.lineJoin = "round";
    const most = info.clusters.length > 60 ? 40 : 60;
    for (const { cluster, x, y } of this.centres) {
      if (this.hidden[cluster] || (this.focus >= 0 && this.focus !== cluster)) continue;
      const sx = (x - this.cx) * this.scale + this.width / 2;
      const sy = (this.cy - y) * this.scale + this.height / 2;
      if (sx < 8 || sy < 8 || sx > this.width - 8 || sy > this.height - 8) continue;
      if (taken.length >= most || taken.some(([tx, ty]) => Math.abs(tx - sx) < 30 && Math.abs(ty - sy) < 17)) continue;
      taken.push([sx, sy]);
      c.lineWidth = 4;
      c.strokeStyle = css("--map");
      c.strokeText(String(cluster), sx, sy);
      c.fillStyle = css("--ink");
      c.fillText(String(cluster), sx, sy);
    }
  }

  /** The nearest point within some pixels of a place on the screen; −1: none. */
  under(sx, sy, within = this.pictured ? 20 : 12) {
    this.grid ||= gridOf(this.x, this.y);
    const { side, starts, order } = this.grid;
    const x = (sx - this.width / 2) / this.scale + this.cx;
    const y = this.cy - (sy - this.height / 2) / this.scale;
    const reach = within / this.scale;
    const cell = (value) => Math.min(Math.max(Math.floor((value * side) / 65536), 0), side - 1);
    let best = -1;
    let least = reach * reach;
    for (let row = cell(y - reach); row <= cell(y + reach); row++) {
      for (let column = cell(x - reach); column <= cell(x + reach); column++) {
        for (let at = starts[row * side + column]; at < starts[row * side + column + 1]; at++) {
          const i = order[at];
          if (this.hidden[points.cluster[i]]) continue;
          const squared = (this.x[i] - x) ** 2 + (this.y[i] - y) ** 2;
          if (squared < least) [best, least] = [i, squared];
        }
      }
    }
    return best;
  }

  /** The points inside a line on the screen. */
  enclosed(path) {
    const found = [];
    const [xs, ys] = [path.map((p) => p[0]), path.map((p) => p[1])];
    const [x0, x1, y0, y1] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    for (let i = 0; i < points.n; i++) {
      if (this.hidden[points.cluster[i]]) continue;
      const [px, py] = [this.screenX(i), this.screenY(i)];
      if (px < x0 || px > x1 || py < y0 || py > y1) continue;
      let inside = false;
      for (let a = 0, b = xs.length - 1; a < xs.length; b = a++) {
        if (ys[a] > py !== ys[b] > py && px < ((xs[b] - xs[a]) * (py - ys[a])) / (ys[b] - ys[a]) + xs[a]) inside = !inside;
      }
      if (inside) found.push(i);
    }
    return found;
  }

  /** What is in view, as SVG: a path a colour. */
  svg() {
    const groups = new Map();
    for (let i = 0; i < points.n; i++) {
      if (this.hidden[points.cluster[i]]) continue;
      const [px, py] = [this.screenX(i), this.screenY(i)];
      if (px < 0 || py < 0 || px > this.width || py > this.height) continue;
      const key = (this.stands(i) ? "1," : "0.15,") + this.colours[i];
      if (!groups.has(key)) groups.set(key, []);
      groups.get(key).push("M" + px.toFixed(1) + " " + py.toFixed(1) + "h0");
    }
    const hex = (bgr) => "#" + [bgr & 255, (bgr >> 8) & 255, (bgr >> 16) & 255].map((v) => v.toString(16).padStart(2, "0")).join("");
    const paths = [...groups].map(([key, list]) => {
      const [opacity, colour] = key.split(",");
      return `<path d="${list.join("")}" stroke="${hex(Number(colour))}" stroke-opacity="${opacity * 0.85}"/>`;
    });
    return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${this.width} ${this.height}"><rect width="100%" height="100%" fill="${css("--map")}"/><g fill="none" stroke-linecap="round" stroke-width="${(2 * this.radius()).toFixed(1)}">${paths.join("\n")}</g></svg>`;
  }
}

function gcd(a, b) {
  return b ? gcd(b, a % b) : a;
}

/** Points sorted into cells of a square grid. */
function gridOf(x, y) {
  const side = Math.min(Math.max(Math.round(Math.sqrt(points.n / 4)), 4), 256);
  const starts = new Uint32Array(side * side + 1);
  const cell = (i) => Math.floor((y[i] * side) / 65536) * side + Math.floor((x[i] * side) / 65536);
  for (let i = 0; i < points.n; i++) starts[cell(i) + 1]++;
  for (let c = 0; c < side * side; c++) starts[c + 1] += starts[c];
  const order = new Uint32Array(points.n);
  const next = starts.slice();
  for (let i = 0; i < points.n; i++) order[next[cell(i)]++] = i;
  return { side, starts, order };
}

/** The median place of each cluster that has points, largest first. */
function medians(x, y) {
  const members = info.clusters.map(() => []);
  for (let i = 0; i < points.n; i++) members[points.cluster[i]].push(i);
  const middle = (list, along) => list.map((i) => along[i]).sort((a, b) => a - b)[list.length >> 1];
  return members
    .map((list, cluster) => ({ cluster, size: list.length, x: middle(list, x), y: middle(list, y) }))
    .filter((centre) => centre.size)
    .sort((a, b) => b.size - a.size);
}
