// The two figures that answer: cost against attainment, and capacity over time. Knows the embedded data, not the page.
//
// `view.shows(s)` says whether scaler s is shown; `view.zoomed(id, window)` keeps a window, null when all is seen.

const NEAR_PX = 40; // a point further from the pointer than this is not meant
const BLOCKS = 5; // fewer load blocks give no interval over loads
const SHAPES = {
  "●": "M-1 0A1 1 0 1 0 1 0A1 1 0 1 0 -1 0Z", "■": "M-.9-.9H.9V.9H-.9Z", "◆": "M0-1.25L1.1 0L0 1.25L-1.1 0Z",
  "▲": "M0-1.15L1.1.9H-1.1Z", "▼": "M0 1.15L1.1-.9H-1.1Z", "✚": "M-.4-1.1H.4V-.4H1.1V.4H.4V1.1H-.4V.4H-1.1V-.4H-.4Z",
  "✖": "M0-.55L.65-1.2L1.2-.65L.55 0L1.2.65L.65 1.2L0 .55L-.65 1.2L-1.2.65L-.55 0L-1.2-.65L-.65-1.2Z",
  "★": "M0-1.7L.45-.6L1.6-.52L.72.22L1 1.35L0 .73L-1 1.35L-.72.22L-1.6-.52L-.45-.6Z",
};

// Numbers as the tables write them.
const usd = (value) => (value >= 1000 ? Math.round(value).toLocaleString("en") : value.toFixed(2));
const share = (value) => {
  const missing = 100 * (1 - value);
  if (missing < 1e-3) return "> 99.999\u00a0%";
  return `${(100 * value).toFixed(Math.max(2, 1 - Math.floor(Math.log10(missing))))}\u00a0%`;
};
const count = (value) => (value >= 1e6 ? `${(value / 1e6).toFixed(1)} M` : Math.round(value).toLocaleString("en"));
const short = (value) => (Math.abs(value) >= 100 ? Math.round(value).toLocaleString("en") : String(+value.toPrecision(3)));

const colour = (scaler) => `var(--hue-${scaler.hue})`;

// What is said beside the pointer; after a key it is also read out.
const tip = {
  element: html("div", { class: "tip off", role: "tooltip" }),
  show(content, x, y, aloud = false) {
    this.element.replaceChildren(...content);
    this.element.classList.remove("off");
    const { width, height } = this.element.getBoundingClientRect();
    const page = document.documentElement;
    const left = x + 16 + width > page.clientWidth ? x - 16 - width : x + 16;
    this.element.style.left = `${clamp(left, 4, Math.max(4, page.clientWidth - width - 4))}px`;
    this.element.style.top = `${clamp(y + 14, 4, Math.max(4, window.innerHeight - height - 4))}px`;
    if (aloud) document.getElementById("said").textContent = this.element.innerText.replaceAll("\n", ", ");
  },
  hide() { this.element.classList.add("off"); },
};

function sign(scaler) {
  return html("i", { style: `color: ${colour(scaler)}`, "aria-hidden": "true" }, scaler.sign);
}

function table(head, rows) {
  const line = (cells, name, here) => html("tr", here ? { class: "here" } : {}, ...cells.map((cell) => html(name, {}, cell)));
  return html("table", {}, ...(head ? [line(head, "th")] : []), ...rows.map(({ cells, here }) => line(cells, "td", here)));
}

// The line over a figure: what can be done, and a button while it is zoomed.
function zoomHint(host, words, reset) {
  const button = html("button", { type: "button", class: "reset off" }, "Reset zoom");
  button.addEventListener("click", reset);
  host.before(html("div", { class: "hint" }, html("span", {}, words), button));
  return (isZoomed) => button.classList.toggle("off", !isZoomed);
}

class Fronts {
  constructor(host, id, load, { scalers, point: names }, view) {
    Object.assign(this, { id, load, scalers, view });
    const [cheap, dear, low, high] = load.fronts.window;
    this.points = load.fronts.points.map((values) => {
      const point = Object.fromEntries(values.map((value, i) => [names[i], value]));
      return { ...point, x: Math.log10(point.usd) };
    });
    this.hint = zoomHint(host, "Drag to zoom, double-click to see all.", () => this.plot.zoomTo(null));
    this.plot = new Plot(host, {
      label: `Cost against attainment on ${load.name}`, height: 410, zooms: "xy", margins: [26, 14, 40, 66],
      axes: { x: "logarithmic", y: "level" }, names: { x: "cost, USD/h (logarithmic)", y: "requests within the SLO" },
      whole: { x: [Math.log10(cheap), Math.log10(dear)], y: [low, high] },
    }, {
      paint: (plot, layer) => this.paint(plot, layer),
      point: (_, x, y) => this.point(x, y),
      step: (_, dx, dy) => this.step(dx, dy),
      zoomed: () => this.zoomed(),
    });
  }

