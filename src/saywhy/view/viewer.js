// The viewer of maps, for reports and notebooks. `mount(root, payload)` shows one viewer;
// `mountChapters(root, payload)` shows one viewer for every chapter.
// Data of the payload reach the page as text or on a canvas, never as markup.

import { riskCurve } from "./curve.js";
import { Figure } from "./figure.js";
import { boxesOf, bytes, field, floats, levelOf, scaleOf, valueAt } from "./maps.js";
import { Picker } from "./picker.js";
import { withText } from "./png.js";
import { provenance } from "./provenance.js";
import { Sheet } from "./sheet.js";
import { snapshot } from "./snapshot.js";
import { describe, groupName, make } from "./words.js";

const SIGNS = { good: ["✓", "good"], warning: ["!", "warning"], bad: ["✕", "bad"] };
const MARKS = { passed: ["✓", "good"], failed: ["✕", "bad"] }; // of the checks of a verdict

/** Show the payload in `root`, whose content is replaced; resolves when the first image is drawn. */
export async function mount(root, payload) {
  const viewer = new Viewer(root, payload);
  await viewer.ready;
  return viewer;
}

/** Show heading, text and viewer of every chapter; resolves when every viewer has drawn its first image. */
export async function mountChapters(root, { title, lead, chapters, provenance: records, ...shared }) {
  const stages = chapters.map(() => make("div", { className: "saywhy" }));
  const sections = chapters.map(({ heading, text }, index) =>
    make("section", { className: "chapter" }, make("h2", {}, heading), make("p", {}, text), stages[index]),
  );
  const header = make("header", {}, make("h1", {}, title), make("p", { className: "lead" }, lead));
  root.replaceChildren(header, ...sections, provenance(records));
  return Promise.all(
    chapters.map(({ heading, images }, i) =>
      mount(stages[i], { ...shared, title: heading, images, provenance: { [heading]: records?.[heading] }, chapter: true }),
    ),
  );
}

class Viewer {
  constructor(root, payload) {
    this.payload = payload;
    this.tables = {
      sequential: bytes(payload.colours.sequential),
      diverging: bytes(payload.colours.diverging),
    };
    this.decoded = new Map();
    this.fields = new Map();
    this.state = {
      source: 0,
      sides: { A: {}, B: {} },
      compare: false,
      difference: false,
      shared: false,
      opacity: 0.75,
      threshold: 0,
      peak: true,
      box: false,
      grey: false,
      cross: null,
      sheet: payload.images.some((source) => source.side_by_side || source.certainty),
      ...payload.look,
    };
    this.figures = Object.fromEntries(["A", "B", "difference"].map((side) => [side, new Figure(this, side)]));
    this.pickers = { A: new Picker(this, "A"), B: new Picker(this, "B") };
    const panels = (className) => ({ A: make("section", { className }), B: make("section", { className }) });
    this.trust = panels("trust");
    this.diagnostics = panels("diagnostics");
    this.certainty = make("section", { className: "certainty" });
    this.sheet = new Sheet(this);
    this.objection = make("p", { className: "notice bad", role: "alert" });
    this.status = make("p", { className: "unseen-text", role: "status", "aria-live": "polite" });
    root.replaceChildren(...this.page());
    this.ready = this.chooseImage(0);
  }

  page() {
    const { payload } = this;
    const region = (name) => (payload.chapter ? `${name}: ${payload.title}` : name); // each on a page has its own name
    return [
      payload.chapter
        ? null
        : make("header", {}, make("h1", {}, payload.title), make("p", { className: "count" }, counted(payload))),
      demo(payload.provenance),
      this.thumbnails(),
      this.objection,
      this.toolbar(),
      this.sheet.node,
      make(
        "div",
        { className: "layout" },
        make("section", { className: "stage", "aria-label": region("Maps") }, ...Object.values(this.figures).map((f) => f.node)),
        make(
          "section",
          { className: "controls", "aria-label": region("Controls") },
          this.pickers.A.node,
          this.pickers.B.node,
          this.certainty,
          this.trust.A,
          this.trust.B,
          this.diagnostics.A,
          this.diagnostics.B,
          this.display(),
        ),
      ),
      payload.chapter ? null : provenance(payload.provenance),
      this.status,
    ].filter((part) => part !== null);
  }

