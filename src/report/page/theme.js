const $ = (id) => document.getElementById(id);

/** Light and dark, kept where the browser allows it. */
function setUpTheme(changed) {
  const button = $("theme");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const now = () => document.documentElement.dataset.theme || (dark.matches ? "dark" : "light");
  const label = () => (button.textContent = now() === "dark" ? "Light" : "Dark");
  try {
    const kept = localStorage.getItem("dec-theme");
    if (kept === "light" || kept === "dark") document.documentElement.dataset.theme = kept;
  } catch { /* no storage: the system's choice */ }
  button.addEventListener("click", () => {
    document.documentElement.dataset.theme = now() === "dark" ? "light" : "dark";
    try { localStorage.setItem("dec-theme", now()); } catch { /* not kept */ }
    label();
    changed();
  });
  dark.addEventListener("change", () => { label(); changed(); });
  label();
}