  get seen() { return this.points.filter((point) => this.view.shows(point.s)); }

  paint(plot, layer) {
    this.load.targets.forEach(([target, level], i) => {
      const y = round(plot.py(level));
      const dashes = i === 0 ? "6 4" : "1.5 4";
      svg("line", { class: "target", x1: plot.left, x2: plot.left + plot.inner, y1: y, y2: y, "stroke-dasharray": dashes }, layer);
      if (i === 0) svg("text", { x: plot.left + plot.inner - 6, y: y - 5, "text-anchor": "end" }, layer, `target ${+(100 * target).toPrecision(6)}\u00a0%`);
    });
    this.groups = this.scalers.map((scaler, s) => {
      if (!this.view.shows(s)) return null;
      const group = svg("g", { "data-scaler": scaler.label, stroke: colour(scaler), fill: colour(scaler) }, layer);
      for (let seed = 0; seed < scaler.members; seed++) this.paintOne(plot, group, scaler, s, seed);
      return group;
    });
  }

  paintOne(plot, group, scaler, s, seed) {
    const mine = this.points.filter((point) => point.s === s && point.seed === seed);
    const front = mine.filter((point) => point.on).sort((a, b) => a.x - b.x);
    const path = front.map((point) => `${round(plot.px(point.x))} ${round(plot.py(point.level))}`).join("L");
    const many = scaler.members > 1;
    const line = { fill: "none", "stroke-width": many ? 1.1 : scaler.width, "stroke-dasharray": scaler.dash, opacity: many ? 0.55 : 1 };
    if (path) svg("path", { d: `M${path}`, ...line }, group);
    for (const point of mine) {
      const place = `translate(${round(plot.px(point.x))} ${round(plot.py(point.level))})`;
      if (point.kind === "frozen") svg("circle", { r: 7.5, transform: place, fill: "none", "stroke-width": 1.8 }, group);
      else if (point.kind === "defaults") svg("path", { d: SHAPES["✖"], transform: `${place} scale(6)`, stroke: "var(--ink)", "stroke-width": 0.22 }, group);
      else svg("path", { d: SHAPES[scaler.sign], transform: `${place} scale(3.7)`, stroke: "none", opacity: many ? 0.6 : 0.95 }, group);
    }
  }

  isInside(point) {
    const { x, y } = this.plot.window;
    return point.x >= x[0] && point.x <= x[1] && point.level >= y[0] && point.level <= y[1];
  }

  point(x, y) {
    if (x === null) return this.choose(null);
    const far = (point) => Math.hypot(this.plot.px(point.x) - x, this.plot.py(point.level) - y);
    // Where a ring lies around a marker, the ring says more.
    const near = this.seen.filter((point) => this.isInside(point) && far(point) < NEAR_PX);
    near.sort((a, b) => far(a) - far(b) || a.kind.localeCompare(b.kind));
    return this.choose(near[0] ?? null);
  }

  // Left and right go along one scaler's points, up and down to the nearest point of another scaler.
  step(dx, dy) {
    const inside = this.seen.filter((point) => this.isInside(point)).sort((a, b) => a.s - b.s || a.seed - b.seed || a.x - b.x);
    if (inside.length === 0) return;
    if (!inside.includes(this.chosen)) return this.choose(inside[0], true);
    if (dy === 0) {
      const mine = inside.filter((point) => point.s === this.chosen.s);
      return this.choose(mine[clamp(mine.indexOf(this.chosen) + dx, 0, mine.length - 1)], true);
    }
    const order = [...new Set(inside.map((point) => point.s))];
    const next = order[(order.indexOf(this.chosen.s) - Math.sign(dy) + order.length) % order.length];
    const theirs = inside.filter((point) => point.s === next);
    theirs.sort((a, b) => Math.abs(a.x - this.chosen.x) - Math.abs(b.x - this.chosen.x));
    return this.choose(theirs[0], true);
  }

