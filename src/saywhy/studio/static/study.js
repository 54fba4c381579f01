// The page of raters: one item at a time, answers by button or key, stored as they come.

import { at, call, make, post, say } from "/static/api.js";

const link = location.pathname.split("/").at(-1);
const study = `/api/studies/${encodeURIComponent(link)}`;
const place = `${study}/raters`;
const KEPT = `saywhy-study-${link}`; // the rater's key stays in this browser, so that he or she can go on later

const ABOUT = {
  trust:
    "You will see what two image models, A and B, based their prediction on. Both predicted the same, right class. " +
    "Say which of them is more reasonable. There are no right or wrong answers.",
  discrimination:
    "You will see maps of what an image model based its prediction on, each for one of two classes. " +
    "Say for which of the two classes the map is.",
};
const POINTS = [
  [2, "A clearly more reasonable"], [1, "A slightly more reasonable"], [0, "Both equally reasonable"],
  [-1, "B slightly more reasonable"], [-2, "B clearly more reasonable"],
];
const state = { rater: null, shown: null, since: 0, busy: false };

function part(id) {
  for (const one of ["intro", "item", "end"]) at(one).hidden = one !== id;
}

async function start() {
  state.rater = localStorage.getItem(KEPT);
  const now = state.rater && (await following());
  if (now) return show(now);
  const { kind, all } = await call(study);
  at("about").textContent = `${ABOUT[kind]} There are ${all} of them.`;
  part("intro");
  at("begin").addEventListener("click", () => begin().catch(say));
}

/** What this rater sees next; nothing if the study does not know the rater (any more). */
function following() {
  return call(`${place}/${state.rater}`).catch((error) => {
    if (error.status === 404) return null;
    throw error;
  });
}

/** Take a place in the study. */
async function begin() {
  say(null);
  state.rater = (await post(place, {})).rater;
  localStorage.setItem(KEPT, state.rater);
  show(await following());
}

/** Show the next item, or the end. */
function show({ kind, done, all, next }) {
  state.shown = next;
  if (!next) {
    at("question").textContent = "Thank you";
    return part("end");
  }
  const trust = kind === "trust";
  at("question").textContent = trust ? "Which model is more reasonable?" : "For which class is this map?";
  at("bar").value = done / all;
  at("place").textContent = `${done + 1} of ${all}`;
  at("text").textContent = next.instruction || (trust ? `Both models predicted: ${next.predicted}.` : "");
  const figures = Array.from({ length: next.images }, (_, side) => {
    const name = trust ? `Model ${"AB"[side]}` : "The map";
    const image = make("img", { src: `${place}/${state.rater}/images/${next.item}/${side}`, alt: `${name}: what it based its prediction on` });
    return make("figure", {}, image, ...(trust ? [make("figcaption", {}, `Model ${"AB"[side]}`)] : []));
  });
  at("maps").replaceChildren(...figures);
  const loads = [...at("maps").querySelectorAll("img")].map((image) => image.decode());
  const answers = next.options.length ? next.options.map((text, index) => [index, text]) : POINTS;
  at("answers").replaceChildren(
    ...answers.map(([choice, text], number) =>
      make("button", { type: "button", onclick: () => answer(choice) }, make("kbd", {}, String(number + 1)), ` ${text}`),
    ),
  );
  part("item");
  at("question").focus();
  ready(loads, next).catch(say);
}

/** Allow answers, and begin to count the time, when the maps are there. */
async function ready(loads, item) {
  const buttons = [...at("answers").children];
  for (const one of buttons) one.disabled = true;
  await Promise.all(loads).catch(() => {
    throw new Error("a map could not be loaded. Reload the page.");
  });
  if (state.shown !== item) return;
  for (const one of buttons) one.disabled = false;
  state.since = performance.now();
}

async function answer(choice) {
  if (state.busy) return;
  state.busy = true;
  say(null);
  try {
    const milliseconds = Math.round(Math.min(86_400_000, performance.now() - state.since));
    show(await post(`${place}/${state.rater}/answers`, { item: state.shown.item, choice, milliseconds }));
  } catch (error) {
    say(error);
  } finally {
    state.busy = false;
  }
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || at("item").hidden) return;
  at("answers").children[Number(event.key) - 1]?.click();
});

start().catch(say);
