// All targets of one method and layer side by side, as small maps that are buttons.

import { short } from "./maps.js";
import { blank, drawPeak, heatImage, heatSize } from "./paint.js";
import { describe, groupName, make } from "./words.js";

const SIDE = 240; // canvas pixels of the longer side of a small image

/** A small map of every target; figure A shows the selected one. */
export class Sheet {
  constructor(viewer) {
    this.viewer = viewer;
    this.fields = new WeakMap();
    this.choices = make("div", { className: "small-maps", role: "radiogroup", "aria-label": "All targets, side by side" });
    this.note = make("p", { className: "note" });
    this.node = make("section", { className: "sheet", "aria-label": "All targets" }, this.choices, this.note);
  }

  /** The maps of the method and the layer of side A. */
  get maps() {
    const { method, layer } = this.viewer.state.sides.A;
    return this.viewer.source.maps.filter((map) => map.method === method && map.layer === layer);
  }

  show(visible) {
    this.node.hidden = !visible || this.maps.length < 2;
    if (!this.node.hidden) this.draw();
  }

  draw() {
    const { maps } = this;
    if (maps.length !== this.shown?.length || maps.some((map, i) => map !== this.shown[i])) this.offer(maps);
    maps.forEach((map, i) => {
      this.cells[i].input.checked = i === this.viewer.state.sides.A.target;
      this.paint(this.cells[i].canvas, map);
    });
    this.note.textContent = this.distance();
    this.note.hidden = !this.note.textContent;
  }

  offer(maps) {
    const name = groupName();
    this.shown = maps;
    this.cells = maps.map((map, target) => ({
      canvas: make("canvas", { "aria-hidden": "true" }),
      input: make("input", { type: "radio", name, onchange: () => this.viewer.pickers.A.pick({ target }) }),
    }));
    const cell = (map, { canvas, input }) => {
      input.setAttribute("aria-label", describe(map));
      const line = map.note ? make("small", {}, map.note) : null;
      return make("label", { className: "small-map" }, input, canvas, make("span", {}, map.target), line);
    };
    this.choices.replaceChildren(...maps.map((map, i) => cell(map, this.cells[i])));
  }

  paint(canvas, map) {
    const { viewer } = this;
    const { image, state } = viewer;
    const factor = SIDE / Math.max(image.naturalWidth, image.naturalHeight);
    canvas.width = Math.max(1, Math.round(image.naturalWidth * factor));
    canvas.height = Math.max(1, Math.round(image.naturalHeight * factor));
    const context = canvas.getContext("2d");
    context.imageSmoothingEnabled = factor < 3;
    if (state.grey) context.filter = "grayscale(1)";
    context.drawImage(image, 0, 0, canvas.width, canvas.height);
    context.filter = "none";
    const [width, height] = heatSize(canvas);
    const scale = viewer.scale(map);
    const table = viewer.tables[scale.signed ? "diverging" : "sequential"];
    context.drawImage(heatImage(this.field(map, width, height), width, height, scale, table, state), 0, 0);
    if (!state.peak || !map.peak) return;
    const [across, down] = [canvas.width / viewer.size[0], canvas.height / viewer.size[1]];
    drawPeak(context, [map.peak[0] * across, map.peak[1] * down], SIDE / 200);
  }

  field(map, width, height) {
    if (!this.fields.has(map)) this.fields.set(map, this.viewer.newField(map, width, height));
    return this.fields.get(map);
  }

  /** The distance between the maps, where it was measured. */
  distance() {
    const { method, layer } = this.viewer.state.sides.A;
    const found = this.viewer.source.distances.find((one) => one.method === method && one.layer === layer);
    if (!found || found.value === null) return "";
    return `Mean distance between these maps: ${short(Number(found.value.toFixed(2)))} (1 − rank correlation; 0: same order, 1: unrelated, 2: opposite).`;
  }
}