  choose(point, aloud = false) {
    this.chosen = point;
    this.plot.cursor = point && { x: point.x, y: point.level };
    this.groups.forEach((group, s) => group?.classList.toggle("faint", point !== null && s !== point.s));
    this.plot.over.replaceChildren();
    if (!point) return tip.hide();
    const [x, y] = [this.plot.px(point.x), this.plot.py(point.level)];
    svg("circle", { cx: x, cy: y, r: 10, fill: "none", stroke: "var(--ink)" }, this.plot.over);
    const box = this.plot.root.getBoundingClientRect();
    return tip.show(this.told(point), box.left + x, box.top + y, aloud);
  }

  told(point) {
    const scaler = this.scalers[point.s];
    const kinds = { swept: point.on ? "one knob value, on the front" : "one knob value, behind the front",
      frozen: "knob frozen on training loads", defaults: "product defaults, not tuned" };
    const rows = [["cost", `${usd(point.usd)} USD/h`], ["attainment", share(point.share)], ["95 % interval", this.interval(point, scaler)],
      ["requests", count(point.n)]];
    if (scaler.knob && point.knob !== null) rows.unshift([scaler.knob, short(point.knob)]);
    if (scaler.members > 1) rows.unshift(["training seed", String(point.seed)]);
    return [html("b", {}, sign(scaler), scaler.label), kinds[point.kind], table(null, rows.map((cells) => ({ cells })))];
  }

  interval(point, scaler) {
    if (point.low === undefined) return this.load.blocks < BLOCKS ? "none over so few loads" : "not kept";
    const ends = `${share(point.low)} – ${share(point.high)}`;
    return scaler.members > 1 && point.kind === "frozen" ? `${ends} (all seeds together)` : ends;
  }

  zoomed() {
    this.hint(this.plot.isZoomed);
    this.view.zoomed(this.id, this.plot.isZoomed ? this.plot.window : null);
  }

  zoom(window) {
    this.plot.zoom(window);
    this.hint(this.plot.isZoomed);
  }

  draw() { this.plot.draw(); }
}

class TimeLines {
  constructor(host, id, load, { scalers }, view) {
    Object.assign(this, { id, scalers, view, time: load.time });
    const { t, need } = load.time;
    this.panels = load.time.panels.map((panel) => ({ t, need, requests_per_s: load.time.requests_per_s, ...panel }));
    const peak = Math.max(...this.panels.flatMap((panel) => [...panel.need, ...panel.ready.map((ready, i) => ready + panel.pending[i])]));
    this.queue = Math.max(1, ...this.panels.flatMap((panel) => panel.waiting));
    this.hint = zoomHint(host, `Drag to zoom all panels, double-click to see all.${load.time.thinned ? " Of each stretch the smallest and the largest value are drawn." : ""}`, () => this.plots[0].zoomTo(null));
    const whole = { x: [t[0], Math.max(...this.panels.map((panel) => panel.t.at(-1)))], y: [0, 1.08 * peak] };
    this.plots = this.panels.map((panel) => {
      const place = html("div", { "data-scaler": scalers[panel.s].label });
      host.append(place);
      return new Plot(place, {
        label: `Capacity over time, ${panel.title}, ${load.name}`, height: 206, strip: 40, margins: [24, 8, 36, 40], zooms: "x", whole,
        axes: { x: "linear", y: "whole" }, names: { x: load.time.unit }, title: panel.title,
      }, {
        paint: (plot, layer) => this.paint(plot, layer, panel),
        point: (plot, x, y) => this.point(plot, panel, x, y),
        step: (plot, dx) => this.step(plot, panel, dx),
        zoomed: (plot) => this.zoomed(plot),
      });
    });
  }