  thumbnails() {
    const images = this.payload.images;
    const name = groupName();
    // An answer and its word ablation have one image and one name.
    const shared = (source) => images.some((other) => other !== source && other.name === source.name);
    const caption = (source) =>
      shared(source) && source.maps.every((map) => map.word) ? "word by word" : source.name;
    const choices = images.map((source, index) =>
      make(
        "label",
        { className: "thumbnail" },
        make("input", {
          type: "radio",
          name,
          checked: index === 0,
          onchange: () => this.chooseImage(index, true),
        }),
        make("img", { src: source.src, alt: "", loading: "lazy", decoding: "async" }),
        make("span", {}, caption(source)),
      ),
    );
    const legend = make("legend", {}, "Image");
    return make("fieldset", { className: "thumbnails", hidden: images.length < 2 }, legend, ...choices);
  }

  check(label, key, opened = null) {
    const changed = (event) => {
      this.set(key, event.target.checked);
      if (event.target.checked) opened?.().scrollIntoView({ block: "nearest" });
    };
    const input = make("input", { type: "checkbox", checked: this.state[key], onchange: changed });
    return make("label", { className: "check" }, input, make("span", {}, label));
  }

  /** What is shown beside the map, above it; what is switched on scrolls into view. */
  toolbar() {
    this.sheetCheck = this.check("All targets, side by side", "sheet", () => this.sheet.node);
    this.compareCheck = this.check("Compare two maps", "compare", () => this.figures.B.node);
    this.differenceCheck = this.check("Show the difference, B − A", "difference", () => this.figures.difference.node);
    const parts = [this.sheetCheck, this.compareCheck, this.differenceCheck];
    return make("div", { className: "toolbar", role: "group", "aria-label": this.payload.chapter ? `View: ${this.payload.title}` : "View" }, ...parts);
  }

  display() {
    return make(
      "fieldset",
      { className: "display" },
      make("legend", {}, "Display"),
      this.slider("Opacity of the heat", "opacity"),
      this.slider("Hide heat below", "threshold"),
      this.scaleChoice(),
      make(
        "div",
        { className: "checks" },
        this.check("Mark the peak", "peak"),
        this.check("Draw the box", "box"),
        this.check("Image in grey", "grey"),
      ),
      make("button", { type: "button", onclick: () => this.download() }, "Download as PNG"),
    );
  }

  slider(text, key) {
    const shown = make("output", {}, percent0(this.state[key]));
    const input = make("input", {
      type: "range",
      min: 0,
      max: 100,
      step: 1,
      value: 100 * this.state[key],
      oninput: (event) => {
        shown.textContent = percent0(event.target.value / 100);
        this.set(key, event.target.value / 100);
      },
    });
    input.setAttribute("aria-label", text);
    return make("label", { className: "slider" }, make("span", {}, text), shown, input);
  }

  scaleChoice() {
    const name = groupName();
    const choice = (text, shared) =>
      make(
        "label",
        { className: "check" },
        make("input", { type: "radio", name, checked: !shared, onchange: () => this.set("shared", shared) }),
        make("span", {}, text),
      );
    const legend = make("legend", {}, "Colour scale");
    const choices = make("div", { className: "checks" }, choice("this map", false), choice("shared by all targets", true));
    return make("fieldset", { className: "scale" }, legend, choices);
  }

  get source() {
    return this.payload.images[this.state.source];
  }

  get size() {
    return [this.source.width, this.source.height];
  }

  set(key, value) {
    this.state[key] = value;
    this.draw();
    if (typeof value === "boolean") this.announce();
  }

  async chooseImage(index, announce = false) {
    const source = this.payload.images[index];
    this.wanted = index;
    const image = await this.load(source);
    if (this.wanted !== index) return; // another image was chosen while this one was decoded
    for (const map of source.maps) map.raw ??= floats(map.values);
    Object.assign(this.state, { source: index, cross: null });
    this.image = image;
    for (const picker of Object.values(this.pickers)) picker.refill();
    this.objection.hidden = !source.objection;
    this.objection.textContent = source.objection ? `Do not use this map: ${source.objection}.` : "";
    this.drawCertainty();
    this.draw();
    if (announce) this.announce();
  }

  async load(source) {
    if (!this.decoded.has(source)) {
      const image = new Image();
      image.src = source.src;
      await image.decode();
      this.decoded.set(source, image);
    }
    return this.decoded.get(source);
  }

