// The painting page: images, tools, files of strokes, and the agreement with a model's maps.

import { at, call, events, make, post, say } from "/static/api.js";
import { Easel } from "/static/canvas.js";

const FORMAT = { format: "saywhy-strokes", version: 1 };
const KEPT = "saywhy-strokes"; // what was painted stays in this browser until it is cleared
const state = { items: [], current: -1, models: [], shown: 0 };

const tool = () => document.querySelector("input[name=tool]:checked").value;
const settings = () => ({ tool: tool(), erase: at("erase").checked, radius: Number(at("radius").value), blur: at("blur").checked });
const easel = new Easel(at("canvas"), settings, painted);
const item = () => state.items[state.current];

// --- images ---------------------------------------------------------------------------------------------------------

/** Add images: each has a name (its path in the folder), and how its pixels are had. */
function add(items) {
  const known = new Map(kept().map((one) => [one.file, one]));
  const fresh = items.filter(({ file }) => !state.items.some((other) => other.file === file));
  state.items.push(...fresh.map((one) => ({ ...one, strokes: [], undone: [], ...known.get(one.file) })));
  list();
  if (state.current < 0 && state.items.length) open(0);
}

/** The path of a file in the chosen folder; of a single file its name. */
const pathOf = (file) => file.webkitRelativePath.split("/").slice(1).join("/") || file.name;

async function examples() {
  const found = await call("/api/examples");
  add(found.map(({ name }, number) => ({ file: name, example: number })));
}

function list() {
  at("images").replaceChildren(
    ...state.items.map(({ file, strokes }, number) => make("option", { value: number, selected: number === state.current }, `${strokes.length ? "✓ " : ""}${file}`)),
  );
  const some = state.items.some(({ strokes }) => strokes.length);
  at("previous").disabled = state.current <= 0;
  at("next").disabled = state.current >= state.items.length - 1;
  at("save-strokes").disabled = !some;
  at("undo").disabled = at("clear").disabled = at("save-mask").disabled = !item()?.strokes.length;
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

/** After a change: the lists, and what this browser keeps. */
function painted() {
  const others = kept().filter((one) => !state.items.some(({ file }) => file === one.file));
  try {
    localStorage.setItem(KEPT, JSON.stringify({ ...FORMAT, images: [...others, ...state.items.filter(({ strokes }) => strokes.length).map(row)] }));
  } catch {
    // a full or forbidden store: the page still has everything
  }
  list();
  easel.draw();
}

function undo() {
  if (item()?.strokes.length) item().undone.push(item().strokes.pop());
  painted();
}

function redo() {
  if (item()?.undone.length) item().strokes.push(item().undone.pop());
  painted();
}

function clear() {
  item().undone = item().strokes.splice(0).reverse();
  painted();
}

function save(blob, name) {
  const link = make("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

function saveStrokes() {
  const text = JSON.stringify(record(state.items.filter(({ strokes }) => strokes.length)));
  save(new Blob([text], { type: "application/json" }), "hints.json");
}

async function saveMask() {
  const answer = await fetch("/api/mask", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(record([item()])) });
  if (!answer.ok) return say(new Error((await answer.json()).detail));
  save(await answer.blob(), `${item().file.replaceAll("/", "_").replace(/\.[^.]*$/, "")}.png`);
}

/** Take the strokes of a file: of images that are here at once, of others when they are added. */
async function openStrokes(file) {
  say(null);
  try {
    const found = JSON.parse(await file.text());
    if (found.format !== FORMAT.format || found.version !== FORMAT.version) throw new SyntaxError();
    const others = kept().filter((one) => !found.images.some((other) => other.file === one.file));
    localStorage.setItem(KEPT, JSON.stringify({ ...FORMAT, images: [...others, ...found.images] }));
    for (const one of found.images) {
      const here = state.items.find((other) => other.file === one.file);
      if (here && here.width === undefined) Object.assign(here, one);
      else if (here && here.width === one.width && here.height === one.height) Object.assign(here, { strokes: one.strokes, undone: [] });
      else if (here) throw new Error(`${one.file} has ${here.width} × ${here.height} pixels here, but was painted on ${one.width} × ${one.height}.`);
    }
    painted();
    const here = found.images.filter((one) => state.items.some((other) => other.file === one.file)).length;
    at("where").textContent = `Strokes of ${found.images.length} images read; ${here} of them are here.`;
  } catch (error) {
    say(error.message && !(error instanceof SyntaxError) ? error : new Error(`${file.name} is no file of strokes: save one here, or see saywhy.alignment.strokes.`));
  }
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
  if (event.target.matches("input[type=text], select") || event.altKey) return;
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
    add([...target.files].filter(({ type }) => type.startsWith("image/")).map((file) => ({ file: pathOf(file), blob: file })));
    target.value = "";
  });
}
at("strokes-file").addEventListener("change", ({ target }) => target.files[0] && openStrokes(target.files[0]).then(() => (target.value = "")));
at("images").addEventListener("change", ({ target }) => open(Number(target.value)));
for (const id of ["radius", "blur", "erase"]) at(id).addEventListener("input", () => easel.draw());
for (const one of document.querySelectorAll("input[name=tool]")) one.addEventListener("change", () => easel.draw());
const presses = {
  previous: () => open(state.current - 1), next: () => open(state.current + 1), undo, redo, clear, compare,
  "save-strokes": saveStrokes, "save-mask": saveMask,
};
for (const [id, press] of Object.entries(presses)) at(id).addEventListener("click", press);
Promise.all([showModels(), examples()]).catch(say);