  paint(plot, layer, panel) {
    const { t, ready, pending, need, waiting } = panel;
    const first = Math.max(0, lastAtOrBefore(t, plot.window.x[0]));
    const last = Math.min(t.length - 1, lastAtOrBefore(t, plot.window.x[1]) + 1);
    const draw = (values, base, y, attributes) => svg("path", { d: steps(plot, t, values, base, first, last, y), ...attributes }, layer);
    const main = (value) => plot.py(value);
    const foot = plot.bottom + plot.strip;
    const below = (value) => foot - (value / this.queue) * (plot.strip - 10);
    const own = { fill: colour(this.scalers[panel.s]) };
    draw(ready, () => 0, main, { ...own, opacity: 0.4 });
    draw(ready.map((value, i) => value + pending[i]), (i) => ready[i], main, { class: "pending" });
    draw(need, null, main, { class: "need" });
    draw(waiting, () => 0, below, { ...own, opacity: 0.95 });
    svg("line", { class: "axis", x1: plot.left, x2: plot.left + plot.inner, y1: plot.bottom, y2: plot.bottom }, plot.root);
    const names = svg("g", { class: "tick" }, plot.root);
    svg("text", { x: plot.left - 7, y: plot.bottom + 18, "text-anchor": "end" }, names, this.queue >= 1e4 ? `${short(this.queue / 1000)}k` : short(this.queue));
    svg("text", { x: plot.left + 4, y: plot.bottom + 17 }, names, "queue");
  }

  point(plot, panel, x, y) {
    if (x === null) return this.at(null);
    const inside = x >= plot.left && x <= plot.left + plot.inner;
    return this.at(inside ? clamp(plot.atX(x), ...plot.window.x) : null, plot, panel, y);
  }

  step(plot, panel, dx) {
    const from = plot.cursor ? lastAtOrBefore(panel.t, plot.cursor.x) + dx : lastAtOrBefore(panel.t, plot.window.x[0]) + 1;
    this.at(clamp(panel.t[clamp(from, 0, panel.t.length - 1)], ...plot.window.x), plot, panel, 60, true);
  }

  // The same moment in every panel, and what every shown scaler had then.
  at(moment, plot = null, panel = null, y = 0, aloud = false) {
    for (const one of this.plots) {
      one.cursor = moment === null ? null : { x: moment };
      one.over.replaceChildren();
      if (moment === null || !one.root.clientWidth) continue;
      const x = round(one.px(moment));
      svg("line", { class: "cursor", x1: x, x2: x, y1: one.top, y2: one.bottom + one.strip }, one.over);
    }
    if (moment === null) return tip.hide();
    const box = plot.root.getBoundingClientRect();
    return tip.show(this.told(moment, panel), box.left + plot.px(moment), box.top + y, aloud);
  }

  told(moment, panel) {
    const i = lastAtOrBefore(panel.t, moment);
    const rows = this.panels.filter((one) => this.view.shows(one.s)).map((one) => {
      const j = lastAtOrBefore(one.t, moment);
      const name = html("span", {}, sign(this.scalers[one.s]), ` ${this.scalers[one.s].label}`);
      return { cells: [name, ...[one.ready, one.pending, one.waiting, one.missed_per_s].map((values) => short(values[j]))], here: one === panel };
    });
    const demand = `need ${short(panel.need[i])} replicas, ${short(panel.requests_per_s[i])} requests/s`;
    return [html("b", {}, this.clock(panel.t[i])), demand, table(["", "ready", "ordered", "queue", "missed/s"], rows)];
  }

  clock(t) {
    if (this.time.unit === "minutes") return `${+t.toFixed(1)} min`;
    const minutes = Math.round(60 * t);
    return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
  }

  zoomed(plot) {
    const window = plot.isZoomed ? { x: [...plot.window.x] } : null;
    this.zoom(window, plot);
    this.view.zoomed(this.id, window);
  }

  zoom(window, done = null) {
    for (const plot of this.plots) if (plot !== done) plot.zoom(window);
    this.hint(this.plots[0]?.isZoomed);
  }

  draw() { for (const plot of this.plots) plot.draw(); }
}

// A staircase through values[first..last], filled down to `base` where one is given.
function steps(plot, t, values, base, first, last, y) {
  const x = (i) => round(plot.px(t[i]));
  let d = `M${x(first)} ${round(y(values[first]))}`;
  for (let i = first + 1; i <= last; i++) if (values[i] !== values[i - 1] || i === last) d += `H${x(i)}V${round(y(values[i]))}`;
  if (!base) return d;
  d += `V${round(y(base(last)))}`;
  for (let i = last; i > first; i--) d += `H${x(i)}V${round(y(base(i - 1)))}`;
  return `${d}H${x(first)}Z`;
}

// Index of the last time that is not after `moment`; 0 where there is none.
function lastAtOrBefore(t, moment) {
  let [low, high] = [0, t.length - 1];
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (t[middle] <= moment) low = middle;
    else high = middle - 1;
  }
  return low;
}
