// One canvas with its legend and the value under the pointer.

import { levelOf, placeAt, short } from "./maps.js";
import { blank, drawBar, drawBox, drawCross, drawPeak, hatch, hatchUnseen, heatImage, heatSize } from "./paint.js";
import { describe, details, make, note } from "./words.js";

const SMALLEST = 640; // canvas pixels of the longer side; smaller images are enlarged by a whole number

/** One canvas with its legend and the value under the pointer (the reading). */
export class Figure {
  constructor(viewer, side) {
    Object.assign(this, { viewer, side });
    const name = side === "difference" ? "Difference, B − A" : `Map ${side}`;
    this.canvas = make("canvas", {
      tabIndex: 0,
      role: "application",
      "aria-label": name,
      "aria-roledescription": "image with a map",
      onpointermove: (event) => viewer.moveCross(this.pointAt(event), false),
      onpointerdown: (event) => viewer.moveCross(this.pointAt(event), false),
      onpointerleave: () => document.activeElement !== this.canvas && viewer.moveCross(null, false),
      onkeydown: (event) => this.key(event),
    });
    this.words = make("div", { className: "sentence", role: "radiogroup", "aria-label": `${name}: word` });
    this.title = make("p", { className: "title" });
    this.details = make("p", { className: "note" });
    this.bar = make("canvas", { className: "colours", width: 256, height: 1, "aria-hidden": "true" });
    this.low = make("span");
    this.high = make("span");
    this.note = make("p", { className: "note" });
    this.unseen = make("p", { className: "note hatched" }, swatch(), "not seen by the network");
    this.reading = make("p", { className: "reading" });
    this.hint = make("p", { className: "hint" }, "Point at the image, or focus it and use the arrow keys, to read values.");
    this.node = make(
      "figure",
      {},
      this.words,
      make("div", { className: "frame" }, this.canvas),
      make(
        "figcaption",
        {},
        make("div", {}, this.title, this.details),
        make("div", { className: "legend" }, this.low, this.bar, this.high),
        this.note,
        this.unseen,
        this.reading,
        this.hint,
      ),
    );
  }

  show(visible) {
    this.node.hidden = !visible;
    if (visible) this.draw();
  }

  /** The values, the scale and the map that this figure shows; null without a map. */
  content(width, height) {
    const { viewer, side } = this;
    if (side !== "difference") {
      const map = viewer.map(side);
      if (!map) return null;
      return { values: viewer.field(map, width, height), scale: viewer.scale(map), map };
    }
    const parts = ["A", "B"].map((one) => viewer.figures[one].content(width, height));
    if (parts.includes(null)) return null;
    const [first, second] = parts;
    const level = (part, i) => levelOf(part.scale, part.values[i]);
    const values = first.values.map((_, i) => level(second, i) - level(first, i));
    let reach = 0;
    for (const value of values) if (Math.abs(value) > reach) reach = Math.abs(value);
    return { values, scale: { low: -reach, high: reach, signed: true }, map: null };
  }

  draw() {
    const { viewer } = this;
    const { image, source } = viewer;
    const factor = Math.max(1, Math.ceil(SMALLEST / Math.max(image.naturalWidth, image.naturalHeight)));
    this.base = blank(image.naturalWidth * factor, image.naturalHeight * factor);
    const context = this.base.getContext("2d");
    context.imageSmoothingEnabled = factor < 3; // a small image keeps sharp pixels
    if (viewer.state.grey) context.filter = "grayscale(1)";
    context.drawImage(image, 0, 0, this.base.width, this.base.height);
    context.filter = "none";
    context.imageSmoothingEnabled = true;
    const [width, height] = heatSize(this.base);
    const content = this.content(width, height);
    if (content) {
      const table = viewer.tables[content.scale.signed ? "diverging" : "sequential"];
      const heat = heatImage(content.values, width, height, content.scale, table, viewer.state);
      context.drawImage(heat, 0, 0, this.base.width, this.base.height);
      drawBar(this.bar, table);
    }
    this.hasMargin = unseen(source);
    if (this.hasMargin) hatchUnseen(context, this.scaled(source.crop_box));
    this.describe(content);
    this.drawMarks();
  }

