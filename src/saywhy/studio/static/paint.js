// The painting page: images, tools, files of strokes, and the agreement with a model's maps.

import { at, call, events, make, post, say } from "/static/api.js";
import { Easel } from "/static/canvas.js";

const FORMAT = { format: "saywhy-strokes", version: 1 };
const KEPT = "saywhy-strokes"; // what was painted stays in this browser until it is cleared
const state = { items: [], current: -1, models: [], shown: 0 };

const tool = () => document.querySelector("input[name=tool]:checked").value;
const settings = () => ({ tool: tool(), erase: at("erase").checked, radius: Number(at("radius").value), blur: at("blur").checked });
const easel = new Easel(at("canvas"), settings, (stroke) => change([...item().strokes, stroke]), (text) => (at("brush").textContent = text));
const item = () => state.items[state.current];

// --- images ---------------------------------------------------------------------------------------------------------

/** Add images: each has a name (its path in the folder), a mark of its file, and how its pixels are had. */
function add(items) {
  const stored = kept();
  // Strokes of an opened file have no mark: they belong to every file of this name.
  const known = (one) => stored.find(({ file, mark }) => file === one.file && (!mark || mark === one.mark)) ?? {};
  const fresh = items.filter(({ file }) => !state.items.some((other) => other.file === file));
  state.items.push(...fresh.map((one) => ({ strokes: [], ...known(one), ...one, history: [], undone: [] })));
  list();
  if (state.current < 0 && state.items.length) open(0);
}

/** The path of a file in the chosen folder; of a single file its name. */
const pathOf = (file) => file.webkitRelativePath.split("/").slice(1).join("/") || file.name;

async function examples() {
  const found = await call("/api/examples");
  add(found.map(({ name }, number) => ({ file: name, mark: "example", example: number })));
}

function list() {
  at("images").replaceChildren(
    ...state.items.map(({ file, strokes }, number) => make("option", { value: number, selected: number === state.current }, `${strokes.length ? "✓ " : ""}${file}`)),
  );
  const some = state.items.some(({ strokes }) => strokes.length);
  at("previous").disabled = state.current <= 0;
  at("next").disabled = state.current >= state.items.length - 1;
  at("save-strokes").disabled = !some;
  at("undo").disabled = !item()?.history.length && !item()?.strokes.length;
  at("clear").disabled = at("save-mask").disabled = !item()?.strokes.length;
  at("forget").hidden = !some;
  at("redo").disabled = !item()?.undone.length;
  at("compare").disabled = !item()?.strokes.length;
}

/** Open an image: its pixels, and its size in the file. */
async function open(number) {
  const chosen = state.items[number];
  if (!chosen) return;
  const turn = ++state.shown;
  say(null);
  try {
    const [width, height] = [chosen.width, chosen.height];
    if (chosen.blob) {
      chosen.bitmap ??= await createImageBitmap(chosen.blob).catch(() => {
        throw new Error(`${chosen.file} is not an image that can be read.`);
      });
      Object.assign(chosen, { width: chosen.bitmap.width, height: chosen.bitmap.height });
    } else {
      await give(chosen);
      const answer = await fetch(`/api/images/${chosen.id}`);
      chosen.bitmap ??= await createImageBitmap(await answer.blob());
    }
    if (chosen.strokes.length && (width !== chosen.width || height !== chosen.height)) {
      chosen.strokes = [];
      say(new Error(`The strokes of ${chosen.file} are of another image, of ${width} × ${height} pixels. They are not shown.`));
    }
  } catch (error) {
    return say(error);
  }
  if (turn !== state.shown) return; // another image was chosen meanwhile
  for (const other of state.items) if (other !== chosen) delete other.bitmap;
  state.current = number;
  at("radius").max = Math.max(10, Math.round(Math.max(chosen.width, chosen.height) / 4));
  at("canvas").setAttribute("aria-label", `${chosen.file}, ${chosen.width} × ${chosen.height} pixels`);
  at("where").textContent = `${chosen.file}, ${number + 1} of ${state.items.length}`;
  at("agreement").hidden = true;
  easel.show(chosen, chosen.bitmap);
  list();
}

/** Give the image to the studio, unless it has it. */
async function give(chosen) {
  if (chosen.id && (await fetch(`/api/images/${chosen.id}`)).ok) return;
  const given = chosen.blob
    ? await call("/api/images", { method: "POST", headers: { "X-Filename": encodeURIComponent(chosen.file), "Content-Type": "application/octet-stream" }, body: chosen.blob })
    : await call(`/api/examples/${chosen.example}`, { method: "POST" });
  Object.assign(chosen, { id: given.id, width: given.file_width, height: given.file_height });
}

