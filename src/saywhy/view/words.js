// Elements and texts that several modules of the viewer share.

import { percent, short } from "./maps.js";

let groups = 0;

/** Create an element with properties and children; strings become text, never markup. */
export function make(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (key in node && key !== "list") node[key] = value;
    else node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

/** A unique name for a group of radio buttons. */
export function groupName() {
  groups += 1;
  return `saywhy-${groups}`;
}

/** The note of a map, its score, probability, method and layer. */
export function details(map) {
  const score = map.score === null ? [] : [`${map.score_name} ${short(map.score)}`];
  const probability = map.probability === null ? [] : [`probability ${percent(map.probability)}`];
  const line = map.note ? [map.note] : [];
  return [...line, ...score, ...probability, `${map.method} at ${map.layer}`].join(" · ");
}

/** A map in one sentence. */
export function describe(map) {
  return map ? `${map.target}: ${details(map)}` : "no map";
}

/** The meaning of the colours of an unsigned and of a signed map; the same as in legend.py. */
const MEANINGS = {
  evidence: ["", "Red: evidence for. Blue: evidence against."],
  sensitivity: [
    "Bright: the score reacts strongly to a change here.",
    "Red: a higher value here raises the score. Blue: lowers it.",
  ],
  activity: [
    "Bright: strong activity here, independent of the target.",
    "Red: strong activity here. Blue: the opposite sign, independent of the target.",
  ],
};

/** The note on what the colours mean, or on what is unusual about a map. */
export function note(content, side, named = false) {
  if (!content) return "There is no map for this choice.";
  const { map, scale } = content;
  if (map && map.raw.some((value) => !Number.isFinite(value))) return "Some values of this map are not finite numbers.";
  if (scale.low === scale.high) return `The same value everywhere: ${short(scale.low)}. There is nothing to see.`;
  if (side === "difference") return "Red: more in B. Blue: more in A.";
  const shows = map?.shows ?? "evidence";
  if (shows === "evidence" && map && !map.raw.some((value) => value > 0)) {
    return "No evidence for this target: every value is zero or against it.";
  }
  const meaning = MEANINGS[shows][scale.signed ? 1 : 0];
  // With a colour map of the user's choice the ends of the colour bar are named, not their colours.
  return named ? meaning.replace(/Red:|Bright:/g, "High end:").replace("Blue:", "Low end:") : meaning;
}
