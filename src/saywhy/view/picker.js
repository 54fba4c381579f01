// The choice of target, method and layer. Targets that are words of a sentence are buttons above the image.

import { percent, short } from "./maps.js";
import { groupName, make } from "./words.js";

/** The choice of target, method and layer for one side. */
export class Picker {
  constructor(viewer, side) {
    Object.assign(this, { viewer, side });
    this.legend = make("legend", {}, `${side}: what is explained`);
    this.targets = make("div", { className: "targets", role: "radiogroup", "aria-label": `${side}: target` });
    this.method = make("select", { onchange: () => this.pick({ method: this.method.value }) });
    this.layer = make("select", { onchange: () => this.pick({ layer: this.layer.value }) });
    const chooser = (text, select) => make("label", { className: "select" }, make("span", {}, text), select);
    const selects = make("div", { className: "selects" }, chooser("Method", this.method), chooser("Layer", this.layer));
    this.note = make("p", { className: "note" });
    this.node = make("fieldset", { className: `picker side-${side}` }, this.legend, this.targets, selects, this.note);
  }

  name(text) {
    this.legend.textContent = text;
  }

  get chosen() {
    return this.viewer.state.sides[this.side];
  }

  pick(change) {
    Object.assign(this.chosen, change);
    this.refill();
    this.viewer.draw();
    this.viewer.announce();
  }

  /** List the choices of this image, and keep the current choice where it exists. B starts with the second target. */
  refill() {
    const { maps, method_note: why } = this.viewer.source;
    this.note.textContent = why ?? "";
    this.note.hidden = !why;
    const methods = [...new Set(maps.map((map) => map.method))];
    this.chosen.method = fill(this.method, methods, this.chosen.method);
    const same = maps.filter((map) => map.method === this.chosen.method);
    this.chosen.layer = fill(this.layer, [...new Set(same.map((map) => map.layer))], this.chosen.layer);
    const targets = same.filter((map) => map.layer === this.chosen.layer);
    const wanted = this.chosen.target ?? (this.side === "B" ? 1 : 0);
    this.chosen.target = Math.max(0, Math.min(wanted, targets.length - 1));
    this.offer(targets);
  }

  offer(targets) {
    const { words } = this.viewer.figures[this.side];
    const had = [this.targets, words].some((node) => node.contains(document.activeElement));
    const name = groupName();
    const choices = targets.map((map, index) => {
      const input = make("input", {
        type: "radio",
        name,
        checked: index === this.chosen.target,
        onchange: () => this.pick({ target: index }),
      });
      if (map.word) return make("label", { className: "word-button" }, input, make("span", {}, map.target));
      const figure = map.probability === null ? short(map.score) : percent(map.probability);
      const bar = make("span", { className: "bar", "aria-hidden": "true" });
      bar.style.width = `${100 * Math.min(1, Math.max(0, map.probability ?? 0))}%`;
      const words = make("span", { className: "words" }, make("span", {}, map.target), make("b", {}, figure));
      return make("label", { className: "target" }, input, bar, words);
    });
    const wordButtons = choices.filter((_, index) => targets[index].word);
    words.replaceChildren(...wordButtons);
    words.hidden = !wordButtons.length;
    this.targets.replaceChildren(...choices.filter((_, index) => !targets[index].word));
    this.targets.hidden = !this.targets.childElementCount;
    if (had) [this.targets, words].map((node) => node.querySelector("input:checked")?.focus());
  }
}

/** List the choices, select the wanted one, or else the first, and return the selection. */
function fill(select, choices, wanted) {
  select.replaceChildren(...choices.map((choice) => make("option", { value: choice }, choice)));
  select.disabled = choices.length < 2;
  const chosen = choices.includes(wanted) ? wanted : (choices[0] ?? "");
  select.value = chosen;
  return chosen;
}