// --- strokes --------------------------------------------------------------------------------------------------------

function kept() {
  try {
    return JSON.parse(localStorage.getItem(KEPT))?.images ?? [];
  } catch {
    return [];
  }
}

const row = ({ file, width, height, strokes }) => ({ file, width, height, strokes });

const record = (items) => ({ ...FORMAT, images: items.map(row) });

const withStrokes = () => state.items.filter(({ strokes }) => strokes.length);

/** Keep strokes in this browser; say so if it does not. */
function keep(images) {
  try {
    localStorage.setItem(KEPT, JSON.stringify({ ...FORMAT, images }));
  } catch {
    say(new Error("this browser cannot keep more strokes: save them before you close the page."));
  }
}

/** After a change: the lists, and what this browser keeps. */
function painted() {
  const others = kept().filter((one) => !state.items.some(({ file }) => file === one.file));
  keep([...others, ...withStrokes().map((one) => ({ ...row(one), mark: one.mark }))]);
  list();
  easel.draw();
}

/** Change the strokes of the image; what they were can be had again. */
function change(strokes) {
  item().history.push(item().strokes);
  Object.assign(item(), { strokes, undone: [] });
  painted();
}

function undo() {
  const now = item();
  if (!now || !(now.history.length || now.strokes.length)) return;
  now.undone.push(now.strokes);
  now.strokes = now.history.pop() ?? now.strokes.slice(0, -1); // strokes of an earlier visit go one by one
  painted();
}

function redo() {
  const now = item();
  if (!now?.undone.length) return;
  now.history.push(now.strokes);
  now.strokes = now.undone.pop();
  painted();
}

function forget() {
  if (!confirm("Remove all strokes of all images from this browser?")) return;
  for (const one of state.items) Object.assign(one, { strokes: [], history: [], undone: [] });
  localStorage.removeItem(KEPT);
  list();
  easel.draw();
}

