// The studio: an image, a request, its progress, and the result in the viewer. Every text is set as text, never as markup.

import { at, call, events, make, post, say } from "/static/api.js";
import { useCamera } from "/static/camera.js";
import { mount } from "/static/viewer.js";

const state = { image: null, models: [], running: null, results: [] };

// --- the image ------------------------------------------------------------------------------------------------------

async function give(file) {
  say(null);
  try {
    const headers = { "X-Filename": encodeURIComponent(file.name ?? "image"), "Content-Type": "application/octet-stream" };
    take(await call("/api/images", { method: "POST", headers, body: file }));
  } catch (error) {
    say(error);
  }
}

function take(image) {
  state.image = image;
  at("preview").src = `/api/images/${image.id}`;
  at("preview").alt = image.name;
  at("preview").hidden = false;
  at("file-text").textContent = `${image.name}, ${image.width} × ${image.height} pixels. Drop, paste or choose another.`;
  at("go").disabled = false;
}

function listenForImages() {
  at("file").addEventListener("change", (event) => event.target.files[0] && give(event.target.files[0]));
  document.addEventListener("paste", (event) => {
    const file = [...(event.clipboardData?.files ?? [])].find((one) => one.type.startsWith("image/"));
    if (file) give(file);
  });
  const form = at("ask");
  for (const name of ["dragenter", "dragover"]) {
    form.addEventListener(name, (event) => {
      event.preventDefault();
      form.classList.add("over");
    });
  }
  form.addEventListener("dragleave", () => form.classList.remove("over"));
  form.addEventListener("drop", (event) => {
    event.preventDefault();
    form.classList.remove("over");
    if (event.dataTransfer.files[0]) give(event.dataTransfer.files[0]);
  });
}

async function showExamples() {
  const examples = await call("/api/examples");
  const buttons = examples.map(({ name }, number) =>
    make("button", { type: "button", onclick: () => call(`/api/examples/${number}`, { method: "POST" }).then(take, say) }, name),
  );
  at("examples").replaceChildren(...buttons);
  at("examples").hidden = !buttons.length;
}

// --- the request ----------------------------------------------------------------------------------------------------

const VERBS = { explain: "Explain", ask: "Ask", caption: "Caption", count: "Count", questions: "Ask for questions about" };
const BUTTONS = { ...VERBS, questions: "Generate questions" };

const model = () => state.models.find(({ name }) => name === at("model").value);
const task = () => model().tasks[0];

function chooseModel() {
  for (const name of Object.keys(VERBS)) at(`for-${name}`).hidden = name !== task();
  at("go").textContent = BUTTONS[task()];
  at("layer").value = "";
  at("layers").replaceChildren(...model().layers.slice(0, 2000).map((layer) => make("option", { value: layer })));
  at("labels").replaceChildren(...model().labels.slice(0, 2000).map((label) => make("option", { value: label })));
  at("knows").hidden = !model().knows_only;
  at("knows").textContent = model().knows_only ? `A demo model: it knows only ${model().knows_only}.` : "";
  const others = state.models.filter(({ name, tasks }) => name !== model().name && tasks.includes(task()));
  at("beside").replaceChildren(make("option", { value: "" }, "no other model"), ...others.map(({ name }) => make("option", { value: name }, name)));
  at("for-beside").hidden = !others.length;
}

async function showModels() {
  [state.models, state.methods] = await Promise.all([call("/api/models"), call("/api/methods")]);
  at("model").replaceChildren(...state.models.map(({ name, tasks }) => make("option", { value: name }, `${name} (${tasks.join(", ")})`)));
  at("model").addEventListener("change", chooseModel);
  const answering = state.models.filter(({ tasks }) => tasks.includes("ask"));
  at("answer").replaceChildren(make("option", { value: "" }, "no model"), ...answering.map(({ name }) => make("option", { value: name }, name)));
  at("for-answer").hidden = !answering.length;
  const choices = state.methods.map(({ name, title, passes }) =>
    make(
      "label",
      { className: "check", title },
      make("input", { type: "checkbox", value: name }),
      passes === "one" ? name : `${name} (slow)`,
    ),
  );
  at("methods").replaceChildren(...choices);
  chooseModel();
}

function request() {
  const words = (id) => at(id).value.split(",").map((text) => text.trim()).filter(Boolean);
  const method = [...at("methods").querySelectorAll(":checked")].map((box) => box.value);
  const shared = { image: state.image.id, model: model().name, method, layer: at("layer").value.trim() };
  if (task() === "ask") return { ...shared, question: at("question").value };
  if (task() === "caption") return { ...shared, text: at("text").value };
  if (task() === "questions") return { ...shared, prompt: at("prompt").value.trim(), answer: at("answer").value };
  if (task() === "count") return { ...shared, of: words("of") };
  return { ...shared, target: words("target"), counterfactual: at("counterfactual").checked, check: at("check").checked };
}

function ask(event) {
  event.preventDefault();
  if (!state.image) return;
  const [verb, body] = [task(), request()];
  const others = at("beside").value ? [{ ...body, model: at("beside").value }] : [];
  const about = `${VERBS[verb]} ${state.image.name}`;
  send({ about: others.length ? `${about}: ${body.model} and ${others[0].model}` : about, verb, runs: [body, ...others].map((one) => ({ body: one })) });
}

