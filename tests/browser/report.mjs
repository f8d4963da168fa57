// Opens generated reports in Chromium and uses them as a reader would.
//
//   node report.mjs PAGES [SHOTS]
//
// PAGES holds what tests/report_pages.rs wrote. CHROMIUM names the browser (default: /usr/bin/chromium).
// Every check prints a line; the exit code is the number of checks that failed, at most 100.

import { readFileSync, existsSync, mkdirSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const [pages, shots] = [resolve(process.argv[2] ?? "target/reports"), process.argv[3] && resolve(process.argv[3])];
if (shots) mkdirSync(shots, { recursive: true });
let failed = 0;

function check(name, fits, detail = "") {
  if (!fits) failed += 1;
  console.log(`${fits ? "ok    " : "FAILED"} ${name}${detail !== "" ? `: ${detail}` : ""}`);
}

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"],
});

/** Opens a page, collects what goes wrong, and waits until the map is there. */
async function open(name, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, colorScheme: "light", acceptDownloads: true, ...options });
  const page = await context.newPage();
  const problems = [];
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && problems.push(message.text()));
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("dialog", (dialog) => { problems.push("dialog: " + dialog.message()); dialog.dismiss(); });
  page.on("request", (request) => /^(https?|ftp|ws)/.test(request.url()) && problems.push("request: " + request.url()));
  await page.goto(pathToFileURL(join(pages, name + ".html")).href);
  await page.waitForFunction(() => document.documentElement.dataset.ready, null, { timeout: 60000 });
  return { page, problems, close: () => context.close() };
}

async function text(download) {
  return readFileSync(await download.path(), "utf8");
}

async function clickAndSave(page, selector) {
  const [download] = await Promise.all([page.waitForEvent("download"), page.click(selector)]);
  return { name: download.suggestedFilename(), content: await text(download) };
}

/** Where the map is, once it is in view. */
async function stageBox(page) {
  await page.evaluate(() => { document.documentElement.style.scrollBehavior = "auto"; document.getElementById("stage").scrollIntoView({ block: "center" }); });
  return page.locator("#stage").boundingBox();
}

/** Places of some points on the screen, found by looking for a tooltip. */
async function findPoint(page) {
  const box = await stageBox(page);
  for (let y = 0.2; y < 0.85; y += 0.03) {
    for (let x = 0.15; x < 0.9; x += 0.03) {
      await page.mouse.move(box.x + box.width * x, box.y + box.height * y);
      if (await page.locator("#tip").isVisible()) return [box.x + box.width * x, box.y + box.height * y];
    }
  }
  return null;
}

async function lasso(page, [x0, y0, x1, y1]) {
  await page.keyboard.down("Shift");
  await page.mouse.move(x0, y0);
  await page.mouse.down();
  for (const [x, y] of [[x1, y0], [x1, y1], [x0, y1], [x0, y0 + 5]]) await page.mouse.move(x, y, { steps: 6 });
  await page.mouse.up();
  await page.keyboard.up("Shift");
}

async function accessibility(name, colorScheme, viewport = { width: 1440, height: 900 }) {
  const { page, close } = await open(name, { colorScheme, viewport });
  await page.evaluate(() => document.querySelectorAll("details").forEach((details) => (details.open = true)));
  await page.evaluate(axe);
  const found = await page.evaluate(() => window.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] }));
  const grave = found.violations.filter((v) => ["serious", "critical"].includes(v.impact));
  check(`${name}, ${colorScheme}, ${viewport.width} wide: no grave violation`, grave.length === 0, grave.map((v) => `${v.id} (${v.nodes.length}): ${v.nodes[0].html.slice(0, 140)} ${v.nodes[0].failureSummary?.slice(0, 260)}`).join(" | "));
  const mild = found.violations.filter((v) => !grave.includes(v)).map((v) => `${v.id} ×${v.nodes.length}`);
  if (mild.length) console.log(`       milder: ${mild.join(", ")}`);
  await close();
}

async function shoot(name, label, options = {}, act = async () => {}) {
  if (!shots) return;
  const { page, close } = await open(name, options);
  await act(page);
  await page.waitForTimeout(250);
  await page.screenshot({ path: join(shots, `${name}-${label}.png`), fullPage: label.endsWith("full") });
  await close();
}

