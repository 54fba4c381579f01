// The studio: an image, a request, its progress, and the result in the viewer. Every text is set as text, never as markup.

import { at, call, events, make, post, say } from "/static/api.js";
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

const VERBS = { explain: "Explain", ask: "Ask", caption: "Caption", count: "Count" };

const model = () => state.models.find(({ name }) => name === at("model").value);
const task = () => model().tasks[0];

function chooseModel() {
  for (const name of Object.keys(VERBS)) at(`for-${name}`).hidden = name !== task();
  at("go").textContent = VERBS[task()];
  at("labels").replaceChildren(...model().labels.slice(0, 2000).map((label) => make("option", { value: label })));
  at("knows").hidden = !model().knows_only;
  at("knows").textContent = model().knows_only ? `A demo model: it knows only ${model().knows_only}.` : "";
}

async function showModels() {
  [state.models, state.methods] = await Promise.all([call("/api/models"), call("/api/methods")]);
  at("model").replaceChildren(...state.models.map(({ name, tasks }) => make("option", { value: name }, `${name} (${tasks.join(", ")})`)));
  at("model").addEventListener("change", chooseModel);
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
  const shared = { image: state.image.id, model: model().name, method };
  if (task() === "ask") return { ...shared, question: at("question").value };
  if (task() === "caption") return { ...shared, text: at("text").value };
  if (task() === "count") return { ...shared, of: words("of") };
  return { ...shared, target: words("target"), counterfactual: at("counterfactual").checked, check: at("check").checked };
}

function ask(event) {
  event.preventDefault();
  if (state.image) send(task(), request(), `${VERBS[task()]} ${state.image.name}`);
}

async function send(verb, body, about) {
  if (state.running) return;
  say(null);
  try {
    const { id } = await post(`/api/${verb}`, body);
    state.running = id;
    working(true);
    await follow(id, verb, body, about);
  } catch (error) {
    say(error);
  } finally {
    state.running = null;
    working(false);
  }
}

/** Follow the progress; the viewer shows each part when it is ready. */
async function follow(id, verb, body, about) {
  let shown = 0;
  for await (const now of events(`/api/results/${id}/events`)) {
    at("progress").textContent = { waiting: "Waiting for its turn …", running: `${now.doing || "Working"} …` }[now.state] ?? "";
    at("bar").value = now.steps ? now.step / now.steps : 0;
    if (now.parts > shown || now.state === "failed") {
      shown = now.parts;
      await show({ id, verb, body, about });
    }
  }
}

function working(on) {
  at("stop").hidden = !on;
  at("bar").hidden = !on;
  at("go").disabled = on || !state.image;
  if (!on) at("progress").textContent = "";
}

async function stop() {
  if (state.running) await call(`/api/results/${state.running}`, { method: "DELETE" }).catch(say);
}

// --- the result -----------------------------------------------------------------------------------------------------

async function show(one) {
  const { id, verb, body } = one;
  const found = await call(`/api/results/${id}`);
  if (found.problem) say(new Error(found.problem.detail));
  at("notes").replaceChildren(...found.notes.map((text) => make("li", {}, text)));
  at("notes").hidden = !found.notes.length;
  if (!found.result) return;
  if (!state.results.some((other) => other.id === id)) state.results.push(one);
  const buttons = state.results.map((other) =>
    make(
      "button",
      { type: "button", ...(other.id === id ? { "aria-current": "true" } : {}), onclick: () => show(other).catch(say) },
      other.about,
    ),
  );
  at("history").replaceChildren(...buttons);
  at("history").hidden = state.results.length < 2;
  const links = ["html", "png", "npz"].map((suffix) =>
    make("a", { href: `/api/results/${id}/file?suffix=${suffix}`, download: "" }, `Save as ${suffix.toUpperCase()}`),
  );
  at("files").replaceChildren(...links);
  at("files").hidden = false;
  // Only maps of classes are tested; an answer's and a caption's need their words.
  const test = (map) =>
    send(verb, { ...body, target: [map.target], method: [map.method], check: true }, `Test ${map.target}, ${map.method}`);
  await mount(at("result"), verb === "explain" && !body.check ? { ...found.result, test } : found.result);
}

listenForImages();
at("ask").addEventListener("submit", ask);
at("stop").addEventListener("click", stop);
Promise.all([showModels(), showExamples()]).catch(say);