/** Send the requests of an entry of the history, one after the other; they are shown side by side. */
async function send(entry) {
  if (state.running) return;
  say(null);
  state.running = "beginning";
  state.stopped = false;
  working(true);
  try {
    for (const run of entry.runs) {
      if (state.stopped) break;
      run.id = state.running = (await post(`/api/${entry.verb}`, run.body)).id;
      if (state.stopped) await stop();
      if (!(await follow(run.id, entry))) break;
    }
  } catch (error) {
    say(error);
  } finally {
    state.running = null;
    working(false);
  }
}

/** Follow the progress; the viewer shows each part when it is ready. Return whether the request was done. */
async function follow(id, entry) {
  let shown = 0;
  let last = {};
  for await (const now of events(`/api/results/${id}/events`)) {
    last = now;
    at("progress").textContent = { waiting: "Waiting for its turn …", running: `${now.doing || "Working"} …` }[now.state] ?? "";
    at("bar").value = now.steps ? now.step / now.steps : 0;
    if (now.parts > shown || now.state === "failed") {
      shown = now.parts;
      await show(entry);
    }
  }
  return last.state === "done";
}

function working(on) {
  at("stop").hidden = !on;
  at("bar").hidden = !on;
  at("go").disabled = on || !state.image;
  if (!on) at("progress").textContent = state.stopped ? "Stopped." : "Done.";
}

async function stop() {
  state.stopped = true;
  if (state.running !== "beginning") await call(`/api/results/${state.running}/stop`, { method: "POST" }).catch(say);
}

// --- the result -----------------------------------------------------------------------------------------------------

/** Show the results of an entry side by side, in the order of their models. */
async function show(entry) {
  const runs = entry.runs.filter(({ id }) => id);
  const found = await Promise.all(runs.map(({ id }) => call(`/api/results/${id}`)));
  for (const { problem } of found) if (problem) say(new Error(problem.detail));
  const notes = found.flatMap(({ notes: own }, n) => own.map((text) => (runs.length > 1 ? `${runs[n].body.model}: ${text}` : text)));
  at("notes").replaceChildren(...notes.map((text) => make("li", {}, text)));
  at("notes").hidden = !notes.length;
  const ready = runs.map((run, n) => ({ ...run, result: found[n].result })).filter(({ result }) => result);
  if (!ready.length) return;
  if (!state.results.includes(entry)) state.results.push(entry);
  showHistory(entry);
  const titles = ready.length > 1;
  const stages = ready.map(({ id, body }) => {
    const stage = make("div", { className: "saywhy" });
    return { stage, column: make("section", {}, ...(titles ? [make("h2", {}, body.model)] : []), files(id, body), stage) };
  });
  at("result").className = titles ? "columns" : "";
  at("result").replaceChildren(...stages.map(({ column }) => column));
  const own = titles ? (body) => ({ title: body.model, chapter: true }) : () => ({});
  await Promise.all(ready.map(({ body, result }, n) => mount(stages[n].stage, { ...tested(entry.verb, body, result), ...own(body) })));
}

/** Only maps of classes are tested; an answer's and a caption's need their words. */
function tested(verb, body, result) {
  if (verb !== "explain" || body.check) return result;
  const test = (map) =>
    send({ about: `Test ${map.target}, ${map.method}`, verb, runs: [{ body: { ...body, target: [map.target], method: [map.method], check: true } }] });
  return { ...result, test };
}

function files(id, body) {
  const links = ["html", "png", "npz"].map((suffix) =>
    make("a", { href: `/api/results/${id}/file?suffix=${suffix}`, download: "" }, `Save as ${suffix.toUpperCase()}`),
  );
  return make("div", { className: "buttons", role: "group", "aria-label": `Files of ${body.model}` }, ...links);
}

function showHistory(shown) {
  const buttons = state.results.map((entry) =>
    make(
      "button",
      { type: "button", ...(entry === shown ? { "aria-current": "true" } : {}), onclick: () => show(entry).catch(say) },
      entry.about,
    ),
  );
  const every = state.results.flatMap(({ runs }) => runs.map(({ id }) => id)).filter(Boolean);
  const query = every.map((id) => `result=${encodeURIComponent(id)}`).join("&");
  const all = make("a", { href: `/api/page?${query}`, download: "" }, "Save all as one page");
  const focused = [...at("history").children].indexOf(document.activeElement);
  at("history").replaceChildren(...buttons, all);
  at("history").children[focused]?.focus();
  at("history").hidden = state.results.length < 2;
}

/** Stop what this page asked for when it is closed: nobody waits for it. */
function leave() {
  if (state.running && state.running !== "beginning") navigator.sendBeacon(`/api/results/${state.running}/stop`);
}

listenForImages();
useCamera(give);
window.addEventListener("pagehide", leave);
at("ask").addEventListener("submit", ask);
at("stop").addEventListener("click", stop);
Promise.all([showModels(), showExamples()]).catch(say);
