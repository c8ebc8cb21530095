// The page: filters, colour scheme, and the address that keeps what is shown. Figures draw themselves.
//
// #hide=hpa&hideload=chat&zoom=fronts-0_1.6_1.8_2_3&at=fronts says what is hidden, which windows are zoomed, where to be.

const data = JSON.parse(document.getElementById("data").textContent);
const root = document.documentElement;
const names = { scaler: data.scalers.map((scaler) => scaler.label), load: data.loads.map((load) => load.name) };
const keys = { scaler: "hide", load: "hideload" };
const hidden = { scaler: new Set(), load: new Set() };
const zooms = new Map(); // figure id -> window
const figures = new Map();
let at = "";

const view = {
  shows: (s) => !hidden.scaler.has(names.scaler[s]),
  zoomed(id, window) {
    if (window) zooms.set(id, window);
    else zooms.delete(id);
    writeAddress();
  },
};

function makeFigures() {
  document.body.append(tip.element);
  for (const host of document.querySelectorAll("[data-chart]")) {
    const { chart, index } = host.dataset;
    const load = data.loads[index];
    const id = `${chart}-${index}`;
    if (chart === "fronts" && load.fronts.points.length) figures.set(id, new Fronts(host, id, load, data, view));
    if (chart === "time" && load.time) figures.set(id, new TimeLines(host, id, load, data, view));
  }
}

function applyFilters() {
  for (const kind of ["scaler", "load"]) {
    for (const element of document.querySelectorAll(`[data-${kind}]`))
      element.classList.toggle("off", hidden[kind].has(element.dataset[kind]));
    for (const chip of document.querySelectorAll(`[data-filter="${kind}"]`))
      chip.setAttribute("aria-pressed", String(!hidden[kind].has(chip.dataset.name)));
    document.querySelector(`[data-all="${kind}"]`)?.classList.toggle("off", hidden[kind].size === 0);
  }
  tip.hide();
  for (const figure of figures.values()) figure.draw();
}

function toggle(kind, name, alone) {
  const others = names[kind].filter((other) => other !== name);
  if (alone) hidden[kind] = new Set(others);
  else if (!hidden[kind].delete(name)) hidden[kind].add(name);
  applyFilters();
  writeAddress();
}

function writeAddress() {
  const said = new URLSearchParams();
  for (const kind of ["scaler", "load"]) for (const name of hidden[kind]) said.append(keys[kind], name);
  for (const [id, { x, y }] of zooms) said.append("zoom", [id, ...x, ...(y ?? [])].map((v) => (typeof v === "number" ? +v.toPrecision(6) : v)).join("_"));
  if (at) said.append("at", at);
  history.replaceState(null, "", `#${said}`);
}

function readAddress() {
  const text = location.hash.slice(1);
  const said = new URLSearchParams(text.includes("=") ? text : { at: text });
  for (const kind of ["scaler", "load"]) hidden[kind] = new Set(said.getAll(keys[kind]).filter((name) => names[kind].includes(name)));
  zooms.clear();
  for (const entry of said.getAll("zoom")) {
    const [id, ...ends] = entry.split("_");
    const [x0, x1, y0, y1] = ends.map(Number);
    if (!figures.has(id) || !(x0 < x1) || ![x0, x1].every(Number.isFinite)) continue;
    zooms.set(id, y0 < y1 ? { x: [x0, x1], y: [y0, y1] } : { x: [x0, x1] });
  }
  applyFilters();
  for (const [id, figure] of figures) figure.zoom(zooms.get(id) ?? null);
  at = said.get("at") ?? "";
  if (at) document.getElementById(at)?.scrollIntoView();
}

// Light or dark: the system's choice until the reader makes another; choosing the system's again follows it again.
const system = matchMedia("(prefers-color-scheme: dark)");
const THEME = "rlscale-report-theme";

function showTheme() {
  const dark = (root.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
  document.getElementById("theme").textContent = dark ? "Light colours" : "Dark colours";
  return dark;
}

function chooseTheme() {
  const wanted = showTheme() ? "light" : "dark";
  if (wanted === (system.matches ? "dark" : "light")) delete root.dataset.theme;
  else root.dataset.theme = wanted;
  keepTheme(root.dataset.theme);
  showTheme();
}

// Some browsers refuse storage to files; then the choice lasts as long as the page.
function keepTheme(theme) {
  try {
    if (theme) localStorage.setItem(THEME, theme);
    else localStorage.removeItem(THEME);
  } catch { /* not kept */ }
}

function keptTheme() {
  try { return localStorage.getItem(THEME); } catch { return null; }
}

// Where links lead is not hidden behind the bar.
function keepBelowBar() {
  root.style.setProperty("--bar", `${document.querySelector(".bar").offsetHeight}px`);
}

function listen() {
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    const link = event.target.closest("nav a");
    if (button?.dataset.filter) toggle(button.dataset.filter, button.dataset.name, event.shiftKey);
    else if (button?.dataset.all) {
      hidden[button.dataset.all].clear();
      applyFilters();
      writeAddress();
    } else if (button?.id === "theme") chooseTheme();
    else if (link) {
      event.preventDefault();
      at = link.getAttribute("href").slice(1);
      document.getElementById(at).scrollIntoView();
      writeAddress();
    }
  });
  window.addEventListener("hashchange", readAddress);
  window.addEventListener("scroll", () => tip.hide(), { passive: true });
  window.addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((part) => { part.open = true; }));
  system.addEventListener("change", showTheme);
}

if (["light", "dark"].includes(keptTheme())) root.dataset.theme = keptTheme();
showTheme();
keepBelowBar();
makeFigures();
readAddress();
listen();
new ResizeObserver(keepBelowBar).observe(document.querySelector(".bar"));