  /** The map that one side shows; its picker allows only choices that exist. */
  map(side) {
    const { method, layer, target } = this.state.sides[side];
    const same = this.source.maps.filter((map) => map.method === method && map.layer === layer);
    return same[target] ?? null;
  }

  scale(map) {
    const { method, layer } = map;
    const peers = this.source.maps.filter((other) => other.method === method && other.layer === layer);
    return scaleOf(this.state.shared ? peers : [map]);
  }

  /** Raw values of a map at the size of the heat's canvas; cached, because the sliders do not change them. */
  field(map, width, height) {
    const kept = this.fields.get(map);
    if (kept?.width === width && kept.height === height) return kept.values;
    const values = this.newField(map, width, height);
    if (this.fields.size > 12) this.fields.clear();
    this.fields.set(map, { width, height, values });
    return values;
  }

  newField(map, width, height) {
    return field(map, boxesOf(this.source), this.size, width, height);
  }

  /** The raw value at a point of one figure, or the difference of levels; null outside of the crop. */
  read(side, x, y) {
    const boxes = boxesOf(this.source);
    if (side !== "difference") return this.map(side) ? valueAt(this.map(side), boxes, x, y) : null;
    const levels = ["A", "B"].map((one) => {
      const map = this.map(one);
      const value = map ? valueAt(map, boxes, x, y) : null;
      return value === null ? null : levelOf(this.scale(map), value);
    });
    return levels.includes(null) ? null : levels[1] - levels[0];
  }

  draw() {
    const { compare, difference, sheet } = this.state;
    this.compareCheck.hidden = !compare && this.source.maps.length < 2;
    this.differenceCheck.hidden = !compare;
    this.sheetCheck.hidden = this.sheet.maps.length < 2;
    this.sheet.show(sheet);
    this.figures.A.show(true);
    this.figures.B.show(compare);
    this.figures.difference.show(compare && difference);
    this.pickers.B.node.hidden = !compare;
    this.pickers.A.name(compare ? "A: what is explained" : "What is explained");
    for (const side of ["A", "B"]) {
      this.drawTrust(side, side === "A" || compare);
      this.drawDiagnostics(side, side === "A" || compare);
    }
  }

  /** Answer "can this map be trusted?" by the verdict of a check; without one, say how to get it. */
  drawTrust(side, shown) {
    const map = this.map(side);
    const panel = this.trust[side];
    panel.hidden = !shown || !map;
    if (panel.hidden) return panel.replaceChildren();
    const title = make("h2", {}, this.state.compare ? `Can ${side} be trusted?` : "Can this map be trusted?");
    const { verdict } = map;
    if (!verdict) {
      const { test } = this.payload; // where there is a server, a button tests the map; else a command does
      const text = make("p", {}, make("strong", {}, "Not tested yet."), test ? "" : " Run:");
      const how = test
        ? make("button", { type: "button", onclick: () => test(map) }, "Test this map")
        : make("pre", { tabIndex: 0 }, map.check);
      return panel.replaceChildren(title, text, how);
    }
    const summary = `${verdict.summary[0].toUpperCase()}${verdict.summary.slice(1)}.`;
    const lines = verdict.checks.map(({ name, state, text }) => line(name, state, text, MARKS[state]));
    return panel.replaceChildren(
      title,
      make("p", { className: verdict.passed ? "good" : "bad" }, make("strong", { className: "word" }, summary)),
      make("ul", {}, ...lines),
    );
  }

  /** List the technical checks: a plain line each, with a sign only where something is wrong. */
  drawDiagnostics(side, shown) {
    const map = this.map(side);
    const panel = this.diagnostics[side];
    panel.hidden = !shown || !map?.diagnostics.length;
    if (panel.hidden) return panel.replaceChildren();
    const title = this.state.compare ? `Technical checks of ${side}` : "Technical checks";
    const lines = map.diagnostics.map(({ name, state, text }) =>
      state === "good" ? line(name, "", text) : line(name, SIGNS[state]?.[1] ?? state, text, SIGNS[state]),
    );
    return panel.replaceChildren(make("h2", {}, title), make("ul", {}, ...lines));
  }