async function useIt() {
  const { page, problems, close } = await open("digits");
  const spot = await findPoint(page);
  check("digits: hover shows a tooltip", spot !== null);
  check("digits: the tooltip has a picture and names the cluster", (await page.locator("#tip .px").count()) === 1 && (await page.locator("#tip").innerText()).includes("Cluster"));
  const shown = await page.locator("#tip strong").innerText();
  await page.mouse.click(...spot);
  check("digits: a click keeps the row", (await page.locator("#pinned strong").innerText()) === shown, shown);
  const box = await stageBox(page);
  await lasso(page, [box.x + 4, box.y + 4, box.x + box.width - 4, box.y + box.height - 4]);
  check("digits: a lasso around all selects all", (await page.locator("#selected").innerText()).startsWith("1,797 "), await page.locator("#selected").innerText());
  const all = await clickAndSave(page, "#csv");
  const lines = all.content.trimEnd().split("\r\n");
  check("digits: the CSV has a line for each row", lines.length === 1798 && /-selection\.csv$/.test(all.name), `${lines.length} lines, ${all.name}`);
  check("digits: its head", lines[0] === "row,cluster,confidence,second_choice,class,outlier_score,mean of all pixels", lines[0]);
  await page.click("#clear");
  await lasso(page, [spot[0] - 40, spot[1] - 40, spot[0] + 40, spot[1] + 40]);
  const some = await clickAndSave(page, "#csv");
  const rows = some.content.trimEnd().split("\r\n").slice(1).map((line) => line.split(","));
  const count = parseInt(await page.locator("#selected").innerText(), 10);
  const pinned = shown.replace(/\D/g, "");
  check("digits: a small lasso selects what is inside", rows.length === count && count > 0 && count < 1797 && rows.some((row) => row[0] === pinned), `${count} rows, with row ${pinned}`);
  const line = lines.find((one) => one.startsWith(pinned + ","));
  check("digits: the CSV says what the page says", (await page.locator("#pinned").innerText()).includes("Class\n" + line.split(",")[4]) || (await page.locator("#pinned .facts2").innerText()).replace(/\s+/g, " ").includes("Class " + line.split(",")[4]), line);

  await page.focus("#stage");
  await page.keyboard.press("Escape");
  check("keys: Escape clears", !(await page.locator("#selection").isVisible()));
  await page.keyboard.press("n");
  const first = await page.locator("#live").innerText();
  await page.keyboard.press("n");
  const second = await page.locator("#live").innerText();
  check("keys: N steps and says the row", first.startsWith("Row ") && second.startsWith("Row ") && first !== second, first);
  await page.keyboard.press("c");
  check("keys: C goes to the next cluster", (await page.locator("#live").innerText()).includes("Cluster 1"));
  await page.keyboard.press("s");
  check("keys: S selects the cluster", (await page.locator("#selected").innerText()).includes("selected"));
  const before = await page.locator("#stage").screenshot();
  for (const key of ["+", "+", "ArrowLeft", "ArrowUp"]) await page.keyboard.press(key);
  await page.waitForTimeout(120);
  check("keys: + and arrows change the view", !before.equals(await page.locator("#stage").screenshot()));
  await page.keyboard.press("0");
  await page.keyboard.press("n");
  for (let i = 0; i < 9; i++) await page.keyboard.press("+");
  await page.waitForTimeout(400);
  if (shots) await page.screenshot({ path: join(shots, "digits-zoomed.png") });
  await page.keyboard.press("0");

  await page.locator("#map input[value='1']").check({ force: true });
  for (const value of ["class", "confidence", "outlier", "0", "cluster"]) await page.selectOption("#colour", value);
  await page.click("[data-entry='3'] .toggle");
  check("legend: a click hides a cluster", (await page.getAttribute("[data-entry='3'] .toggle", "aria-pressed")) === "false");
  await page.click("#all");
  await page.click("#cluster-2 [data-row] >> nth=0");
  check("cards: a picture keeps its row on the map", (await page.locator("#pinned strong").count()) === 1);
  await page.click("#cluster-4 .show");
  check("cards: Show selects the cluster", (await page.locator("#selected").innerText()).includes("selected"));
  const map = await clickAndSave(page, "#map-svg");
  check("figures: the map as SVG", map.content.startsWith("<svg") && map.content.includes("<path"));
  const chart = await clickAndSave(page, ".chart [data-save] >> nth=0");
  check("figures: a chart as SVG, with its colours", chart.content.includes("<title") && /stroke="rgb/.test(chart.content) && !chart.content.includes("var("), chart.name);
  await page.click("#theme");
  check("theme: the button changes it", (await page.evaluate(() => document.documentElement.dataset.theme)) === "dark");
  check("digits: nothing went wrong", problems.length === 0, problems.join(" | "));
  await close();
}

async function touchIt() {
  const { page, problems, close } = await open("digits", { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true, deviceScaleFactor: 2 });
  const wide = await page.evaluate(() => document.documentElement.scrollWidth);
  check("phone: nothing is wider than the screen", wide <= 390, `${wide} pixels`);
    const box = await stageBox(page);
  let kept = 0;
  for (let y = 0.3; y < 0.75 && !kept; y += 0.07) {
    for (let x = 0.2; x < 0.85 && !kept; x += 0.1) {
      await page.touchscreen.tap(box.x + box.width * x, box.y + box.height * y);
      kept = await page.locator("#pinned strong").count();
    }
  }
  check("phone: a tap keeps a row", kept === 1);
  check("phone: nothing went wrong", problems.length === 0, problems.join(" | "));
  await close();
}

async function attackIt() {
  const { page, problems, close } = await open("hostile");
  check("hostile: the title is not owned", !(await page.title()).startsWith("owned"), await page.title());
  check("hostile: no element came from text", (await page.locator("img, main b:has-text('bold'), svg[onload], main script").count()) === 0);
  check("hostile: nothing hidden is left", !/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069\u200b-\u200f]/.test(await page.evaluate(() => document.body.innerText)));
  const box = await stageBox(page);
  await lasso(page, [box.x + 3, box.y + 3, box.x + box.width - 3, box.y + box.height - 3]);
  for (const value of ["class", "confidence", "0", "1"]) await page.selectOption("#colour", value);
  for (let i = 0; i < 20; i++) await page.keyboard.press("n");
  const { content } = await clickAndSave(page, "#csv");
  const fields = content.split(/,|\r\n/).map((field) => field.replace(/^"/, ""));
  const formula = fields.filter((field) => /^[=+@\t]|^-[^\d.]/.test(field) || /^-\d+[^\d.]/.test(field));
  check("hostile: the CSV has no formula", formula.length === 0 && content.includes("'=HYPERLINK"), formula.slice(0, 3).join(" ; "));
  check("hostile: nothing went wrong", problems.length === 0, problems.join(" | "));
  await close();
}

async function timeIt(name) {
  const { page, problems, close } = await open(name);
  const ready = Number(await page.evaluate(() => document.documentElement.dataset.ready));
  const bytes = statSync(join(pages, name + ".html")).size;
  check(`${name}: below 5 MB`, bytes < 5_000_000, `${bytes} bytes`);
    await page.focus("#stage");
  const box = await stageBox(page);
  await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
  await page.mouse.down();
  const frames = page.evaluate(() => new Promise((done) => {
    const times = [];
    let last = performance.now();
    const tick = (now) => { times.push(now - last); last = now; if (times.length < 40) requestAnimationFrame(tick); else done(times.slice(2).sort((a, b) => a - b)); };
    requestAnimationFrame(tick);
  }));
  for (let i = 0; i < 60; i++) await page.mouse.move(box.x + box.width / 2 + 80 * Math.sin(i / 5), box.y + box.height / 2 + 60 * Math.cos(i / 7));
  const times = await frames;
  await page.mouse.up();
  console.log(`       ${name}: ready after ${ready} ms; frames while panning: median ${times[times.length >> 1].toFixed(0)} ms, worst ${times[times.length - 1].toFixed(0)} ms`);
  check(`${name}: nothing went wrong`, problems.length === 0, problems.join(" | "));
  await close();
}

await useIt();
await touchIt();
await attackIt();
await timeIt("ten-thousand");
await timeIt("large");
await timeIt("many");
for (const scheme of ["light", "dark"]) {
  for (const name of ["digits", "counts", "hostile"]) await accessibility(name, scheme);
}
await accessibility("many", "light");
await accessibility("digits", "dark", { width: 390, height: 844 });
const phone = { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true, deviceScaleFactor: 2 };
await shoot("digits", "wide");
await shoot("digits", "wide-full");
await shoot("digits", "dark-full", { colorScheme: "dark" });
await shoot("digits", "phone", phone);
await shoot("digits", "phone-full", phone);
const toMap = findPoint;
await shoot("digits", "map", {}, toMap);
await shoot("digits", "map-dark", { colorScheme: "dark" }, toMap);
await shoot("counts", "wide-full");
await shoot("hostile", "wide-full");
await shoot("large", "map", {}, toMap);
await shoot("many", "map", {}, toMap);
await shoot("many", "wide-full");
await browser.close();
if (existsSync(join(pages, "digits.html"))) console.log(failed ? `${failed} checks failed` : "all checks passed");
process.exit(Math.min(failed, 100));
