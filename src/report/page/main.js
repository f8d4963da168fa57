// Brings the page to life: figures to save, pointer and keys.

/** An SVG figure with its styles in it, so that it looks the same alone. */
function standalone(svg) {
  const copy = svg.cloneNode(true);
  const names = ["fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-linejoin", "font-family", "font-size", "font-weight", "text-anchor"];
  const originals = svg.querySelectorAll("*");
  copy.querySelectorAll("*").forEach((node, place) => {
    const style = getComputedStyle(originals[place]);
    if (!["title", "desc", "g"].includes(node.tagName)) names.forEach((name) => node.setAttribute(name, style.getPropertyValue(name)));
    node.removeAttribute("class");
  });
  const { width, height } = svg.viewBox.baseVal;
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  copy.setAttribute("width", width);
  copy.setAttribute("height", height);
  copy.removeAttribute("style");
  const ground = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  for (const [name, value] of Object.entries({ width: "100%", height: "100%", fill: css("--paper") })) ground.setAttribute(name, value);
  copy.insertBefore(ground, copy.querySelector("desc")?.nextSibling ?? copy.firstChild);
  return new XMLSerializer().serializeToString(copy);
}

const plain = (text) => text.replace(/[^A-Za-z0-9_-]+/g, "-").slice(0, 40) || "figure";

document.querySelectorAll("[data-save]").forEach((button) => {
  const svg = button.closest("figure").querySelector("svg");
  button.setAttribute("aria-label", "Save SVG: " + svg.querySelector("title").textContent);
  button.addEventListener("click", () => download(info.file + "-" + plain(svg.dataset.name) + ".svg", standalone(svg), "image/svg+xml"));
});

/** Mouse, fingers and wheel on the map. */
function setUpPointer(map, panel) {
  const { stage } = map;
  const down = new Map();
  let [start, moved, pinch] = [null, false, 0];
  const at = (event) => { const box = stage.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
  const span = () => { const [a, b] = [...down.values()]; return Math.hypot(a[0] - b[0], a[1] - b[1]); };
  stage.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    stage.focus({ preventScroll: true });
    try { stage.setPointerCapture(event.pointerId); } catch { /* made by a script */ }
    down.set(event.pointerId, at(event));
    [start, moved] = [at(event), false];
    if (down.size === 2) { pinch = span(); map.path = null; }
    else if (panel.lasso || event.shiftKey) map.path = [start];
  });
  stage.addEventListener("pointermove", (event) => {
    const here = at(event);
    const before = down.get(event.pointerId);
    if (!before) { panel.tip(map.under(...here), ...here); return; }
    down.set(event.pointerId, here);
    if (Math.hypot(here[0] - start[0], here[1] - start[1]) > 4) moved = true;
    if (down.size === 2) {
      const [a, b] = [...down.values()];
      map.pan((here[0] - before[0]) / 2, (here[1] - before[1]) / 2);
      map.zoom(span() / pinch, (a[0] + b[0]) / 2, (a[1] + b[1]) / 2);
      pinch = span();
    } else if (map.path) {
      const last = map.path[map.path.length - 1];
      if (Math.hypot(here[0] - last[0], here[1] - last[1]) > 3) map.path.push(here);
      map.drawOver();
    } else if (moved) {
      stage.classList.add("panning");
      panel.tip(-1);
      map.pan(here[0] - before[0], here[1] - before[1]);
    }
  });
  const up = (event) => {
    if (!down.delete(event.pointerId)) return;
    stage.classList.remove("panning");
    const path = map.path;
    map.path = null;
    if (path && path.length > 2 && event.type === "pointerup") panel.select(map.enclosed(path));
    else if (!moved && event.type === "pointerup") { const i = map.under(...at(event), event.pointerType === "touch" ? 22 : undefined); panel.keep(i); if (i >= 0) panel.sayRow(i); }
    map.draw();
  };
  stage.addEventListener("pointerup", up);
  stage.addEventListener("pointercancel", up);
  stage.addEventListener("pointerleave", () => panel.tip(-1));
  stage.addEventListener("focus", () => stage.classList.add("active"));
  stage.addEventListener("blur", () => stage.classList.remove("active"));
  let hide;
  stage.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey && document.activeElement !== stage) {
      $("hint").textContent = "Click the map first, or hold Ctrl, to zoom";
      $("hint").hidden = false;
      clearTimeout(hide);
      hide = setTimeout(() => ($("hint").hidden = true), 1600);
      return;
    }
    event.preventDefault();
    panel.tip(-1);
    const pixels = event.deltaY * (event.deltaMode === 1 ? 16 : 1);
    map.zoom(Math.exp(-Math.max(Math.min(pixels, 200), -200) * (event.ctrlKey ? 0.006 : 0.0022)), ...at(event));
  }, { passive: false });
}