  /** Draw the uncertainty report: for every kind a bar of the share of test questions that are less uncertain. */
  drawCertainty() {
    const report = this.source.certainty;
    this.certainty.hidden = !report;
    if (!report) return this.certainty.replaceChildren();
    const rows = report.components.map(({ name, value, unit, share, among }) => {
      const bar = share === null ? null : make("meter", { min: 0, max: 1, value: share });
      bar?.setAttribute("aria-label", `${name}: higher than in ${percent0(share)} of ${among}`);
      return make(
        "li",
        {},
        make("span", {}, name),
        make("span", { className: "count" }, `${value.toPrecision(2)} ${unit}`),
        bar,
        share === null ? null : make("span", { className: "count" }, `higher than in ${percent0(share)} of ${among}`),
      );
    });
    const [sign, className] = report.abstains === null ? ["?", ""] : SIGNS[report.abstains ? "bad" : "good"];
    const verdict = make(
      "li",
      { className },
      make("span", { className: "sign", "aria-hidden": "true" }, sign),
      make("span", {}, report.text),
    );
    const samples = report.num_samples > 1 ? `, ${report.num_samples} Monte Carlo samples` : "";
    return this.certainty.replaceChildren(
      make("h2", {}, "How uncertain is it?"),
      make("p", { className: "count" }, `${report.answer}, ${percent0(report.probability)}${samples}`),
      make("ul", { className: "bars" }, ...rows),
      make("ul", {}, verdict),
      ...(report.risk ? [riskCurve(report.risk), make("p", { className: "count" }, report.risk.text)] : []),
    );
  }

  announce() {
    const { compare, difference } = this.state;
    const shown = (compare ? ["A", "B"] : ["A"]).map((side) => describe(this.map(side))).join(", compared with ");
    this.status.textContent = `Showing ${shown}, on ${this.source.name}${compare && difference ? ", and their difference" : ""}.`;
  }

  moveCross(point, aloud) {
    this.state.cross = point;
    for (const figure of Object.values(this.figures)) figure.drawMarks();
    if (!aloud) return;
    const visible = Object.values(this.figures).filter((figure) => !figure.node.hidden);
    this.status.textContent = visible.map((figure) => figure.reading.textContent).join("; ") || "No reading";
  }

  async download() {
    const visible = Object.values(this.figures).filter((figure) => !figure.node.hidden);
    const canvas = snapshot(visible);
    const plain = await new Promise((done) => canvas.toBlob(done, "image/png"));
    const file = await withText(plain, "saywhy", JSON.stringify(this.payload.provenance ?? {}));
    const address = URL.createObjectURL(file);
    const name = `${this.source.name.replace(/\.\w+$/, "").replace(/[^\p{L}\p{N}._-]+/gu, "_") || "map"}-why.png`;
    make("a", { href: address, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10_000);
    this.status.textContent = `Saved as ${name}`;
    return file;
  }
}

/** An item of a list of checks: name, state and finding, with a sign if the state has one. */
function line(name, state, text, mark) {
  const sign = mark ? make("span", { className: "sign", "aria-hidden": "true" }, mark[0]) : null;
  const word = state ? make("span", { className: "word" }, ` ${state}`) : null;
  return make("li", { className: mark ? mark[1] : "plain" }, sign, make("span", {}, make("strong", {}, name), word, make("br"), text));
}

function percent0(share) {
  return `${Math.round(100 * share)} %`;
}

function counted({ images }) {
  const distinct = (key) => new Set(images.flatMap((source) => source.maps.map((map) => map[key]))).size;
  const counts = [[distinct("target"), "target"], [distinct("method"), "method"], [distinct("layer"), "layer"]];
  return counts.map(([count, noun]) => `${count} ${noun}${count === 1 ? "" : "s"}`).join(" · ");
}

/** The line that says what a demo model knows; null for other models. Provenance may hold that of several explanations. */
function demo(records) {
  const about = [records, ...Object.values(records ?? {}).flat()].find((one) => one?.knows_only);
  return about ? make("p", { className: "notice" }, `${about.model} is a demo model: it knows only ${about.knows_only}.`) : null;
}

const data = document.getElementById("saywhy-data");
if (data) {
  const records = document.getElementById("saywhy-provenance");
  const payload = { ...JSON.parse(data.textContent), provenance: JSON.parse(records?.textContent ?? "{}") };
  (payload.chapters ? mountChapters : mount)(document.getElementById("saywhy"), payload);
}
