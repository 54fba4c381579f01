// How the maps were made, as a table.

import { make } from "./words.js";

/** Names of entries that are no words. */
const NAMES = { weights_sha256: "weights, SHA-256", output_scale: "scale of the output", knows_only: "knows only" };

/** Explanations whose differing entries are listed; the file holds those of all. */
const LISTED = 20;

const nameOf = (key) => NAMES[key] ?? key.replaceAll("_", " ");
const isRecord = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

/** A value as text: lists in one line, true and false as yes and no. */
function asText(value) {
  if (value === null || value === undefined) return "none";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "number") return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(6)));
  if (Array.isArray(value)) return value.map(asText).join(", ");
  if (isRecord(value)) return Object.entries(value).map(([key, one]) => `${nameOf(key)} ${asText(one)}`).join(", ");
  return String(value);
}

/** The rows of a record; entries of an entry that are records themselves have a row each. */
function rowsOf(record) {
  return Object.entries(record).flatMap(([key, value]) => {
    if (!isRecord(value) || !Object.values(value).some(isRecord)) return [[nameOf(key), asText(value)]];
    return Object.entries(value).map(([name, one]) => [`${nameOf(key)}: ${name}`, asText(one)]);
  });
}

/** The rows of several explanations: what they share once, and what differs for each of the first ones. */
function rowsOfAll(records) {
  const same = (key) => records.every((one) => JSON.stringify(one[key]) === JSON.stringify(records[0][key]));
  const shared = Object.fromEntries(Object.entries(records[0] ?? {}).filter(([key]) => same(key)));
  const others = [...new Set(records.flatMap((one) => Object.keys(one)))].filter((key) => !(key in shared));
  const own = records.slice(0, LISTED).map((one, index) => {
    const entries = others.filter((key) => key in one && key !== "images").map((key) => [nameOf(key), asText(one[key])]);
    return [asText(one.images ?? index + 1), entries.map(([name, text]) => `${name}: ${text}`).join("; ")];
  });
  const more = records.length > LISTED ? [["and more", `${records.length - LISTED}; all of them are in this file`]] : [];
  return others.length ? [...rowsOf(shared), ...own, ...more] : rowsOf(shared);
}

/** The provenance of the maps, folded. */
export function provenance(records) {
  const several = Array.isArray(records?.explanations) ? records.explanations : null;
  const rows = several ? rowsOfAll(several) : rowsOf(records ?? {});
  const lines = rows.map(([name, text]) => make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, text)));
  return make(
    "details",
    { className: "provenance", hidden: !rows.length },
    make("summary", {}, "How these maps were made"),
    make("table", {}, make("tbody", {}, ...lines)),
  );
}
