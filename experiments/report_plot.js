// One plot: axes, a window that can be zoomed by dragging or by keys, and a cursor. Knows nothing of what it shows.
//
// An axis works in "places": what is drawn evenly. A cost has its logarithm as its place, a time itself.

const SVG = "http://www.w3.org/2000/svg";
const DRAG_PX = 5; // a press that moves less is a click
const MIN_SHARE = 1e-3; // of the whole axis; nothing is zoomed further

function svg(name, attributes = {}, parent = null, text = null) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== null) element.textContent = text;
  if (parent) parent.append(element);
  return element;
}

function html(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const round = (px) => Math.round(10 * px) / 10;

// About `count` round values between two ends.
function roundValues(low, high, count) {
  const rough = (high - low) / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999);
  const values = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) values.push(i * step);
  return { values, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
}

// Each axis gives its ticks as [place, label]; `count` is how many there is room for.
const AXES = {
  linear(low, high, count) {
    const { values, digits } = roundValues(low, high, count);
    return values.map((value) => [value, value.toFixed(digits)]);
  },
  whole(low, high, count) {
    return AXES.linear(low, high, Math.min(count, Math.max(1, Math.floor(high - low))));
  },
  logarithmic(low, high, count) {
    const [first, last] = [10 ** low, 10 ** high];
    for (const factors of [[1, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8], [1, 2, 3, 5, 7], [1, 2, 5], [1]]) {
      const values = [];
      for (let power = Math.floor(low); power <= high; power++)
        values.push(...factors.map((factor) => factor * 10 ** power).filter((v) => v >= first && v <= last));
      if (values.length > count) continue;
      if (values.length < 3) break;
      return values.map((value) => [Math.log10(value), String(+value.toPrecision(3))]);
    }
    const { values, digits } = roundValues(first, last, count);
    return values.filter((value) => value > 0).map((value) => [Math.log10(value), value.toFixed(digits)]);
  },
  // Places are attainment levels, -log10(1 - share).
  level(low, high, count) {
    const shares = [0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9999, 0.99999];
    const places = shares.map((share) => -Math.log10(1 - share)).filter((place) => place >= low && place <= high);
    const chosen = places.length >= 3 && places.length <= count + 4 ? places : roundValues(low, high, count).values;
    const digits = (high - low) / Math.max(1, count) < 0.02 ? 2 : 1;
    return chosen.map((place) => [place, percentOfLevel(place, digits)]);
  },
};

// With two digits of what is missing, or more where ticks are close.
function percentOfLevel(level, digits = 1) {
  const missing = 100 * 10 ** -level;
  return `${+(100 - missing).toFixed(clamp(digits - Math.floor(Math.log10(missing)), 0, 8))}\u00a0%`;
}

class Plot {
  // `shape`: label, height, axes {x, y}, whole {x: [low, high], y: [low, high]}, zooms ("x" or "xy"), strip (px below),
  // margins, names {x, y}, title. `acts`: paint(plot, layer), point(plot, x, y) or null, step(plot, dx, dy),
  // zoomed(plot).
  constructor(host, shape, acts) {
    Object.assign(this, { strip: 0, names: {}, title: "", margins: [10, 12, 34, 58] }, shape);
    this.acts = acts;
    this.window = structuredClone(this.whole);
    const hint = `${this.label}. Arrow keys move, plus and minus zoom, Escape shows all.`;
    this.root = svg("svg", { class: "plot", role: "application", tabindex: "0", "aria-label": hint, height: this.height }, host);
    this.clip = `clip-${Plot.count++}`;
    this.listen();
    new ResizeObserver(() => this.root.clientWidth !== this.width && this.draw()).observe(this.root);
    this.draw();
  }

  // Pixels of a place and places of a pixel.
  px(x) { return this.left + ((x - this.window.x[0]) / (this.window.x[1] - this.window.x[0])) * this.inner; }
  py(y) { return this.bottom - ((y - this.window.y[0]) / (this.window.y[1] - this.window.y[0])) * (this.bottom - this.top); }
  atX(px) { return this.window.x[0] + ((px - this.left) / this.inner) * (this.window.x[1] - this.window.x[0]); }
  atY(py) { return this.window.y[0] + ((this.bottom - py) / (this.bottom - this.top)) * (this.window.y[1] - this.window.y[0]); }

  get isZoomed() {
    return ["x", "y"].some((axis) => [0, 1].some((end) => this.window[axis][end] !== this.whole[axis][end]));
  }

  draw() {
    const [top, right, bottom, left] = this.margins;
    this.width = this.root.clientWidth || this.width || 600;
    Object.assign(this, { top, left, inner: Math.max(40, this.width - left - right), bottom: this.height - bottom - this.strip });
    this.root.setAttribute("viewBox", `0 0 ${this.width} ${this.height}`);
    this.root.replaceChildren();
    const box = svg("clipPath", { id: this.clip }, svg("defs", {}, this.root));
    svg("rect", { x: left, y: top - 4, width: this.inner, height: this.height - top - bottom + 5 }, box);
    this.drawAxes();
    const layer = svg("g", { "clip-path": `url(#${this.clip})` }, this.root);
    this.acts.paint(this, layer);
    this.over = svg("g", { "clip-path": `url(#${this.clip})` }, this.root);
  }