function save(blob, name) {
  const link = make("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

function saveStrokes() {
  const text = JSON.stringify(record(withStrokes()));
  save(new Blob([text], { type: "application/json" }), "hints.json");
}

async function saveMask() {
  const answer = await fetch("/api/mask", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(record([item()])) });
  if (!answer.ok) return say(new Error((await answer.json()).detail));
  save(await answer.blob(), `${item().file.replaceAll("/", "_").replace(/\.[^.]*$/, "")}.png`);
}

const isNumbers = (values, count) => Array.isArray(values) && values.length === count && values.every(Number.isFinite);

const isStroke = ({ points, radius, box, matters }) =>
  typeof matters === "boolean" &&
  (box ? isNumbers(box, 4) : radius > 0 && Array.isArray(points) && points.length > 0 && points.every((one) => isNumbers(one, 2)));

const isPainted = ({ file, width, height, strokes }) =>
  typeof file === "string" && width > 0 && height > 0 && Array.isArray(strokes) && strokes.every(isStroke);

/** Take the strokes of a file: of images that are here at once, of others when they are added. */
async function openStrokes(file) {
  say(null);
  let images;
  try {
    const found = JSON.parse(await file.text());
    if (found.format !== FORMAT.format || found.version !== FORMAT.version || !found.images.every(isPainted)) throw new Error();
    images = found.images;
  } catch {
    return say(new Error(`${file.name} is no file of strokes: save one here, or see saywhy.alignment.strokes.`));
  }
  const here = (one) => state.items.find((other) => other.file === one.file);
  const other = images.find((one) => here(one)?.width && (here(one).width !== one.width || here(one).height !== one.height));
  if (other) {
    const { width, height } = here(other);
    return say(new Error(`${other.file} has ${width} × ${height} pixels here, but was painted on ${other.width} × ${other.height}.`));
  }
  keep([...kept().filter((one) => !images.some(({ file: name }) => name === one.file)), ...images]);
  const known = images.filter(here);
  for (const one of known) Object.assign(here(one), { ...row(one), history: [], undone: [] });
  painted();
  at("where").textContent = `Strokes of ${images.length} images read; ${known.length} of them are here.`;
}

// --- agreement ------------------------------------------------------------------------------------------------------

const model = () => state.models.find(({ name }) => name === at("model").value);

function chooseModel() {
  const asks = model().tasks[0] === "ask";
  at("for-question").hidden = !asks;
  at("labels").replaceChildren(...model().labels.slice(0, 2000).map((label) => make("option", { value: label })));
  at("knows").hidden = !model().knows_only;
  at("knows").textContent = model().knows_only ? `A demo model: it knows only ${model().knows_only}.` : "";
}

async function showModels() {
  const found = await call("/api/models");
  state.models = found.filter(({ tasks }) => ["explain", "ask"].includes(tasks[0]));
  at("model").replaceChildren(...state.models.map(({ name }) => make("option", { value: name }, name)));
  at("model").addEventListener("change", chooseModel);
  if (state.models.length) chooseModel();
  else at("compare").closest("details").hidden = true;
}

async function compare() {
  const chosen = item();
  say(null);
  at("compare").disabled = true;
  try {
    await give(chosen);
    const target = at("target").value.split(",").map((text) => text.trim()).filter(Boolean);
    const verb = model().tasks[0];
    const body = { image: chosen.id, model: model().name, target, ...(verb === "ask" ? { question: at("question").value } : {}) };
    const { id } = await post(`/api/${verb}`, body);
    for await (const now of events(`/api/results/${id}/events`)) {
      at("progress").textContent = { waiting: "Waiting for its turn …", running: `${now.doing || "Working"} …` }[now.state] ?? "";
    }
    const { problem } = await call(`/api/results/${id}`);
    if (problem) throw new Error(problem.detail);
    const found = await post(`/api/results/${id}/agreement`, record([chosen]));
    const cell = (text) => make("td", {}, text);
    at("agreement").tBodies[0].replaceChildren(
      ...found.map((one) => make("tr", {}, cell(one.target), cell(one.method), cell(one.rank_correlation.toFixed(2).replace("-", "−")))),
    );
    at("agreement").hidden = false;
  } catch (error) {
    say(error);
  } finally {
    at("progress").textContent = "";
    at("compare").disabled = false;
  }
}

// --- the page -------------------------------------------------------------------------------------------------------

const SHORTCUTS = {
  b: () => (document.querySelector("input[value=brush]").checked = true),
  r: () => (document.querySelector("input[value=box]").checked = true),
  e: () => (at("erase").checked = !at("erase").checked),
  "[": () => resize(1 / 1.25),
  "]": () => resize(1.25),
  n: () => open(state.current + 1),
  p: () => open(state.current - 1),
};

function resize(factor) {
  const now = Number(at("radius").value);
  at("radius").value = factor > 1 ? Math.max(now + 1, Math.round(now * factor)) : Math.min(now - 1, Math.round(now * factor));
}

document.addEventListener("keydown", (event) => {
  // Single letters act only while the painting or its tools have the focus.
  if (event.altKey || event.target.matches("input[type=text], select") || !(event.target === document.body || event.target.closest(".paint"))) return;
  const key = event.key.toLowerCase();
  if (event.ctrlKey || event.metaKey) {
    if (key !== "z" && key !== "y") return;
    event.preventDefault();
    if (key === "y" || event.shiftKey) redo();
    else undo();
  } else if (SHORTCUTS[key]) {
    SHORTCUTS[key]();
    easel.draw();
  }
});
for (const id of ["files", "folder"]) {
  at(id).addEventListener("change", ({ target }) => {
    const images = [...target.files].filter(({ type }) => type.startsWith("image/"));
    add(images.map((file) => ({ file: pathOf(file), mark: `${file.size}-${file.lastModified}`, blob: file })));
    target.value = "";
  });
}
at("strokes-file").addEventListener("change", ({ target }) => target.files[0] && openStrokes(target.files[0]).then(() => (target.value = "")));
at("images").addEventListener("change", ({ target }) => open(Number(target.value)));
for (const id of ["radius", "blur", "erase"]) at(id).addEventListener("input", () => easel.draw());
for (const one of document.querySelectorAll("input[name=tool]")) one.addEventListener("change", () => easel.draw());
const presses = {
  previous: () => open(state.current - 1), next: () => open(state.current + 1), undo, redo, clear: () => change([]), compare, forget,
  "save-strokes": saveStrokes, "save-mask": saveMask,
};
for (const [id, press] of Object.entries(presses)) at(id).addEventListener("click", press);
Promise.all([showModels(), examples()]).catch(say);