  describe(content) {
    const { viewer, side } = this;
    const { compare } = viewer.state;
    const what = side === "difference" ? "B − A" : describe(content?.map);
    this.title.replaceChildren(
      ...(compare && side !== "difference" ? [make("span", { className: "badge" }, side), " "] : []),
      make("span", {}, side === "difference" ? "B − A" : (content?.map.target ?? what)),
    );
    this.details.textContent = content?.map ? details(content.map) : "each map on its own scale";
    this.details.append(` · ${viewer.source.name}`);
    this.canvas.setAttribute("aria-label", `${compare ? `${side}: ` : ""}${what}, on ${viewer.source.name}. Arrow keys read values.`);
    this.scaleShown = content?.scale ?? { low: 0, high: 0, signed: false };
    this.low.textContent = `low ${short(this.scaleShown.low)}`;
    this.high.textContent = `${short(this.scaleShown.high)} high`;
    this.note.textContent = note(content, side, viewer.state.named);
    this.note.hidden = !this.note.textContent;
    this.unseen.hidden = !this.hasMargin;
  }

  /** Convert pixels of the original image to pixels of this canvas. */
  scaled(numbers) {
    const [width, height] = this.viewer.size;
    return numbers.map((n, i) => (i % 2 ? (n * this.base.height) / height : (n * this.base.width) / width));
  }

  drawMarks() {
    if (this.node.hidden || !this.base) return;
    const { viewer, canvas } = this;
    const { state } = viewer;
    const map = this.side === "difference" ? null : viewer.map(this.side);
    if (canvas.width !== this.base.width || canvas.height !== this.base.height) {
      canvas.width = this.base.width;
      canvas.height = this.base.height;
    }
    const context = canvas.getContext("2d");
    const unit = Math.max(canvas.width, canvas.height) / 400;
    context.drawImage(this.base, 0, 0);
    if (state.box && map?.box) drawBox(context, this.scaled(map.box), unit);
    if (state.peak && map?.peak) drawPeak(context, this.scaled(map.peak), unit);
    if (state.cross) drawCross(context, this.scaled(state.cross.map((n) => n + 0.5)), unit);
    this.drawReading(map);
  }

  drawReading() {
    const { cross } = this.viewer.state;
    this.hint.hidden = Boolean(cross);
    this.reading.hidden = !cross;
    if (!cross) return this.reading.replaceChildren();
    const [x, y] = cross;
    const value = this.viewer.read(this.side, x + 0.5, y + 0.5);
    Object.assign(this.reading.dataset, { x, y, value: value === null ? "" : String(value) });
    const { source } = this.viewer;
    const outside = source.tiles?.length ? "outside of the input" : "not seen by the network";
    const text = value === null ? outside : short(value);
    return this.reading.replaceChildren(`${placeAt(source, x + 0.5, y + 0.5)}: `, make("b", {}, text));
  }

  pointAt(event) {
    const frame = this.canvas.getBoundingClientRect();
    const [width, height] = this.viewer.size;
    const x = Math.floor(((event.clientX - frame.left) / frame.width) * width);
    const y = Math.floor(((event.clientY - frame.top) / frame.height) * height);
    return inside([x, y], [width, height]);
  }

  /** Arrows move the cross by a fiftieth of the image, with Shift by one pixel; Home: to the peak; Escape: remove it. */
  key(event) {
    const { viewer } = this;
    const [width, height] = viewer.size;
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const peak = viewer.map(this.side === "difference" ? "A" : this.side)?.peak;
    let point = viewer.state.cross ?? [Math.floor(width / 2), Math.floor(height / 2)];
    if (event.key in moves) {
      const step = event.shiftKey ? 1 : Math.max(1, Math.round(Math.max(width, height) / 50));
      point = viewer.state.cross ? point.map((n, i) => n + step * moves[event.key][i]) : point;
    } else if (event.key === "Home" && peak) {
      point = peak.map(Math.floor);
    } else if (event.key === "Escape") {
      point = null;
    } else {
      return;
    }
    event.preventDefault();
    viewer.moveCross(point && inside(point, [width, height]), true);
  }
}

/** Return the nearest pixel inside the image. */
function inside(point, size) {
  return point.map((n, i) => Math.min(Math.max(n, 0), size[i] - 1));
}

/** Whether a part of the image was cropped away. */
function unseen({ crop_box: [left, top, right, bottom], width, height }) {
  return left > 0 || top > 0 || right < width || bottom < height;
}

/** A sample of the hatching, for the legend. */
function swatch() {
  const canvas = make("canvas", { className: "swatch", width: 36, height: 24, "aria-hidden": "true" });
  const context = canvas.getContext("2d");
  context.fillStyle = "#565c64";
  context.fillRect(0, 0, 36, 24);
  hatch(context, 36, 24, 10);
  return canvas;
}