function setUpKeys(map, panel) {
  const keys = {
    ArrowLeft: () => map.pan(60, 0), ArrowRight: () => map.pan(-60, 0), ArrowUp: () => map.pan(0, 60), ArrowDown: () => map.pan(0, -60),
    "+": () => map.zoom(1.4, ...map.eye()), "=": () => map.zoom(1.4, ...map.eye()), "-": () => map.zoom(1 / 1.4, ...map.eye()), 0: () => map.fit(),
    n: () => panel.walk(1), p: () => panel.walk(-1), c: () => panel.walk(Infinity),
    Enter: () => { if (map.hover >= 0) panel.keep(map.hover); if (map.pin >= 0) panel.sayRow(map.pin); },
    s: () => { if (map.pin >= 0) panel.select(members(points.cluster[map.pin])); },
    Escape: () => { panel.keep(-1); panel.select(null); },
  };
  map.stage.addEventListener("keydown", (event) => {
    const act = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    act();
  });
}

/** Paper is light, whatever the screen is. */
function setUpPrint(map, panel) {
  const { dataset } = document.documentElement;
  let kept;
  const redraw = () => { panel.colour(); map.drawNow(); };
  window.addEventListener("beforeprint", () => { kept = dataset.theme; dataset.theme = "light"; redraw(); });
  window.addEventListener("afterprint", () => { if (kept) dataset.theme = kept; else delete dataset.theme; redraw(); });
}

const members = (cluster) => Array.from({ length: points.n }, (_, i) => i).filter((i) => points.cluster[i] === cluster);

function setUpTools(map, panel) {
  const mode = (lasso) => {
    panel.lasso = lasso;
    $("lasso").setAttribute("aria-pressed", String(lasso));
    $("move").setAttribute("aria-pressed", String(!lasso));
    map.stage.classList.toggle("lasso", lasso);
  };
  $("lasso").addEventListener("click", () => mode(true));
  $("move").addEventListener("click", () => mode(false));
  $("zoom-in").addEventListener("click", () => map.zoom(1.5, ...map.eye()));
  $("zoom-out").addEventListener("click", () => map.zoom(1 / 1.5, ...map.eye()));
  $("fit").addEventListener("click", () => map.fit());
  $("map-svg").addEventListener("click", () => download(info.file + "-map.svg", map.svg(), "image/svg+xml"));
  $("map-png").addEventListener("click", () => map.raster.canvas.toBlob((blob) => blob && download(info.file + "-map.png", blob)));
  document.querySelectorAll('input[name="layout"]').forEach((input) => input.addEventListener("change", () => { panel.order = null; map.useLayout(Number(input.value)); map.draw(); }));
  document.querySelectorAll("[data-cluster]").forEach((button) => button.addEventListener("click", () => {
    panel.showOnly(() => true);
    panel.select(members(Number(button.dataset.cluster)));
    $("map").scrollIntoView();
  }));
  document.querySelectorAll("[data-row]").forEach((button) => button.addEventListener("click", () => {
    const i = pointOf(Number(button.dataset.row));
    if (i < 0) { panel.say("This row is not on the map"); return; }
    map.hidden[points.cluster[i]] = 0;
    panel.showOnly((c) => !map.hidden[c]);
    panel.keep(i);
    map.reach(i);
    $("map").scrollIntoView();
  }));
}

async function start() {
  const stage = $("stage");
  if (!stage) { setUpTheme(() => {}); document.querySelectorAll("[data-cluster]").forEach((button) => (button.hidden = true)); return; }
  let [map, panel] = [null, null];
  setUpTheme(() => { if (map) { panel.colour(); map.draw(); } });
  try {
    await unpack();
  } catch {
    $("busy").textContent = "This browser cannot unpack the map. A newer one can.";
    return;
  }
  map = new RowMap(stage);
  panel = new Panel(map);
  setUpPointer(map, panel);
  setUpKeys(map, panel);
  setUpTools(map, panel);
  $("busy").hidden = true;
  map.drawNow();
  map.loadPictures().catch(() => { /* dots stay dots */ });
  document.documentElement.dataset.ready = String(Math.round(performance.now()));
  setUpPrint(map, panel);
}
start();
