// The page of a sweep: theme, a table to sort, and members found in both pictures.

setUpTheme(() => {});

const table = $("table");
const body = table.tBodies[0];
const heads = [...table.tHead.rows[0].cells];

/** What a cell is sorted by; nothing comes last, whichever way. */
const value = (row, column) => row.cells[column].dataset.v ?? "";

function sort(column, down) {
  const rows = [...body.rows];
  const numeric = rows.every((row) => value(row, column) === "" || Number.isFinite(Number(value(row, column))));
  const compare = (a, b) => (numeric ? Number(a) - Number(b) : a.localeCompare(b, "en"));
  rows.sort((one, other) => {
    const [a, b] = [value(one, column), value(other, column)];
    if (a === "" || b === "") return (a === "") - (b === "");
    return compare(a, b) * (down ? -1 : 1) || one.dataset.member - other.dataset.member;
  });
  body.append(...rows);
  heads.forEach((head, place) => head.hasAttribute("aria-sort") && head.setAttribute("aria-sort", place !== column ? "none" : down ? "descending" : "ascending"));
}

heads.forEach((head, column) => {
  const button = head.querySelector("button");
  if (button) button.addEventListener("click", () => sort(column, head.getAttribute("aria-sort") === "ascending"));
});

/** Marks a member's line and row. */
function light(member) {
  document.querySelectorAll(".lit").forEach((node) => node.classList.remove("lit"));
  if (member) document.querySelectorAll('[data-member="' + Number(member) + '"]').forEach((node) => node.classList.add("lit"));
}

document.querySelectorAll("[data-member]").forEach((node) => {
  node.addEventListener("pointerenter", () => light(node.dataset.member));
  node.addEventListener("pointerleave", () => light(null));
  node.addEventListener("focusin", () => light(node.dataset.member));
  node.addEventListener("focusout", () => light(null));
});

// Paper is light, whatever the screen is.
let kept;
window.addEventListener("beforeprint", () => { kept = document.documentElement.dataset.theme; document.documentElement.dataset.theme = "light"; });
window.addEventListener("afterprint", () => { if (kept) document.documentElement.dataset.theme = kept; else delete document.documentElement.dataset.theme; });