  drawAxes() {
    const [end, foot] = [this.left + this.inner, this.bottom + this.strip];
    const tick = (x, y, label, anchor) => {
      const group = svg("g", { class: "tick" }, this.root);
      svg("text", { x: round(x), y: round(y), "text-anchor": anchor }, group, label);
    };
    for (const [place, label] of AXES[this.axes.y](...this.window.y, Math.round((this.bottom - this.top) / 28))) {
      const y = round(this.py(place));
      svg("line", { class: "grid", x1: this.left, x2: end, y1: y, y2: y }, this.root);
      tick(this.left - 7, y + 4, label, "end");
    }
    for (const [place, label] of AXES[this.axes.x](...this.window.x, Math.floor(this.inner / 56))) {
      svg("line", { class: "grid", x1: round(this.px(place)), x2: round(this.px(place)), y1: this.top, y2: foot }, this.root);
      tick(this.px(place), foot + 16, label, "middle");
    }
    svg("path", { class: "axis", fill: "none", d: `M${this.left} ${this.top}V${foot}H${end}` }, this.root);
    if (this.names.x) svg("text", { x: this.left + this.inner / 2, y: this.height - 3, "text-anchor": "middle" }, this.root, this.names.x);
    if (this.names.y) svg("text", { x: 0, y: 11 }, this.root, this.names.y);
    if (this.title) svg("text", { class: "title", x: 0, y: 13 }, this.root, this.title);
  }

  // A new window, kept inside the whole; null shows everything.
  zoom(window) {
    for (const axis of ["x", "y"]) {
      const [low, high] = this.whole[axis];
      let [first, last] = window?.[axis] ?? [low, high];
      const width = clamp(last - first, MIN_SHARE * (high - low), high - low);
      first = clamp(first, low, high - width);
      this.window[axis] = width >= high - low ? [low, high] : [first, first + width];
    }
    this.draw();
  }

  listen() {
    let from = null;
    const at = (event) => {
      const box = this.root.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    this.root.addEventListener("pointerdown", (event) => { if (event.button === 0) from = at(event); });
    this.root.addEventListener("pointermove", (event) => {
      const here = at(event);
      if (from && Math.hypot(here[0] - from[0], here[1] - from[1]) > DRAG_PX) {
        this.root.setPointerCapture(event.pointerId);
        this.acts.point(this, null);
        this.drawBand(from, here);
      } else this.acts.point(this, ...here);
    });
    this.root.addEventListener("pointerup", (event) => {
      const [start, here] = [from, at(event)];
      from = null;
      this.over.querySelector(".band")?.remove();
      if (start && Math.abs(here[0] - start[0]) > DRAG_PX) this.zoomTo(this.between(start, here));
      else this.acts.point(this, ...here);
    });
    this.root.addEventListener("pointercancel", () => { from = null; this.acts.point(this, null); this.draw(); });
    this.root.addEventListener("pointerleave", () => { if (!from) this.acts.point(this, null); });
    this.root.addEventListener("blur", () => this.acts.point(this, null));
    this.root.addEventListener("dblclick", () => this.zoomTo(null));
    this.root.addEventListener("keydown", (event) => this.key(event));
  }

  drawBand(from, to) {
    this.over.querySelector(".band")?.remove();
    const flat = this.zooms === "x";
    const [y, height] = flat ? [this.top, this.bottom - this.top + this.strip] : [Math.min(from[1], to[1]), Math.abs(to[1] - from[1])];
    svg("rect", { class: "band", x: Math.min(from[0], to[0]), y, width: Math.abs(to[0] - from[0]), height }, this.over);
  }

  between(from, to) {
    const ends = (a, b) => [Math.min(a, b), Math.max(a, b)];
    const window = { x: ends(this.atX(from[0]), this.atX(to[0])), y: this.window.y };
    if (this.zooms === "xy" && Math.abs(to[1] - from[1]) > DRAG_PX) window.y = ends(this.atY(from[1]), this.atY(to[1]));
    return window;
  }

  // Zoomed by the reader: others that are tied to this plot hear of it.
  zoomTo(window) {
    this.zoom(window);
    this.acts.zoomed(this);
  }

  key(event) {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    if (moves[event.key]) this.acts.step(this, ...moves[event.key].map((way) => way * (event.shiftKey ? 10 : 1)));
    else if (event.key === "+" || event.key === "=") this.scale(0.5);
    else if (event.key === "-") this.scale(2);
    else if (event.key === "Escape" || event.key === "0") this.zoomTo(null);
    else return;
    event.preventDefault();
  }

  // Around the cursor where there is one.
  scale(factor) {
    const window = { y: this.window.y };
    for (const axis of this.zooms) {
      const [low, high] = this.window[axis];
      const middle = clamp(this.cursor?.[axis] ?? (low + high) / 2, low, high);
      window[axis] = [middle - factor * (middle - low), middle + factor * (high - middle)];
    }
    this.zoomTo(window);
  }
}
Plot.count = 0;
